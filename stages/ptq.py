"""ptq, quantize: convert a trained network to int8, for every runtime that quantises."""

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

from fincompress.core import stage
from fincompress.core.params import Key, load_params
from fincompress.core.runtimes import INT8_RUNTIMES, converted_name, load_object
from fincompress.core.sections import PtqParams
from fincompress.data.prepared import calibration_texts, read_split


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    own: Annotated[PtqParams, Key("{section}")]


def convert(reference: str | None, *arguments: Any) -> None:
    """Call the function that `module:name` names: its libraries are imported here, in a process of the pool."""
    load_object(reference)(*arguments)


def main(
    section: str,
    network: str,
    data: Path = Path("data"),
    models: Path = Path("models"),
    seed: int | None = None,
) -> None:
    """Write MODELS/SECTION/<NETWORK>_ov_int8 and …_ort_int8 from MODELS/NETWORK."""
    params = load_params(Needs, section, seed=seed)
    texts = calibration_texts(read_split(data, "train"), params.own.calibration_samples, params.seed)
    # one process each: exporting and calibrating is mostly Python on one core
    pool = ProcessPoolExecutor(len(INT8_RUNTIMES), mp_context=get_context("spawn"))
    try:
        jobs = {}
        for runtime in INT8_RUNTIMES:
            target = models / section / converted_name(network, runtime, "int8")
            jobs[pool.submit(convert, runtime.to_int8, models / network, target, params.own, texts)] = target
        for job in as_completed(jobs):
            job.result()
            print(f"{section}: {jobs[job]}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    stage.run(main)
