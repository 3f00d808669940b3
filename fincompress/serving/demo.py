"""The side-by-side demo in the browser: a reference model against any variant, on the reader's own sentence.

It needs gradio (`pip install 'fincompress[demo]'`) and only those parts of the library that serving needs, so that a
copy of it runs alone (see `space`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio

from fincompress.core.errors import InputError
from fincompress.core.examples import EXAMPLES
from fincompress.serving.classifier import Prediction, TextClassifier, load_classifier

EXPLANATION = """
Both models read the same sentence. The bars are their probabilities, the time is the median of five runs on this
machine, one sentence at a time, tokenisation included.

- **Distillation** trains a smaller network on what the larger one says, not only on the true labels.
- **Pruning** takes attention heads out of a network, together with their weights.
- **Int8** stores weights as whole numbers of eight bits: a quarter of the size, and faster arithmetic.

A score can stand still while single answers change: where the two disagree, the banner says so.
"""


@dataclass(frozen=True)
class Opinion:
    """One model's answer, and how long it took."""

    name: str
    prediction: Prediction
    latency_ms: float


class Duel:
    """A reference and the variants to compare with it; each is loaded on first use."""

    def __init__(self, folders: dict[str, Path], reference: str | None, threads: int | None = None):
        self.reference = reference
        self.variants = [name for name in folders if name != reference]
        self._folders, self._threads = folders, threads
        self._loaded: dict[str, TextClassifier] = {}

    def ask(self, name: str, text: str) -> Opinion:
        """One model's answer for a text.

        Raises:
            InputError: its folder holds no model.
        """
        if name not in self._loaded:
            self._loaded[name] = load_classifier(self._folders[name], threads=self._threads)
        classifier = self._loaded[name]
        prediction = classifier(text)  # doubles as the untimed first run
        return Opinion(name, prediction, classifier.latency_ms([text]))

    def judge(self, text: str, variant: str) -> tuple[list[Opinion], str]:
        """The answers of reference and variant (none for an empty text), and the banner in Markdown."""
        if not text or not text.strip():
            return [], "Type a sentence, or take one of the examples."
        names = [name for name in (self.reference, variant) if name is not None]
        try:
            opinions = [self.ask(name, text.strip()) for name in names]
        except InputError as error:
            return [], f"**That did not work**: {error}"
        cut = self._loaded[variant].is_cut(text.strip())
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


def build(duel: Duel, chosen: str, table: Sequence[list[str]] = (), figures: Sequence[Path] = ()) -> gradio.Blocks:
    """The page.

    Args:
        chosen: the variant that is shown first.
        table: the benchmark's results, titles first; if empty, there is no tab for it.
    """
    with gradio.Blocks(title="FinCompress", analytics_enabled=False) as page:
        gradio.Markdown("# FinCompress\nWhat does compression change? Ask both models the same.")
        with gradio.Tab("Side by side"):
            text = gradio.Textbox(label="Sentence", lines=3, placeholder=next(iter(EXAMPLES)), elem_id="sentence")
            with gradio.Row():
                variant = gradio.Dropdown(duel.variants, value=chosen, label="Variant", elem_id="variant")
                button = gradio.Button("Classify", variant="primary", elem_id="classify")
            banner = gradio.Markdown(elem_id="banner")
            with gradio.Row():
                bars = [gradio.Label(label=name, elem_id=f"bars-{place}") for place, name in _places(duel, chosen)]
            gradio.Examples(list(EXAMPLES), text)
        if table:
            with gradio.Tab("Benchmark"):
                gradio.Dataframe(table[1:], headers=table[0], interactive=False, max_height=800)
                pictures = [(str(figure), figure.stem.replace("_", " ")) for figure in figures]
                gradio.Gallery(pictures, columns=2, height="auto", object_fit="contain", show_label=False)
        with gradio.Tab("How it works"):
            gradio.Markdown(EXPLANATION)
        show = _shown(duel)
        for event in (button.click, text.submit, variant.change):
            event(show, [text, variant], [banner, *bars], api_name=False)  # type: ignore[arg-type]  # False hides it, says gradio
    return page


def _places(duel: Duel, chosen: str) -> list[tuple[str, str]]:
    return [("reference", duel.reference), ("variant", chosen)] if duel.reference else [("variant", chosen)]


def _shown(duel: Duel) -> Callable[[str, str], list]:
    """The function behind the page: (text, variant) -> the banner and each model's bars."""

    def show(text: str, variant: str) -> list:
        opinions, banner = duel.judge(text, variant)
        if not opinions:
            return [banner, *(gradio.Label(value=None, label=name) for _, name in _places(duel, variant))]
        return [
            banner,
            *(
                gradio.Label(value=own.prediction.probabilities, label=f"{own.name} · {own.latency_ms:.1f} ms")
                for own in opinions
            ),
        ]

    return show
