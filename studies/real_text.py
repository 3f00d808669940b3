"""What the pipeline's models score on real financial text: `python -m studies.real_text`, after `dvc repro`.

The shipped variants, and the bag of words trained on the same rows, are scored on Financial PhraseBank and FiQA-2018.
Sentences that are in the prepared data are left out.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fincompress.benchmark.significance import bootstrap_intervals
from fincompress.core.data_sections import PrepareParams
from fincompress.core.errors import InputError
from fincompress.core.params import current_pipeline, load_params
from fincompress.core.runtimes import FLOOR
from fincompress.core.sections import EvaluateParams, ShipParams
from fincompress.core.variants import saved_variants
from fincompress.data.financial import FIQA, PHRASEBANK, read_fiqa, read_phrasebank
from fincompress.data.further import unseen
from fincompress.data.prepared import read_labels, read_split
from fincompress.data.splits import clean
from fincompress.networks.scores import scores
from fincompress.report.tables import change
from fincompress.runtimes.bag_of_words import BagOfWords
from fincompress.runtimes.base import Classifier, predict_logits
from fincompress.runtimes.registry import open_classifier
from studies.output import add_output_options, publish, with_write

TITLES = {PHRASEBANK: "Financial PhraseBank", FIQA: "FiQA-2018"}


@dataclass(frozen=True)
class Needs:
    """What this study reads from params.yaml."""

    seed: int
    prepare: PrepareParams
    evaluate: EvaluateParams
    ship: ShipParams


def read_real(params: PrepareParams, data: Path) -> dict[str, pd.DataFrame]:
    """Data set -> its rows without duplicates and conflicts, and without what is in the splits in `data`."""
    frames = {PHRASEBANK: read_phrasebank(params.phrasebank)[0], FIQA: read_fiqa(params.fiqa)[0]}
    return {name: unseen(clean(rows)[0], data) for name, rows in frames.items()}


def score(classifiers: dict[str, Classifier], real: dict[str, pd.DataFrame], resamples: int, seed: int) -> list[dict]:
    """A row a classifier and data set: `macro_f1` with its 95 % interval, its change against the floor's, accuracy.

    Args:
        classifiers: the floor among them.
    """
    rows = []
    for source, frame in real.items():
        truth, texts = frame["label"].to_numpy(), frame["text"].tolist()
        said = {
            name: np.array(classifier.labels)[predict_logits(classifier, texts).argmax(axis=1)]
            for name, classifier in classifiers.items()
        }
        for name, predicted in said.items():
            intervals = bootstrap_intervals(truth, predicted, said[FLOOR], resamples, seed)
            rows.append({"variant": name, "source": source, **scores(truth, predicted), **intervals})
    return rows


def page(rows: list[dict], real: dict[str, pd.DataFrame], trained_on: int, resamples: int, write: Path | None) -> str:
    """The rows as a Markdown page."""
    counts = " and ".join(f"{len(frame):,} sentences of {TITLES[name]}" for name, frame in real.items())
    columns = [
        f"{TITLES[name]}: {title}" for name in real for title in ("macro F1 [95 %]", "accuracy", "over the floor")
    ]
    lines = [
        "# The default models on real text",
        "",
        f"The models of the default pipeline have learnt from {trained_on:,} sentences of the embedded corpus",
        "and have seen no real text. Here they are scored on",
        f"{counts}, as `prepare.phrasebank` and",
        "`prepare.fiqa` in params.yaml take them: sentences on which all annotators agree; positive above 0.1,",
        f"negative below -0.1. `{FLOOR}` has learnt from the same rows. Intervals are from {resamples:,} resamples",
        "of the sentences; *over the floor* is the difference in macro F1, in points, paired.",
        "",
        f"| variant | {' | '.join(columns)} |",
        "|---|" + "--:|" * len(columns),
    ]
    for name in dict.fromkeys(row["variant"] for row in rows):
        cells = []
        for row in (row for row in rows if row["variant"] == name):
            low, high = (row["macro_f1_ci"][end] for end in ("low", "high"))
            cells += [
                f"{row['macro_f1']:.3f} [{low:.3f}, {high:.3f}]",
                f"{row['accuracy']:.3f}",
                "–" if name == FLOOR else change(row["macro_f1_change"]),
            ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    command = with_write("python -m studies.real_text", write)
    lines += [
        "",
        f"Made by `{command}`; `--phrasebank` and `--fiqa` name local copies of the data sets.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Score the shipped models on Financial PhraseBank and FiQA-2018.")
    parser.add_argument("--phrasebank", help="its archive, folder or a file; from the hub if absent")
    parser.add_argument("--fiqa", help="the folder with its files, or one of them; from the hub if absent")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    add_output_options(parser)
    options = parser.parse_args()
    try:
        params = load_params(Needs)
        if options.dry_run:
            names = ", ".join([*params.ship.variants, FLOOR])
            print(f"would score {names}, for {options.write or 'standard output'}")
            return
        sources = {
            name: getattr(params.prepare, name).model_copy(update={"path": path} if path else {})
            for name, path in (("phrasebank", options.phrasebank), ("fiqa", options.fiqa))
        }
        real = read_real(params.prepare.model_copy(update=sources), options.data)
        train = read_split(options.data, "train")
        shipped = [
            one for one in saved_variants(options.models, current_pipeline()) if one.name in params.ship.variants
        ]
        classifiers: dict[str, Classifier] = {one.name: open_classifier(one.folder, one.runtime, 2) for one in shipped}
        classifiers[FLOOR] = BagOfWords.fit(train, read_labels(options.data))
        resamples = params.evaluate.bootstrap_resamples
        rows = score(classifiers, real, resamples, params.seed)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    content = page(rows, real, len(train), resamples, options.write)
    publish(content, options.write)


if __name__ == "__main__":
    main()
