"""OpenVINO on the CPU."""

from pathlib import Path

import numpy as np

from fincompress.core.model_files import check_whole, reading
from fincompress.runtimes.base import TransformerClassifier

BUCKET = 8
"""OpenVINO is fed lengths that are multiples of this many word pieces, so that it prepares for few lengths."""


class OpenVinoClassifier(TransformerClassifier):
    """An OpenVINO model on the CPU: one stream, tuned for latency, computing in the precision it is stored in.

    The graph's length is dynamic, but OpenVINO prepares for every new length, which takes longer than an inference.
    Texts are therefore padded to multiples of `BUCKET` word pieces. The attention mask makes the padding harmless:
    ranges of activations are fixed in the model and do not depend on what else is in a batch.
    """

    def __init__(self, folder: Path, threads: int):
        from fincompress.runtimes.quiet import openvino

        super().__init__(folder)
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # otherwise a CPU with bf16 would round differently
        }
        files = [folder / "openvino_model.xml", folder / "openvino_model.bin"]
        for file in files:
            check_whole(file)
        with reading(*files, by="OpenVINO"):
            model = openvino.Core().compile_model(str(files[0]), "CPU", options)
        shape = model.outputs[0].get_partial_shape()
        self._check_outputs(shape[-1].get_length() if shape.rank.is_static and shape[-1].is_static else None, files[0])
        self.input_names = [port.any_name for port in model.inputs]
        self._request = model.create_infer_request()

    def _forward(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self._request.infer(self._in_bucket(inputs), share_inputs=True)["logits"]

    def _in_bucket(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same texts, [batch, seq] padded to [batch, bucket]."""
        length = inputs["input_ids"].shape[1]
        extra = max(0, min(-(-length // BUCKET) * BUCKET, self.max_length) - length)
        fill = {"input_ids": self._padding["pad_id"]}  # zeros in the mask and the token types
        return {
            name: np.pad(array, ((0, 0), (0, extra)), constant_values=fill.get(name, 0))
            for name, array in inputs.items()
        }
