"""ONNX Runtime on the CPU."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fincompress.core.errors import InputError
from fincompress.core.model_files import check_whole, reading
from fincompress.runtimes.base import ACTIVATIONS, DYNAMIC, TransformerClassifier

if TYPE_CHECKING:
    import onnxruntime


LEFT_OUT = "SkipLayerNormFusion"
"""An optimisation that ONNX Runtime does not make here: on CPUs, its result is slower than what it replaces."""


class OnnxClassifier(TransformerClassifier):
    """An ONNX model in ONNX Runtime on the CPU.

    All threads work on a single text. If several texts are fed one by one, each thread gets its own, because the
    matrices of one text are too small to keep several threads busy.
    """

    def __init__(self, folder: Path, threads: int):
        super().__init__(folder)
        file, self._threads = folder / "model.onnx", threads
        check_whole(file)
        with reading(file, by="ONNX Runtime"):
            self.session = self._load(str(file), threads)
        if threads > 1:
            self._content = np.memmap(file, mode="r")  # of this file, even if another replaces it
        self._takes = [node.name for node in self.session.get_inputs()]
        self._check_graph(file)
        self.dynamic = self.session.get_modelmeta().custom_metadata_map.get(ACTIVATIONS) == DYNAMIC

    def _check_graph(self, file: Path) -> None:
        """An error where the graph is no text classifier's of this folder."""
        outputs = {node.name: node.shape for node in self.session.get_outputs()}
        if "logits" not in outputs or (others := sorted(set(self._takes) - set(self.input_names))):
            reason = f"no output logits, but {', '.join(outputs)}" if "logits" not in outputs else f"takes {others[0]}"
            raise InputError(
                f"{file}: {reason}: not the graph of a text classifier; `fincompress export` makes one of a checkpoint"
            )
        self._check_outputs(outputs["logits"][-1], file)

    @staticmethod
    def _load(model: str | bytes, threads: int) -> "onnxruntime.InferenceSession":
        """A session for a file or its content."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("optimization.disable_specified_optimizers", LEFT_OUT)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @cached_property
    def _side_by_side(self) -> tuple:
        """A session with one thread, and the threads that share it; made on first use, because it costs memory."""
        return self._load(self._content.tobytes(), 1), ThreadPoolExecutor(self._threads)

    def _forward(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self._run(self.session, inputs)

    def _run(self, session: "onnxruntime.InferenceSession", inputs: dict[str, np.ndarray]) -> np.ndarray:
        return session.run(["logits"], {name: inputs[name] for name in self._takes})[0]

    def _forward_each(self, texts: Iterable[dict[str, np.ndarray]]) -> Iterable[np.ndarray]:
        if self._threads == 1:
            return super()._forward_each(texts)
        session, threads = self._side_by_side
        return threads.map(partial(self._run, session), texts)
