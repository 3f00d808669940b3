"""ptq: every fp32 network in int8, for OpenVINO and for ONNX Runtime."""

from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from fincompress import stage
from fincompress.dataset import read_split
from fincompress.params import NETWORKS, load_params
from fincompress.quantization import calibration_texts, to_onnx_int8, to_openvino_int8

PROCESSES = 2  # exporting and calibrating are Python on one core, most of the time


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    out: Path = Path("models/ptq"),
    seed: int | None = None,
) -> None:
    """Write OUT/<network>_ov_int8 and OUT/<network>_ort_int8 for every network in MODELS."""
    params = load_params("seed", "ptq", seed=seed)
    texts = calibration_texts(read_split(data, "train"), params.ptq.calibration_samples, params.seed)
    pool = ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))
    try:
        jobs = {}
        for network in NETWORKS:
            targets = {key: out / f"{network}_{key}_int8" for key in ("ov", "ort")}
            jobs[pool.submit(to_openvino_int8, models / network, targets["ov"], texts, params.ptq)] = targets["ov"]
            jobs[pool.submit(to_onnx_int8, models / network, targets["ort"], params.ptq)] = targets["ort"]
        for job in as_completed(jobs):
            job.result()
            print(f"ptq: {jobs[job]}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    stage.run(main)
