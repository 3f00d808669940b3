"""Export a model as a standalone folder: converted, with tokenizer and card, and checked against its source."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from fincompress.core.errors import InputError
from fincompress.core.files import atomic_folder, check_new, read_json
from fincompress.core.runtimes import RUNTIMES, load_object
from fincompress.data.sources import read_embedded
from fincompress.report.templating import template
from fincompress.runtimes.base import TransformerClassifier, predict_logits
from fincompress.runtimes.registry import open_classifier, runtime_of, weights_digest

FORMATS = {runtime.format: runtime for runtime in RUNTIMES.values() if runtime.format}
"""Name of a format -> the runtime it is for."""
TEXTS = 64  # of the embedded corpus, on which source and export are compared
_STANDARD = ("model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""What a checkpoint has to hold to be copied as it is."""
TOLERANCE = 1e-3  # of a logit, for float arithmetic in a different order


@dataclass(frozen=True)
class Export:
    """What was written, and how close it is to its source."""

    folder: Path
    texts: int
    difference: float  # the largest, of a logit


def export(source: Path, kind: str, out: Path) -> Export:
    """Write the model in `source` to `out` in a format (`torch`, `onnx`, `openvino`), reload it and compare logits.

    A checkpoint can be converted to any of them, in fp32; a converted model is only copied.

    Raises:
        InputError: `out` exists, `source` cannot be converted to that format, or the result answers differently.
    """
    check_new(out)
    made_for, runtime = runtime_of(source), FORMATS[kind].name
    if made_for not in (runtime, "torch"):
        raise InputError(
            f"{source}: a model for {made_for} cannot become {kind}; export the checkpoint it was made from"
        )
    with atomic_folder(out) as folder:
        original = open_classifier(source, made_for, threads=1)
        _convert(source, folder, made_for, kind)
        written = cast(TransformerClassifier, open_classifier(folder, runtime, threads=1))
        texts = read_embedded()["text"].head(TEXTS).tolist()
        difference = float(np.abs(predict_logits(written, texts) - predict_logits(original, texts)).max())
        if not difference <= TOLERANCE:
            raise InputError(f"{source} as {kind} gives other logits, by up to {difference:.2g}; nothing was written")
        card = template("serving", "export.md").render(
            name=source.resolve().name,
            kind=kind,
            runtime=runtime,
            labels=written.labels,
            max_length=written.max_length,
            texts=len(texts),
            difference=difference,
            record=_record(source, made_for),
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
    return Export(out, len(texts), difference)


def _convert(source: Path, folder: Path, made_for: str, kind: str) -> None:
    runtime = FORMATS[kind]
    if made_for != runtime.name:
        load_object(runtime.to_fp32)(source, folder)
    elif made_for == "torch" and not all((source / name).is_file() for name in _STANDARD):
        load_object("fincompress.runtimes.convert:to_checkpoint")(source, folder)
    else:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", ".cache"))


def _record(source: Path, runtime: str) -> dict | None:
    """What the run in the working directory measured for this very model, told by the bytes of its weights."""
    about = Path("metrics/about/models.json")
    weights = read_json(about).get("weights", {}) if about.is_file() else {}
    own = weights_digest(source, runtime)
    for name, digest in weights.items():
        record = Path("metrics/variants") / f"{name}.json"
        if digest == own and record.is_file():
            return read_json(record)
    return None
