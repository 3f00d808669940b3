"""What config.json and tokenizer_config.json say to whoever runs a model, read without transformers.

Folders from the hub leave much of it out, or say it in an older form. What transformers would take in its place is
taken here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fincompress.core.errors import InputError
from fincompress.core.model_files import read_object
from fincompress.networks.architectures import architecture_of

CHOICE: Literal["single_label_classification"] = "single_label_classification"
"""The `problem_type` of a classifier that chooses one of its labels, as transformers calls it."""
_UNLIMITED = 10**6  # transformers writes 1e30 where no length was set


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration in a model folder, of an architecture with an adapter.

    Raises:
        InputError: it cannot be read, or names no architecture that has an adapter.
    """
    file = folder / "config.json"
    config = read_object(file)
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"{file}: no model_type, such as bert; the folder of a transformers checkpoint has one")
    try:
        architecture_of(config["model_type"])
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return config


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """What is said beside the tokenizer: tokenizer_config.json over special_tokens_map.json; either may be absent.

    Raises:
        InputError: one of them cannot be read.
    """
    files = [folder / name for name in ("special_tokens_map.json", "tokenizer_config.json")]
    said: dict[str, Any] = {}
    for file in files:
        if file.is_file():
            said |= {key: value for key, value in read_object(file).items() if value is not None}
    return said


def output_names(config: Mapping[str, Any], where: str) -> list[str]:
    """The names of a classifier's outputs, in order; without any, as many `LABEL_0`, … as transformers would make.

    Args:
        where: the file or checkpoint to name in errors.

    Raises:
        InputError: they are not numbered from 0 on, or two are alike.
    """
    given = config.get("id2label")
    if not given:
        count = config.get("num_labels") or 2
        return [f"LABEL_{index}" for index in range(count)]
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: id2label: expected a number and a name of each output, found {given!r}")
    names = {str(key): str(name) for key, name in given.items()}
    if set(names) != {str(index) for index in range(len(names))}:
        raise InputError(f"{where}: id2label numbers its outputs {', '.join(names)}; expected 0 to {len(names) - 1}")
    if len({name.casefold() for name in names.values()}) < len(names):
        raise InputError(f"{where}: id2label gives two outputs the same name: {', '.join(names.values())}")
    return [names[str(index)] for index in range(len(names))]


def chosen_among(config: Mapping[str, Any], where: str) -> list[str]:
    """The labels of a model that chooses one of them: `output_names`, of which there must be two.

    Raises:
        InputError: it does something else, so that a softmax over its outputs would mean nothing.
    """
    names, kind = output_names(config, where), config.get("problem_type")
    if kind not in (None, CHOICE):
        raise InputError(
            f"{where}: problem_type {kind}: it does not choose one of its labels; as teacher.checkpoint it can be "
            "fine-tuned to do so"
        )
    if len(names) < 2:
        raise InputError(f"{where}: one output ({names[0]}), where a classifier has one a label, two at least")
    return names


def longest_text(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], where: str) -> int:
    """How many word pieces a text may have: what the tokenizer says, and no more than there are positions.

    Raises:
        InputError: neither says so.
    """
    limits = [positions] if (positions := longest_input(config)) else []
    given = tokenizer_config.get("model_max_length")
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < _UNLIMITED:
        limits.append(int(given))
    if not limits:
        raise InputError(
            f"{where}: neither max_position_embeddings in config.json nor model_max_length in tokenizer_config.json "
            "says how long a text may be; set one"
        )
    return min(limits)


def longest_input(config: Mapping[str, Any]) -> int | None:
    """How many word pieces the positions of a configuration allow; None if it does not say."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    return positions - architecture_of(config["model_type"]).reserved_positions


def padding_token(tokenizer_config: Mapping[str, Any]) -> str | None:
    """The name of the piece that pads, which older files hold in an object of its own; None if there is none."""
    given = tokenizer_config.get("pad_token")
    name = given.get("content") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else None
