"""One inference interface over every runtime; each is imported only when a model needs it."""

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from fincompress.architectures import architecture_of
from fincompress.errors import InputError
from fincompress.files import read_json

ACTIVATIONS, DYNAMIC = "activations", "dynamic int8"
"""What an ONNX file's metadata says where the ranges of activations are found at run time, over all that is fed."""

BUCKET = 8
"""OpenVINO is fed lengths that are multiples of this many word pieces, so that it prepares for few of them."""

_CHECKPOINT = ["model.safetensors", "config.json", "tokenizer.json"]
_NEEDED = {
    "torch": _CHECKPOINT,
    "torch_int8": _CHECKPOINT,
    "onnxruntime": ["model.onnx", "config.json", "tokenizer.json"],
    "openvino": ["openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json"],
    "bag_of_words": ["model.safetensors", "bag_of_words.json"],
}
_MADE_FOR = {
    "model.onnx": "onnxruntime",
    "openvino_model.xml": "openvino",
    "bag_of_words.json": "bag_of_words",
    "model.safetensors": "torch",
}
"""A file that a model folder has -> the runtime it is for; the first that is there counts."""


class Classifier(Protocol):
    """A text classifier loaded into a runtime. What it says of a text does not depend on the texts beside it."""

    labels: list[str]

    def encode(self, texts: list[str], pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Model inputs for `texts`, [batch, seq], padded to the longest text, or to `pad_to` word pieces."""
        ...

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Scores before the softmax, float32 [batch, labels]."""
        ...


def runtime_of(folder: Path) -> str:
    """The runtime that a model folder is for.

    Raises:
        InputError: it is no model folder.
    """
    for name, runtime in _MADE_FOR.items():
        if (folder / name).is_file():
            return runtime
    raise InputError(f"{folder}: no model there; `dvc repro` makes it, or `dvc pull` fetches it")


def open_classifier(folder: Path, runtime: str, threads: int) -> Classifier:
    """Load the model in `folder` into `runtime` on `threads` CPU threads.

    Args:
        runtime: torch, torch_int8, onnxruntime, openvino or bag_of_words.

    Raises:
        InputError: the folder lacks a file that the runtime needs.
    """
    missing = [name for name in _NEEDED[runtime] if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: no {', '.join(missing)}, which a model for {runtime} needs; `dvc repro` rebuilds it"
        )
    if runtime == "bag_of_words":
        from fincompress.bag_of_words import BagOfWords

        return BagOfWords.load(folder)
    return {
        "torch": TorchClassifier,
        "torch_int8": TorchInt8Classifier,
        "onnxruntime": OnnxClassifier,
        "openvino": OpenVinoClassifier,
    }[runtime](folder, threads)


def predict_logits(classifier: Classifier, texts: list[str], batch_size: int = 32) -> np.ndarray:
    """Logits of any number of texts, [texts, labels], in their order; batched by length to save padding."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    logits = np.empty((len(texts), len(classifier.labels)), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        logits[rows] = classifier.logits(classifier.encode([texts[row] for row in rows]))
    return logits


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits [rows, labels], as float64 of the same shape."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    return exponents / exponents.sum(axis=1, keepdims=True)


class _TransformerClassifier:
    """What transformer runtimes share: labels, the tokenizer, and how a dynamic model is fed.

    The tokenizer is used without transformers, so that serving a converted model imports neither it nor torch.
    """

    dynamic = False
    """Whether ranges of activations are found at run time, over all that is fed."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        config = read_json(folder / "config.json")
        id2label = config["id2label"]
        self.labels = [id2label[str(index)] for index in range(len(id2label))]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer_config = read_json(folder / "tokenizer_config.json")
        self.max_length = tokenizer_config["model_max_length"]
        self._padding = {"pad_id": config.get("pad_token_id") or 0, "pad_token": tokenizer_config["pad_token"]}
        self.input_names = list(architecture_of(config["model_type"]).inputs)

    def encode(self, texts: list[str], pad_to: int | None = None) -> dict[str, np.ndarray]:
        self.tokenizer.enable_truncation(min(self.max_length, pad_to or self.max_length))
        self.tokenizer.enable_padding(length=pad_to, **self._padding)
        encodings = self.tokenizer.encode_batch(texts)
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        return {
            name: np.array([getattr(encoding, columns[name]) for encoding in encodings], dtype=np.int64)
            for name in self.input_names
        }

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Scores before the softmax, float32 [batch, labels].

        A dynamic model is fed the texts of a batch one by one, without padding: in a batch the range of activations is
        that of all its texts, and another label comes out for one text in forty.
        """
        lengths = inputs["attention_mask"].sum(axis=1)
        if not self.dynamic or len(lengths) == 1:
            return self._forward(inputs)
        texts = ({name: array[row : row + 1, :n] for name, array in inputs.items()} for row, n in enumerate(lengths))
        return np.concatenate(list(self._forward_each(texts)))

    def _forward(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of inputs as they are."""
        raise NotImplementedError

    def _forward_each(self, texts: Iterable[dict[str, np.ndarray]]) -> Iterable[np.ndarray]:
        """Logits of several inputs, in their order."""
        return map(self._forward, texts)


class TorchClassifier(_TransformerClassifier):
    """A transformers checkpoint in fp32 PyTorch, eager, on the CPU."""

    def __init__(self, folder: Path, threads: int):
        import torch

        from fincompress.checkpoints import load_model

        super().__init__(folder)
        torch.set_num_threads(threads)
        self._torch = torch
        self.model = load_model(str(folder))

    def _forward(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(array) for name, array in inputs.items()}
            return self.model(**tensors).logits.numpy()


class TorchInt8Classifier(TorchClassifier):
    """A transformers checkpoint whose linear layers PyTorch quantises at load time, activations at run time.

    For comparison only: PyTorch has deprecated this path (`torch.ao.quantization.quantize_dynamic`), and its
    embeddings stay in fp32.
    """

    dynamic = True

    def __init__(self, folder: Path, threads: int):
        super().__init__(folder, threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the deprecation
            self.model = self._torch.ao.quantization.quantize_dynamic(
                self.model, {self._torch.nn.Linear}, dtype=self._torch.qint8
            )


class OnnxClassifier(_TransformerClassifier):
    """An ONNX model in ONNX Runtime on the CPU.

    All threads work on one text; of several texts fed one by one, each thread has its own. A single text is too small
    a matrix to keep several threads busy.
    """

    def __init__(self, folder: Path, threads: int):
        super().__init__(folder)
        file, self._threads = folder / "model.onnx", threads
        self.session = self._load(str(file), threads)
        self._content = np.memmap(file, mode="r")  # of this file, even when another takes its place
        self.input_names = [node.name for node in self.session.get_inputs()]
        self.dynamic = self.session.get_modelmeta().custom_metadata_map.get(ACTIVATIONS) == DYNAMIC

    @staticmethod
    def _load(model: str | bytes, threads: int):
        """A session of a file or its content."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @cached_property
    def _side_by_side(self) -> tuple:
        """A session of one thread, and the threads that share it; made when first needed, as it costs memory."""
        return self._load(self._content.tobytes(), 1), ThreadPoolExecutor(self._threads)

    def _forward(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.session.run(["logits"], inputs)[0]

    def _forward_each(self, texts: Iterable[dict[str, np.ndarray]]) -> Iterable[np.ndarray]:
        if self._threads == 1:
            return super()._forward_each(texts)
        session, threads = self._side_by_side
        return threads.map(lambda inputs: session.run(["logits"], inputs)[0], texts)


class OpenVinoClassifier(_TransformerClassifier):
    """An OpenVINO model on the CPU: one stream, tuned for latency, arithmetic in the precision it is stored in.

    The graph's length is dynamic, but OpenVINO prepares for every new one, which takes longer than an inference.
    Lengths are therefore padded up to buckets of `BUCKET` word pieces. The attention mask makes the padding harmless:
    ranges of activations are fixed in the model and do not depend on what else is in a batch.
    """

    def __init__(self, folder: Path, threads: int):
        from fincompress.offline import openvino

        super().__init__(folder)
        self._longest = min(self.max_length, read_json(folder / "config.json").get("max_position_embeddings", np.inf))
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # or a CPU with bf16 would round differently from the others
        }
        model = openvino.Core().compile_model(str(folder / "openvino_model.xml"), "CPU", options)
        self.input_names = [port.any_name for port in model.inputs]
        self._request = model.create_infer_request()

    def _forward(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self._request.infer(self._in_bucket(inputs), share_inputs=True)["logits"]

    def _in_bucket(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same texts, [batch, seq] padded to [batch, bucket]."""
        length = inputs["input_ids"].shape[1]
        extra = max(0, min(-(-length // BUCKET) * BUCKET, self._longest) - length)
        fill = {"input_ids": self._padding["pad_id"]}  # zeros in the mask and the token types
        return {
            name: np.pad(array, ((0, 0), (0, extra)), constant_values=fill.get(name, 0))
            for name, array in inputs.items()
        }
