"""ptq, quantize: networks in int8 after training, for OpenVINO and for ONNX Runtime."""

from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from fincompress import stage
from fincompress.dataset import read_split
from fincompress.params import load_params
from fincompress.quantization import calibration_texts, to_onnx_int8, to_openvino_int8
from fincompress.variants import current_pipeline

PROCESSES = 2  # exporting and calibrating are Python on one core, most of the time


def main(
    section: Literal["ptq", "quantize"],
    data: Path = Path("data"),
    models: Path = Path("models"),
    seed: int | None = None,
) -> None:
    """Write MODELS/SECTION/<network>_ov_int8 and …_ort_int8 for the networks in MODELS that are quantised so."""
    loaded = load_params("seed", section, seed=seed)
    params = getattr(loaded, section)
    texts = calibration_texts(read_split(data, "train"), params.calibration_samples, loaded.seed)
    pool = ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))
    try:
        converters = {"ov": (to_openvino_int8, texts, params), "ort": (to_onnx_int8, params)}
        jobs = {}
        for network, keys in current_pipeline().quantized.items():
            for key in keys:
                source, target = models / network, models / section / f"{network}_{key}_int8"
                convert, *given = converters[key]
                jobs[pool.submit(convert, source, target, *given)] = target
        for job in as_completed(jobs):
            job.result()
            print(f"{section}: {jobs[job]}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    stage.run(main)
