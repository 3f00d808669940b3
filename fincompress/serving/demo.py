"""The side-by-side demo in the browser: a reference model against any variant, on the reader's own sentence.

It needs gradio (`pip install 'fincompress[demo]'`) and only those parts of the library that serving needs, so that a
copy of it runs alone (see `space`).
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import gradio

from fincompress.core.errors import InputError
from fincompress.core.examples import EXAMPLES
from fincompress.serving.batch import ROWS, preview, score_batch
from fincompress.serving.duel import KEPT, Duel, History, remembered

UPLOAD = "20mb"
"""The largest file that the page takes, as gradio says it: a bound for `launch`, well above what `ROWS` texts need."""
SHOWN = 200
"""Characters of a text that tables show."""
_KEPT_SECONDS = 3600  # that a scored file can be downloaded

EXPLANATION = """
Both models read the same sentence. The bars are their probabilities, the time is the median of five runs on this
machine, one sentence at a time, tokenisation included.

- **Distillation** trains a smaller network on what the larger one says, not only on the true labels.
- **Pruning** takes attention heads out of a network, together with their weights.
- **Int8** stores weights as whole numbers of eight bits: a quarter of the size, and faster arithmetic.

A score can stand still while single answers change: where the two disagree, the banner says so.
"""


def build(
    duel: Duel,
    chosen: str,
    table: Sequence[list[str]] = (),
    figures: Sequence[Path] = (),
    differences: Mapping[str, list[str]] | None = None,
) -> gradio.Blocks:
    """The page.

    Args:
        chosen: the variant that is shown first.
        table: the benchmark's results, titles first; if empty, there is no tab for it.
        differences: variant -> texts to which it says something else than the reference, as further examples.
    """
    forget = (_KEPT_SECONDS, _KEPT_SECONDS)
    with gradio.Blocks(title="FinCompress", analytics_enabled=False, delete_cache=forget) as page:
        gradio.Markdown("# FinCompress\nWhat does compression change? Ask both models the same.")
        with gradio.Tab("Side by side"):
            _side_by_side(duel, chosen, differences or {})
        with gradio.Tab("Many texts"):
            _many_texts(duel, chosen)
        if table:
            with gradio.Tab("Benchmark"):
                gradio.Dataframe(table[1:], headers=table[0], interactive=False, max_height=800)
                pictures = [(str(figure), figure.stem.replace("_", " ")) for figure in figures]
                gradio.Gallery(pictures, columns=2, height="auto", object_fit="contain", show_label=False)
        with gradio.Tab("How it works"):
            gradio.Markdown(EXPLANATION)
    return page


def _side_by_side(duel: Duel, chosen: str, differences: Mapping[str, list[str]]) -> None:
    text = gradio.Textbox(label="Sentence", lines=3, placeholder=next(iter(EXAMPLES)), elem_id="sentence")
    with gradio.Row():
        variant = gradio.Dropdown(duel.variants, value=chosen, label="Variant", elem_id="variant")
        button = gradio.Button("Classify", variant="primary", elem_id="classify")
    banner = gradio.Markdown(elem_id="banner")
    with gradio.Row():
        bars = [gradio.Label(label=name, elem_id=f"bars-{place}") for place, name in _places(duel, chosen)]
    gradio.Examples(list(EXAMPLES), text)
    unlike = gradio.Dataset(**_unlike(duel, chosen, differences), components=[text], type="index", elem_id="unlike")
    history = gradio.State([])
    titles = ["text", *(place for place, _ in _places(duel, chosen))]
    widths: list[str | int] = ["50%", *[f"{50 / (len(titles) - 1):.0f}%"] * (len(titles) - 1)]
    asked = gradio.Dataframe(
        column_widths=widths,
        headers=titles,
        label=f"Asked before (the last {KEPT})",
        interactive=False,
        wrap=True,
        max_chars=SHOWN,
        elem_id="history",
    )
    show = _shown(duel)
    for event in (button.click, text.submit, variant.change):
        event(show, [text, variant, history], [banner, *bars, history, asked], api_name=False)  # type: ignore[arg-type]  # False hides it, says gradio
    variant.change(
        lambda name: gradio.Dataset(**_unlike(duel, name, differences)),
        variant,
        unlike,
        api_name=False,  # type: ignore[arg-type]
    )
    unlike.click(
        lambda index, name: differences[name][index],
        [unlike, variant],
        text,
        api_name=False,  # type: ignore[arg-type]
    )


def _unlike(duel: Duel, variant: str, differences: Mapping[str, list[str]]) -> dict:
    """What of a `gradio.Dataset` depends on the variant."""
    texts = differences.get(variant, [])
    label = f"Examples to which {variant} says something else than {duel.reference}"
    return {"samples": [[text] for text in texts], "label": label, "visible": bool(texts)}


def _many_texts(duel: Duel, chosen: str) -> None:
    gradio.Markdown(f"Up to {ROWS:,} texts, scored into a file: their labels, and a probability for each label.")
    with gradio.Row():
        lines = gradio.Textbox(label="A text a line", lines=8, elem_id="lines")
        upload = gradio.File(label="or a CSV file with a column “text”", file_types=[".csv"], elem_id="upload")
    names = [*([duel.reference] if duel.reference else []), *duel.variants]
    with gradio.Row():
        model = gradio.Dropdown(names, value=chosen, label="Model", elem_id="model")
        button = gradio.Button("Score", variant="primary", elem_id="score")
    message = gradio.Markdown(elem_id="message")
    table = gradio.Dataframe(interactive=False, visible=False, max_chars=SHOWN, elem_id="preview")
    scored = gradio.File(label="Scored", visible=False, interactive=False, elem_id="scored")
    button.click(_scored(duel), [lines, upload, model], [message, table, scored], api_name=False)  # type: ignore[arg-type]


def _places(duel: Duel, chosen: str) -> list[tuple[str, str]]:
    return [("reference", duel.reference), ("variant", chosen)] if duel.reference else [("variant", chosen)]


def _shown(duel: Duel) -> Callable[[str, str, History], list]:
    """The function behind the first tab: (text, variant, history) -> banner, each model's bars, the history twice."""

    def show(text: str, variant: str, history: History) -> list:
        opinions, banner = duel.judge(text, variant)
        history = remembered(history, opinions)
        if opinions:
            bars = [
                gradio.Label(value=own.prediction.probabilities, label=f"{own.name} · {own.latency_ms:.1f} ms")
                for own in opinions
            ]
        else:
            bars = [gradio.Label(value=None, label=name) for _, name in _places(duel, variant)]
        return [banner, *bars, history, history]

    return show


def _scored(duel: Duel) -> Callable[[str, str | None, str], Iterator[list]]:
    """The function behind the second tab: (lines, uploaded file, model) -> message, preview, file to download."""

    def score(lines: str, upload: str | None, model: str) -> Iterator[list]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                file = score_batch(duel.classifier(model), lines, Path(upload) if upload else None, Path(folder))
            except InputError as error:
                hidden = [gradio.Dataframe(visible=False), gradio.File(value=None, visible=False)]
                yield [f"**That did not work**: {error}", *hidden]
                return
            header, rows, count = preview(file)
            shown = f"the first {len(rows)} of {count:,}" if count > len(rows) else f"all {count}"
            table = gradio.Dataframe(value=rows, headers=header, label=f"Preview: {shown}", visible=True)
            yield [f"{count:,} texts, scored by {model}.", table, gradio.File(value=str(file), visible=True)]
            # gradio has its own copy of the file by now

    return score
