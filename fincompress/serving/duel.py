"""A reference model against variants, text by text: what the demo asks, apart from how it looks."""

from dataclasses import dataclass
from pathlib import Path

from fincompress.core.errors import InputError
from fincompress.serving.classifier import Prediction, TextClassifier, load_classifier

LONGEST = 10_000
"""Characters of a text, at most: several times what a model reads, and little enough to tokenise in no time."""
KEPT = 20
"""Answers that a history holds."""

History = list[list[str]]
"""A row for each text that was asked, the last one first: the text, then each model's answer."""


@dataclass(frozen=True)
class Opinion:
    """One model's answer, and how long it took."""

    name: str
    prediction: Prediction
    latency_ms: float

    @property
    def text(self) -> str:
        """The answer in a few words."""
        return f"{self.name}: {self.prediction.label} {self.prediction.confidence:.2f}"


class Duel:
    """A reference and the variants to compare with it; each is loaded on first use."""

    def __init__(self, folders: dict[str, Path], reference: str | None, threads: int | None = None):
        self.reference = reference
        self.variants = [name for name in folders if name != reference]
        self._folders, self._threads = folders, threads
        self._loaded: dict[str, TextClassifier] = {}

    def classifier(self, name: str) -> TextClassifier:
        """A model by its name.

        Raises:
            InputError: its folder holds no model.
        """
        if name not in self._loaded:
            self._loaded[name] = load_classifier(self._folders[name], threads=self._threads)
        return self._loaded[name]

    def ask(self, name: str, text: str) -> Opinion:
        """One model's answer for a text.

        Raises:
            InputError: its folder holds no model.
        """
        classifier = self.classifier(name)
        prediction = classifier(text)  # doubles as the untimed first run
        return Opinion(name, prediction, classifier.latency_ms([text]))

    def judge(self, text: str, variant: str) -> tuple[list[Opinion], str]:
        """The answers of reference and variant (none for an empty or overlong text), and the banner in Markdown."""
        if not text or not text.strip():
            return [], "Type a sentence, or take one of the examples."
        if len(text) > LONGEST:
            return [], f"**Too long**: this text has {len(text):,} characters, and the demo takes {LONGEST:,} at most."
        names = [name for name in (self.reference, variant) if name is not None]
        try:
            opinions = [self.ask(name, text.strip()) for name in names]
        except InputError as error:
            return [], f"**That did not work**: {error}"
        cut = self.classifier(variant).is_cut(text.strip())
        note = " Only the beginning of this text is read: the rest is longer than the model takes." if cut else ""
        return opinions, _banner(opinions) + note


def _banner(opinions: list[Opinion]) -> str:
    if len(opinions) == 1:
        return f"**{opinions[0].prediction.label}**, in {opinions[0].latency_ms:.1f} ms."
    first, second = opinions
    speed = f"{second.name} takes {second.latency_ms:.1f} ms, {first.name} {first.latency_ms:.1f}."
    labels = [f"**{opinion.prediction.label}**" for opinion in opinions]
    if labels[0] == labels[1]:
        return f"Both say {labels[0]}. {speed}"
    return f"**They disagree**: {first.name} says {labels[0]}, {second.name} {labels[1]}. {speed}"


def remembered(history: History, opinions: list[Opinion]) -> History:
    """The history with one text more, `KEPT` at most; one that was asked before, with the same answers, moves up."""
    if not opinions:
        return history
    row = [opinions[0].prediction.text, *(opinion.text for opinion in opinions)]
    return [row, *(other for other in history if other != row)][:KEPT]
