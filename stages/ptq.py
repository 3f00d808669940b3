"""ptq: every fp32 network in int8, for OpenVINO and for ONNX Runtime."""

from pathlib import Path

from fincompress import stage
from fincompress.dataset import read_split
from fincompress.params import NETWORKS, load_params
from fincompress.quantization import calibration_texts, to_onnx_int8, to_openvino_int8


def main(data: Path = Path("data"), models: Path = Path("models"), out: Path = Path("models/ptq")) -> None:
    """Write OUT/<network>_ov_int8 and OUT/<network>_ort_int8 for every network in MODELS."""
    params = load_params("seed", "ptq")
    texts = calibration_texts(read_split(data, "train"), params.ptq.calibration_samples, params.seed)
    for network in NETWORKS:
        to_openvino_int8(models / network, out / f"{network}_ov_int8", texts, params.ptq)
        to_onnx_int8(models / network, out / f"{network}_ort_int8", params.ptq)
        print(f"ptq: {network} in int8 for OpenVINO and ONNX Runtime", flush=True)


if __name__ == "__main__":
    stage.run(main)
