"""Do a checkpoint's weights fit the model that its configuration describes? transformers makes up what is missing."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from fincompress.core.errors import InputError
from fincompress.core.model_files import reading, safetensors_header, weight_files
from fincompress.networks.architectures import architecture_of

_SHOWN = 3
_PRETRAINING = (
    "cls",
    "lm_head",
    "predictions",
    "vocab_",
    "discriminator_predictions",
    "generator_",
    "lm_predictions",
    "mask_predictions",
)
"""How the names of the heads begin with which encoders are pretrained; a classifier's checkpoint may still have one."""
_BUFFERS = ("position_ids", "token_type_ids")
"""Constants that older releases of transformers saved along with the weights."""


def check_weights(checkpoint: str, model: PreTrainedModel, info: dict[str, Any], headless: bool) -> None:
    """An error where weights are missing, are left over or have another size.

    The encoder has to be there in full. Heads of pretraining may be left over, and so may a pooling layer, since some
    classifiers do without.

    Args:
        info: what `from_pretrained` returns for `output_loading_info`.
        headless: the head may be missing, or be that of another task: the caller wants the encoder.

    Raises:
        InputError: names what is missing, left over or of another size.
    """
    missing = {name for name in info["missing_keys"] if not (headless and _is_of_head(name, model))}
    left_over = {name for name in info["unexpected_keys"] if not _may_be_left_over(name, model, headless)}
    if missing and (prefix := _prefix(info["unexpected_keys"], missing, model)):
        raise InputError(
            f"checkpoint `{checkpoint}`: the names of its weights begin with `{prefix}`, so that none is found; save "
            "the model that is wrapped (`model._orig_mod` or `model.module`) with save_pretrained"
        )
    if missing:
        whole = "" if headless or not _is_head_alone(missing, model) else "it has no classification head: "
        raise InputError(f"checkpoint `{checkpoint}`: {whole}its weights lack {_some(missing)}{_mend(model, whole)}")
    if left_over:
        raise InputError(
            f"checkpoint `{checkpoint}`: its weights hold {_some(left_over)}, which a {model.config.model_type} of "
            "this config.json has no place for; fetch both again, or correct config.json"
        )
    if sizes := sorted(info["mismatched_keys"], key=str):
        name, theirs, ours = sizes[0]
        pruned = "pruned " if getattr(model.config, "pruned_structure", None) else ""
        raise InputError(
            f"checkpoint `{checkpoint}`: its weights do not fit its {pruned}configuration: {name} is "
            f"{_shape(theirs)} where config.json says {_shape(ours)}; fetch both again, or correct config.json"
        )


def _mend(model: PreTrainedModel, headless: str) -> str:
    if headless:
        return "; fine-tune it first (teacher.checkpoint)"
    return f", which a {model.config.model_type} of this config.json has; fetch it again"


def weight_names(folder: Path) -> set[str]:
    """The names of a checkpoint's weights, of which only the headers are read.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    return set(weight_shapes(folder))


def weight_shapes(folder: Path) -> dict[str, tuple[list[int], str]]:
    """Name -> (shape, type) of every weight of a checkpoint; the type as safetensors spells it, or torch.

    Raises:
        InputError: as `weight_names`.
    """
    shapes: dict[str, tuple[list[int], str]] = {}
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            header = safetensors_header(file)
            shapes |= {name: (entry["shape"], entry["dtype"]) for name, entry in header.items()}
            continue
        with reading(file, by="torch"):
            tensors = torch.load(file, map_location="meta", weights_only=True)
            shapes |= {name: (list(tensor.shape), str(tensor.dtype)) for name, tensor in tensors.items()}
    return shapes


def _is_of_head(name: str, model: PreTrainedModel) -> bool:
    """Whether a weight lies between the encoder and the logits."""
    heads = architecture_of(model.config.model_type).classifier
    return not name.startswith(f"{model.base_model_prefix}.") or any(name.startswith(f"{head}.") for head in heads)


def _is_head_alone(names: Collection[str], model: PreTrainedModel) -> bool:
    return all(_is_of_head(name, model) for name in names)


def _may_be_left_over(name: str, model: PreTrainedModel, headless: bool) -> bool:
    inner = name.removeprefix(f"{model.base_model_prefix}.")
    if inner.startswith("pooler.") or inner.rpartition(".")[2] in _BUFFERS or inner.startswith(_PRETRAINING):
        return True
    return headless and not name.startswith(f"{model.base_model_prefix}.")


def _prefix(unexpected: Collection[str], missing: Collection[str], model: PreTrainedModel) -> str | None:
    """What stands before the names of weights that are otherwise those which are missing."""
    for name in sorted(missing):
        inner = name.removeprefix(f"{model.base_model_prefix}.")
        for other in sorted(unexpected):
            for end in (name, inner):
                if other.endswith(f".{end}"):
                    return other.removesuffix(end)
    return None


def _some(names: Collection[str]) -> str:
    """The first few of some names, and how many there are."""
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, … ({len(names)} in all)"


def _shape(size: Collection[int]) -> str:
    return "×".join(map(str, size)) or "a single number"
