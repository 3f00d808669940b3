"""A fine-tuned classifier to int8 in one step: a standalone folder whose card says what int8 changed in its answers.

It needs no project. The conversion is that of the `ptq` stage (`compress.ptq`); source and result then answer the same
texts, the user's where there are any.
"""

import random
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from importlib import metadata
from pathlib import Path
from typing import cast

import numpy as np
from tqdm import tqdm

from fincompress.benchmark.significance import bootstrap_intervals, verdict
from fincompress.core.errors import InputError
from fincompress.core.files import atomic_folder, check_new
from fincompress.core.model_files import weight_files
from fincompress.core.runtimes import INT8_RUNTIMES, RUNTIMES, Runtime, load_object
from fincompress.core.sections import PtqParams
from fincompress.core.threads import usable_cores
from fincompress.data.further import read_labelled, read_unlabelled
from fincompress.data.sources import read_embedded
from fincompress.report.tables import change
from fincompress.report.templating import template
from fincompress.runtimes.base import TransformerClassifier, predict_logits, probabilities
from fincompress.runtimes.registry import open_classifier, runtime_of

FORMATS = {cast(str, runtime.format): runtime for runtime in INT8_RUNTIMES}
"""Name of a format -> the runtime it is for."""
CALIBRATED = 150  # texts, at most, that set ranges of activations
COMPARED = 500  # texts, at most, on which source and result are compared where there is no labelled file
EMBEDDED = "FinCompress's own (English, mostly financial), which may be unlike your texts"
RESAMPLES, SEED = 10_000, 0
ROUNDING = 1e-9  # of a difference of scores: a loss of exactly what is allowed is allowed
VERDICTS = {
    "better": "better: the interval is above 0",
    "no worse": "no worse: the interval excludes a loss of more than {}",
    "slightly worse": "slightly worse: the interval is below 0, but excludes a loss of more than {}",
    "worse": "worse: the interval is below 0, and reaches beyond a loss of {}",
    "undecided": "undecided: the rows are too few to exclude a loss of more than {}",
}
"""A verdict of `benchmark.significance` -> what it means; the braces stand for the margin."""
_UPWARDS = Context(prec=2, rounding=ROUND_CEILING)  # a bound must hold after it was rounded, too
_PART = 512  # texts between two steps of the progress bar


@dataclass(frozen=True)
class Request:
    """What to make int8, and what to compare it on."""

    source: Path
    kind: str  # a key of `FORMATS`
    calibrate: Path | None = None  # a file of texts
    check: Path | None = None  # a file of labelled texts
    max_f1_drop: float = 0.01
    text_column: str = "text"
    label_column: str = "label"
    keep_classifier_float: bool = False
    embedding_group: int = 3  # numbers of a word embedding that share a byte, in ONNX Runtime; 0 has a byte each

    @property
    def params(self) -> PtqParams:
        """The same as the `ptq` stage takes it."""
        return PtqParams(
            calibration_samples=CALIBRATED,
            keep_classifier_float=self.keep_classifier_float,
            embedding_group=self.embedding_group or None,
        )

    @property
    def runtime(self) -> Runtime:
        """The runtime that the result is for."""
        return FORMATS[self.kind]


@dataclass(frozen=True)
class Texts:
    """What sets the ranges of activations, and what both models are asked; each with where it is from, in words."""

    calibration: list[str]
    calibrated_on: str
    compared: list[str]
    compared_on: str
    labels: list[str] | None = None  # of the compared texts


@dataclass(frozen=True)
class Check:
    """Macro F1 on labelled texts."""

    before: float
    after: float
    change: dict[str, float]  # `value`, `low`, `high`: a paired 95 % bootstrap interval
    margin: float  # macro F1 that may be lost

    @property
    def points(self) -> str:
        """The change in points, with its interval."""
        return change(self.change)

    @property
    def verdict(self) -> str:
        """What the interval allows to say, in words."""
        return VERDICTS[verdict(self.change, self.margin)].format(f"{self.margin:g}")


@dataclass(frozen=True)
class Quantized:
    """How the int8 model compares with its source."""

    source_mb: float
    size_mb: float
    texts: Texts
    same: int  # texts to which both give the same label
    largest_change: float  # of a probability
    check: Check | None

    def summary(self, source: Path) -> str:
        """What a person is told, in lines."""
        lines = [f"size: {self.size_mb:.1f} MB in int8; {source} has {self.source_mb:.1f}"]
        if self.texts.calibration:
            lines.append(f"ranges of activations: calibrated on {self.texts.calibrated_on}")
        lines.append(f"agreement: {self.agreement}; {self.texts.compared_on}")
        if self.check is not None:
            scores = f"{self.check.before:.3f} before, {self.check.after:.3f} after"
            lines.append(f"macro F1: {scores}; {self.check.points} points on {len(self.texts.compared)} labelled rows")
            lines.append(self.check.verdict)
        return "\n".join(lines)

    @property
    def agreement(self) -> str:
        """The share of equal labels and the largest change of a probability, in words."""
        total = len(self.texts.compared)
        share = 100 * self.same / total if self.same == total else min(99.9, 100 * self.same / total)
        return (
            f"{self.same} of {total} texts ({share:.1f} %) get the same label, and no probability changes by more than "
            f"{float(_UPWARDS.create_decimal_from_float(self.largest_change)):.2g}"
        )


class TooMuchLost(InputError):
    """The labelled texts show a larger loss of macro F1 than was allowed; nothing was written."""

    def __init__(self, request: Request, out: Path, result: Quantized):
        self.result = result
        calibrated = request.runtime.calibrated
        mends = {
            "--keep-classifier-float": not request.keep_classifier_float,
            "a smaller --embedding-group": not calibrated and request.embedding_group > 0,
            "--calibrate with texts like those of the check": calibrated and request.calibrate is None,
        }
        untried = ", ".join([*(mend for mend, helps in mends.items() if helps), "another --format"])
        super().__init__(
            f"{out}: not written, as int8 loses more macro F1 than --max-f1-drop {request.max_f1_drop:g}; what "
            f"may help: {untried}"
        )


def quantize(request: Request, out: Path) -> Quantized:
    """Write the int8 model to the new folder `out`, with its tokenizer and a card, and compare it with its source.

    Raises:
        InputError: `out` exists, the source is no fine-tuned checkpoint, or a file of texts cannot be used; before
            anything is converted.
        TooMuchLost: macro F1 on the labelled texts falls by more than `max_f1_drop`.
    """
    check_new(out)
    original = _open_source(request.source)
    texts = choose_texts(request, original.labels)
    runtime = request.runtime
    with atomic_folder(out) as folder:
        load_object(runtime.to_int8)(request.source, folder, request.params, texts.calibration)
        written = _open(folder, runtime)
        before, after = (
            _answers(model, texts.compared, title) for model, title in ((original, "source"), (written, "int8"))
        )
        result = Quantized(
            source_mb=_megabytes(request.source, RUNTIMES["torch"]),
            size_mb=_megabytes(folder, runtime),
            texts=texts,
            same=int((before.argmax(axis=1) == after.argmax(axis=1)).sum()),
            largest_change=float(np.abs(after - before).max()),
            check=_checked(before, after, texts.labels, original.labels, request.max_f1_drop),
        )
        if result.check is not None and -result.check.change["value"] > request.max_f1_drop + ROUNDING:
            raise TooMuchLost(request, out, result)
        (folder / "README.md").write_text(_card(request, result, written), encoding="utf-8")
    return result


def _open(folder: Path, runtime: Runtime) -> TransformerClassifier:
    return cast(TransformerClassifier, open_classifier(folder, runtime.name, usable_cores()))


def _open_source(source: Path) -> TransformerClassifier:
    """The checkpoint to convert, loaded.

    Raises:
        InputError: it is converted already, of an unsupported architecture, or no classifier.
    """
    runtime = RUNTIMES[runtime_of(source)]
    if runtime.name != "torch":
        raise InputError(
            f"{source}: a model for {runtime.title} already; name the folder of the checkpoint that it was made from "
            "(with model.safetensors)"
        )
    from fincompress.networks.checkpoints import has_head_for, load_config

    config = load_config(str(source))
    if not has_head_for(str(source), list(cast(dict[int, str], config.id2label).values())):
        found = ", ".join(config.architectures or ["no architecture"])
        raise InputError(f"{source}: not a fine-tuned classifier: its config.json names {found}; fine-tune it first")
    return _open(source, runtime)


def _option(name: str) -> str:
    """What the user set where `readers.read_files` takes a parameter of this name."""
    return {"text_column": "--text-column", "label_column": "--label-column", "labels": "the model"}.get(
        name, "--check"
    )


def choose_texts(request: Request, labels: list[str]) -> Texts:
    """The texts of the user's files, or those of the embedded corpus where there are none.

    Texts that set ranges of activations are not compared on, unless there are no others.

    Args:
        labels: the model's, in id order.

    Raises:
        InputError: a file cannot be used, or names a label that the model lacks.
    """
    rows = None
    if request.check is not None:
        path = str(request.check)
        rows = read_labelled(path, labels, _option, request.text_column, request.label_column)
    if request.calibrate is not None:
        given = read_unlabelled(request.calibrate, "--calibrate", request.text_column)
        origin = other = f"texts of {request.calibrate.name}"
    else:
        given = read_embedded()["text"].tolist()
        origin, other = f"sentences of {EMBEDDED}", "sentences of the same"
    given = random.Random(SEED).sample(given, len(given))
    calibration = given[:CALIBRATED] if request.runtime.calibrated else []
    calibrated_on = f"{len(calibration)} {origin}"
    if rows is not None:
        compared_on = f"texts of {cast(Path, request.check).name}"
        return Texts(calibration, calibrated_on, rows["text"].tolist(), compared_on, rows["label"].tolist())
    rest = given[len(calibration) :]
    if not calibration:
        compared_on = origin
    elif rest:
        compared_on = f"{other} that did not set the ranges"
    else:
        compared_on = "the very texts that set the ranges, so others may differ more"
    return Texts(calibration, calibrated_on, (rest or given)[:COMPARED], compared_on)


def _answers(classifier: TransformerClassifier, texts: list[str], title: str) -> np.ndarray:
    """Probabilities [texts, labels]."""
    parts = []
    with tqdm(desc=title, total=len(texts), unit=" texts", disable=None) as progress:
        for start in range(0, len(texts), _PART):
            part = texts[start : start + _PART]
            parts.append(probabilities(predict_logits(classifier, part)))
            progress.update(len(part))
    return np.concatenate(parts)


def _checked(
    before: np.ndarray, after: np.ndarray, actual: list[str] | None, labels: list[str], margin: float
) -> Check | None:
    """Macro F1 of both answers, probabilities [texts, labels], against the texts' label names, if they have any."""
    if actual is None:
        return None
    from fincompress.networks.scores import macro_f1

    truth = np.array(actual)
    reference, predictions = (np.array(labels)[answers.argmax(axis=1)] for answers in (before, after))
    difference = bootstrap_intervals(truth, predictions, reference, RESAMPLES, SEED)["macro_f1_change"]
    return Check(macro_f1(truth, reference), macro_f1(truth, predictions), difference, margin)


def _megabytes(folder: Path, runtime: Runtime) -> float:
    """The size of what the runtime needs of a model folder."""
    files = {folder / name for name in runtime.files if (folder / name).is_file()}
    if runtime.instead:  # as a checkpoint's weights may come, such as in parts
        files.update(weight_files(folder))
    return sum(file.stat().st_size for file in files) / 1e6


def _card(request: Request, result: Quantized, written: TransformerClassifier) -> str:
    runtime = request.runtime
    return template("serving", "quantize.md").render(
        name=request.source.resolve().name,
        runtime=runtime.name,
        title=runtime.title,
        versions={name: metadata.version(name) for name in ("fincompress", cast(str, runtime.package))},
        labels=written.labels,
        max_length=written.max_length,
        params=request.params,
        margin=request.max_f1_drop,
        result=result,
    )
