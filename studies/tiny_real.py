"""The tiny student on real data: `python -m studies.tiny_real --phrasebank … --fiqa …`, or `--ag-news …`.

Teacher, source and student are trained as params.yaml says, on Financial PhraseBank and FiQA-2018 in folds, or on AG
News with its official test split. Training rows alone choose: a share of them is held out to validate. The student is
trained with several seeds on one teacher's answers. Finished work is kept, and the same command goes on from there.
"""

import argparse
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, train_test_split

from fincompress.benchmark.machine import environment
from fincompress.benchmark.seeds import FINISHED, run_stages
from fincompress.benchmark.significance import bootstrap_intervals
from fincompress.core.data_sections import AgNewsParams, PrepareParams
from fincompress.core.errors import InputError
from fincompress.core.files import write_csv, write_json
from fincompress.core.params import load_params
from fincompress.core.runtimes import FLOOR
from fincompress.core.scratch import kept_folder
from fincompress.core.sections import (
    AG_NEWS_LABELS,
    FINANCIAL_LABELS,
    AugmentParams,
    BenchmarkParams,
    EvaluateParams,
    IkdParams,
    PtqParams,
    SoftLabelParams,
    StudentParams,
    TeacherParams,
    TinyParams,
)
from fincompress.data.ag_news import read_ag_news
from fincompress.data.financial import read_fiqa, read_phrasebank
from fincompress.data.prepared import read_split
from fincompress.data.splits import clean, without
from fincompress.networks.scores import scores
from fincompress.report.tables import change
from fincompress.runtimes.bag_of_words import BagOfWords
from fincompress.runtimes.base import Classifier, predict_logits
from fincompress.runtimes.registry import open_classifier
from studies.output import add_output_options, cpu_of, publish, with_write

VALIDATION = 0.12
TEACHER, STUDENT = "teacher", "tiny"
SMALL = {STUDENT: (STUDENT, "torch"), f"{STUDENT}_ort_int8": (f"ptq/{STUDENT}_ort_int8", "onnxruntime")}
"""Variant of the student -> its folder below models/, and its runtime."""


@dataclass(frozen=True)
class Needs:
    """What this study and the stages that it runs read from params.yaml."""

    seed: int
    prepare: PrepareParams
    teacher: TeacherParams
    student: StudentParams
    kd: SoftLabelParams
    ikd: IkdParams
    augment: AugmentParams
    tiny: TinyParams
    ptq: PtqParams
    benchmark: BenchmarkParams
    evaluate: EvaluateParams


@dataclass(frozen=True)
class Task:
    """A data set with its rows (`text`, `label`) for training and testing, a pair a fold."""

    title: str
    labels: list[str]
    folds: list[tuple[pd.DataFrame, pd.DataFrame]]


def financial(phrasebank: Path, fiqa: Path, folds: int, params: Needs) -> Task:
    """Financial PhraseBank and FiQA-2018, every row tested in one fold; folds have equal shares of each label."""
    read = [
        read_phrasebank(params.prepare.phrasebank.model_copy(update={"path": str(phrasebank)}))[0],
        read_fiqa(params.prepare.fiqa.model_copy(update={"path": str(fiqa)}))[0],
    ]
    rows = clean(pd.concat(read, ignore_index=True))[0]
    parts = StratifiedKFold(folds, shuffle=True, random_state=params.seed).split(rows, rows["label"])
    pairs = [(rows.iloc[train], rows.iloc[test]) for train, test in parts]
    return Task("Financial PhraseBank and FiQA-2018", FINANCIAL_LABELS, pairs)


def ag_news(folder: Path, most: int, seed: int) -> Task:
    """AG News: at most `most` training rows, and its official test split as the only fold."""
    params = AgNewsParams(
        source="ag_news", path=str(folder), repository="-", revision="-", val=VALIDATION, max_train_rows=most
    )
    train, test, _ = read_ag_news(params)
    train = without(clean(train)[0], test)
    if most < len(train):
        train, _ = train_test_split(train, train_size=most, random_state=seed, stratify=train["label"])
    return Task("AG News", AG_NEWS_LABELS, [(train, test)])


def predictions(task: Task, scratch: Path, params: Needs, repetitions: int) -> pd.DataFrame:
    """What is said of every test row: `label`, `teacher`, the source, `bag_of_words`, `tiny-42`, … a column a seed."""
    frames = []
    for number, (train, test) in enumerate(task.folds):
        print(f"fold {number + 1} of {len(task.folds)}", flush=True)
        folder = scratch / f"fold-{number}"
        _write_data(folder / "data", task, train, test, params.seed)
        columns = dict(_columns(folder, test["text"].tolist(), task.labels, params, repetitions))
        frames.append(pd.DataFrame({"label": test["label"].to_numpy(), **columns}))
    return pd.concat(frames, ignore_index=True)


def _write_data(data: Path, task: Task, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> None:
    """What `prepare` would write of a fold."""
    if (data / "labels.json").is_file():
        return
    kept, val = train_test_split(train, test_size=VALIDATION, random_state=seed, stratify=train["label"])
    for name, rows in (("train", kept), ("val", val), ("test", test)):
        write_csv(data / f"{name}.csv", rows)
    write_json(data / "labels.json", {"labels": task.labels})  # the last file: all are there


def _columns(
    folder: Path, texts: list[str], labels: list[str], params: Needs, repetitions: int
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, predicted labels of `texts`) of every network that is trained on a fold."""
    data, models, threads = folder / "data", folder / "models", params.benchmark.threads
    whole = list(dict.fromkeys([TEACHER, params.tiny.source]))
    run_stages(models, data, params.seed, [*whole, "augment"])
    for name in whole:
        yield name, _said(folder / f"{name}.csv", partial(open_classifier, models / name, "torch", threads), texts)
    yield FLOOR, _said(folder / f"{FLOOR}.csv", partial(BagOfWords.fit, read_split(data, "train"), labels), texts)
    for own in range(params.seed, params.seed + repetitions):
        files = {name: folder / f"{name}-{own}.csv" for name in SMALL}
        if not all(file.is_file() for file in files.values()):
            run_stages(models, data, own, [STUDENT, f"ptq@{STUDENT}"])
        for name, (below, runtime) in SMALL.items():
            opened = partial(open_classifier, models / below, runtime, threads)
            yield f"{name}-{own}", _said(files[name], opened, texts)
        for stage in (STUDENT, f"ptq@{STUDENT}"):
            (models / FINISHED / stage).unlink(missing_ok=True)
        for below, _ in SMALL.values():
            shutil.rmtree(models / below, ignore_errors=True)


def _said(file: Path, opened: Callable[[], Classifier], texts: list[str]) -> np.ndarray:
    """The labels that a classifier predicts, kept in `file`."""
    if not file.is_file():
        classifier = opened()
        found = np.array(classifier.labels)[predict_logits(classifier, texts).argmax(axis=1)]
        write_csv(file, pd.DataFrame({"label": found}))
    return pd.read_csv(file, dtype=str, keep_default_na=False)["label"].to_numpy()


def table(said: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """A row a network: mean scores over its seeds, and changes against the teacher with 95 % intervals.

    Rows are resampled for all seeds at once, so that the interval is that of the mean over seeds.
    """
    truth, teacher = said["label"].to_numpy(), said[TEACHER].to_numpy()
    rows = []
    for name in dict.fromkeys(column.partition("-")[0] for column in said.columns[1:]):
        own = said[[column for column in said.columns if column.partition("-")[0] == name]].to_numpy().T
        each = [scores(truth, one) for one in own]
        gained = (own == truth).mean(axis=0) - (teacher == truth)  # [rows], of accuracy
        reach = 1.96 * gained.std(ddof=1) / np.sqrt(len(gained))
        rows.append(
            {
                "name": name,
                "seeds": len(own),
                **{score: float(np.mean([one[score] for one in each])) for score in ("macro_f1", "accuracy")},
                "spread": float(np.std([one["macro_f1"] for one in each], ddof=1)) if len(own) > 1 else None,
                "macro_f1_change": bootstrap_intervals(truth, own, teacher, resamples, seed)["macro_f1_change"],
                "accuracy_change": {
                    "value": gained.mean(),
                    "low": gained.mean() - reach,
                    "high": gained.mean() + reach,
                },
            }
        )
    return pd.DataFrame(rows)


def section(task: Task, found: pd.DataFrame, rows: int) -> list[str]:
    """The lines of the page about a task."""
    trained = round(np.mean([len(train) for train, _ in task.folds]))
    how = f"{len(task.folds)} folds, pooled" if len(task.folds) > 1 else "its official test split"
    lines = [
        f"## {task.title}",
        "",
        f"{rows:,} test rows ({how}), {trained:,} rows to train on, {100 * VALIDATION:g} % of them to validate.",
        "",
        "| network | seeds | macro F1 | change [95 %] | accuracy | change [95 %] |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in found.to_dict("records"):
        changes = [
            "–" if row["name"] == TEACHER else change(row[f"{score}_change"]) for score in ("macro_f1", "accuracy")
        ]
        spread = f" ± {row['spread']:.3f}" if row["seeds"] > 1 else ""
        lines.append(
            f"| `{row['name']}` | {row['seeds']} | {row['macro_f1']:.3f}{spread} | {changes[0]} "
            f"| {row['accuracy']:.3f} | {changes[1]} |"
        )
    return [*lines, ""]


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prove the tiny student on real data.")
    parser.add_argument("--phrasebank", type=Path, help="Financial PhraseBank: its archive, folder or a file")
    parser.add_argument("--fiqa", type=Path, help="FiQA-2018: the folder with its files; goes with --phrasebank")
    parser.add_argument("--ag-news", type=Path, help="a folder with AG News' train.csv and test.csv")
    parser.add_argument("--ag-news-rows", type=int, default=6000, help="of its training rows, at most")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of the student a fold")
    add_output_options(parser)
    return parser


def main() -> None:
    parser = _options()
    options = parser.parse_args()
    if (options.phrasebank is None) != (options.fiqa is None):
        parser.exit(2, "error: --phrasebank and --fiqa go together\n")
    try:
        params = load_params(Needs)
        if options.dry_run:
            print(f"would train {options.folds} folds, {options.seeds} seeds, for {options.write or 'standard output'}")
            return
        tasks = []
        if options.phrasebank:
            tasks.append(financial(options.phrasebank, options.fiqa, options.folds, params))
        if options.ag_news:
            tasks.append(ag_news(options.ag_news, options.ag_news_rows, params.seed))
        lines: list[str] = []
        for task in tasks:
            rows = [len(part) for pair in task.folds for part in pair]
            scratch = kept_folder(f"tiny_real_{len(task.labels)}", {**vars(params), "rows": rows}, [])
            said = predictions(task, scratch, params, options.seeds)
            lines += section(task, table(said, params.evaluate.bootstrap_resamples, params.seed), len(said))
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; the same command goes on from here\n")
    publish(page(lines, environment(params.benchmark.threads), options.write), options.write)


def page(lines: list[str], machine: dict, write: Path | None) -> str:
    """The tasks' sections as a Markdown page."""
    head = [
        "# The tiny student on real data",
        "",
        "The recipe of `params.yaml`, untouched, on data sets with labels by people. Every fold has a teacher of its",
        "own; the student is trained with several seeds on that teacher's answers, and what is chosen is chosen on",
        "rows held out of the fold's training rows. Changes are in points against the teacher, from pairs of",
        "predictions on the same rows, averaged over seeds; ± is the standard deviation over seeds.",
        "",
    ]
    cpu = f"{cpu_of(machine)}, {machine['threads']} threads"
    made = with_write("python -m studies.tiny_real", write)
    return "\n".join(
        [
            *head,
            *lines,
            f"Trained on {cpu}.",
            f"Made by `{made}`; `--phrasebank`, `--fiqa` and `--ag-news` name the data sets.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
