"""plots/report.html: a whole run on one page that works offline and follows the reader's light or dark mode."""

import io
import re

import pandas as pd
from matplotlib.figure import Figure

from fincompress.benchmark.flips import KINDS
from fincompress.report import tables
from fincompress.report.figures.style import INK
from fincompress.report.groups import largest_counts
from fincompress.report.headline import ladder
from fincompress.report.results import Results
from fincompress.report.templating import template

FLIP_TITLES = dict(zip(KINDS, ("right → wrong", "wrong → right", "wrong → wrong"), strict=True))


def svg(figure: Figure) -> str:
    """A figure, already saved once, as an SVG element without a background, in the page's text colour."""
    figure.set_layout_engine("none")  # it has its layout, which takes longer than drawing
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    element = buffer.getvalue()
    element = element[element.index("<svg") :].replace(INK, "currentColor")
    element = re.sub(r"(\d\.\d\d)\d+", r"\1", element)  # two decimals of a point are enough, one where lines run
    element = re.sub(r'(?<= d=")[^"]+', lambda path: " ".join(re.sub(r"(\d\.\d)\d", r"\1", path[0]).split()), element)
    # as wide as the page, but no wider than drawn
    return re.sub(r'width="([^"]*)" height="[^"]*"', r'role="img" style="max-width: \1"', element, count=1)


def render(
    results: Results,
    pictures: dict[str, str],
    flips: pd.DataFrame,
    test: pd.DataFrame,
    labels: list[str],
    data: dict,
    sentences: bool,
) -> str:
    """The page.

    Args:
        pictures: name of a figure -> its SVG element.
        flips: the content of plots/tables/flips.csv.
        test: the rows of the test split.
        data: the content of metrics/about/data.json.
        sentences: whether the page may show the texts.
    """
    return template("report", "report.html").render(
        results=results,
        best=results.best,
        glance=_glance(results),
        ladder=_ladder(results),
        costs=_cells(results, tables.COSTS),
        behaviour=_cells(results, tables.BEHAVIOUR),
        default=(tables.default_int8(results.records) or "").replace("**", ""),
        ties=tables.ties(results).replace("`", ""),
        contamination=[note.replace("**", "") for note in tables.contamination_notes(results.models)],
        pictures=pictures,
        flips=_flips(results, flips, test if sentences else None),
        sentences=sentences,
        labels=labels,
        data=data,
        sources=largest_counts(data["sources"]["test"]),
    )


def _cells(results: Results, columns: tables.Columns) -> dict:
    rows = {name: [cell(results, name) for cell in columns.values()] for name in results.records}
    return {"titles": list(columns), "rows": rows}


def _ladder(results: Results) -> dict:
    """The table of `headline.ladder`, and the sentences below it."""
    table, *sentences = ladder(results).replace("`", "").split("\n\n")
    titles, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {"titles": titles, "rows": rows, "sentences": sentences}


def _glance(results: Results) -> list[tuple[str, str]]:
    """The best variant compared with the reference at a glance: (figure, what it means)."""
    record, reference = results.records[results.best], results.records[results.reference]
    points = 100 * (reference["macro_f1"] - record["macro_f1"])
    side = "below" if points >= 0 else "above"
    return [
        (f"{reference['size_mb'] / record['size_mb']:.1f}×", f"smaller than the {results.reference} on disk"),
        (tables.times(record["speedup"]), "as fast from a sentence to its label"),
        (f"{abs(points):.1f}", f"points of test macro F1 {side} the {results.reference}"),
        _flipped(record, results.reference),
    ]


def _flipped(record: dict, reference: str) -> tuple[str, str]:
    """The number of reversals, or the agreement if no two labels are opposites."""
    if record["reversals"] is None:
        return f"{record['agreement']:.1%}", f"of test texts get the label that the {reference} gives"
    return str(record["reversals"]), "opposite predictions among the flips"


def _flips(results: Results, flips: pd.DataFrame, test: pd.DataFrame | None) -> dict:
    """The flips for the page's script: every text once, and rows of places in the lists of texts, labels and so on."""
    texts = None if test is None else test.set_index("id")["text"]
    ids = {key: index for index, key in enumerate(dict.fromkeys(flips["id"]))}
    variants = [name for name in results.records if (flips["variant"] == name).any()]
    labels = sorted({*flips["label"], *flips["reference"], *flips["predicted"]})
    places = {
        name: {value: place for place, value in enumerate(values)}
        for name, values in (("variant", variants), ("kind", list(FLIP_TITLES)), ("label", labels))
    }
    return {
        "kinds": FLIP_TITLES,
        "variants": variants,
        "labels": labels,
        "texts": [texts[key] if texts is not None else f"row {key}" for key in ids],
        "rows": [
            [
                places["variant"][flip.variant],
                ids[flip.id],
                places["kind"][flip.kind],
                int(flip.reversal),
                *(places["label"][label] for label in (flip.label, flip.reference, flip.predicted)),
                round(flip.confidence, 2),
            ]
            for flip in flips.itertuples()
        ],
    }
