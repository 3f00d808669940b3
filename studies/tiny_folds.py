"""Whether `tiny` keeps up with its teacher on real data: `python -m studies.tiny_folds financial`, or `ag_news`.

Financial PhraseBank and FiQA-2018 have few rows, so they are cut into folds: each is the test split of a run of the
pipeline's own stages on the others, and the predictions of all folds are judged together. AG News has official test
rows. Networks are trained as params.yaml says, with no look at a test row. A study that is interrupted goes on with
the first fold and seed that it has no predictions of.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from sklearn.model_selection import StratifiedKFold, train_test_split

from fincompress.benchmark.machine import environment
from fincompress.benchmark.significance import CONFIDENCE
from fincompress.core.errors import InputError
from fincompress.core.files import folder_bytes, write_csv, write_json
from fincompress.core.params import load_params
from fincompress.core.scratch import kept_folder
from fincompress.core.sections import (
    AG_NEWS_LABELS,
    FINANCIAL_LABELS,
    AgNewsParams,
    AugmentParams,
    EvaluateParams,
    IkdParams,
    PrepareParams,
    PtqParams,
    StudentParams,
    TeacherParams,
    TinyParams,
)
from fincompress.data.ag_news import read_ag_news
from fincompress.data.financial import read_financial
from fincompress.data.splits import clean, without
from fincompress.networks.scores import macro_f1
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.registry import open_classifier
from studies.output import add_output_options, publish

FOLDS, VAL = 5, 0.15
NETWORKS = {
    "teacher": ("teacher", "torch"),
    "tiny": ("tiny", "torch"),
    "tiny_ort_int8": ("ptq/tiny_ort_int8", "onnxruntime"),
}
TITLES = {"financial": "Financial PhraseBank and FiQA-2018", "ag_news": "AG News"}


@dataclass(frozen=True)
class Needs:
    """What this study reads from params.yaml, most of it for the stages that it runs."""

    seed: int
    prepare: PrepareParams
    teacher: TeacherParams
    student: StudentParams
    ikd: IkdParams
    augment: AugmentParams
    tiny: TinyParams
    ptq: PtqParams
    evaluate: EvaluateParams


@dataclass(frozen=True)
class Part:
    """Rows to train on, to choose by, and to score."""

    splits: dict[str, pd.DataFrame]
    labels: list[str]


def financial_parts(params: Needs) -> list[Part]:
    """Five folds, stratified by label and source."""
    rows, _ = clean(read_financial(params.prepare.phrasebank, params.prepare.fiqa)[0])
    kind = rows["label"] + rows["source"]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=params.seed).split(rows, kind)
    return [_part(rows.iloc[rest], rows.iloc[test], FINANCIAL_LABELS, params.seed) for rest, test in folds]


def ag_news_parts(params: Needs, folder: str, most: int) -> list[Part]:
    """One: up to `most` training rows, and the official test rows."""
    source = AgNewsParams(source="ag_news", path=folder, repository="-", revision="-", val=VAL, max_train_rows=None)
    rows, test, _ = read_ag_news(source)
    rows = without(clean(rows)[0], test)
    if most < len(rows):
        rows, _ = train_test_split(rows, train_size=most, stratify=rows["label"], random_state=params.seed)
    return [_part(rows, test, AG_NEWS_LABELS, params.seed)]


def _part(rest: pd.DataFrame, test: pd.DataFrame, labels: list[str], seed: int) -> Part:
    train, val = train_test_split(rest, test_size=VAL, stratify=rest["label"], random_state=seed)
    splits = {"train": train, "val": val, "test": test}
    return Part({name: frame.reset_index(drop=True) for name, frame in splits.items()}, labels)


def run_part(part: Part, folder: Path, seeds: list[int], transfer: list[Path]) -> list[pd.DataFrame]:
    """Per seed, the test rows' label and what every network says; trained where `folder` has no such file yet."""
    missing = [seed for seed in seeds if not (folder / f"{seed}.csv").is_file()]
    if missing:
        for name, rows in part.splits.items():
            write_csv(folder / "data" / f"{name}.csv", rows)
        write_json(folder / "data/labels.json", {"labels": part.labels})
        source = _write_params(folder / "params.yaml", transfer)
        for stage in ("teacher teacher", *([source] if source != "teacher" else []), "augment"):
            if not (folder / f"{stage.split()[0]}.done").is_file():
                _stage(folder, *stage.split())
                (folder / f"{stage.split()[0]}.done").touch()
    for seed in missing:
        _stage(folder, "tiny", "--seed", str(seed))
        _stage(folder, "ptq", "ptq", "tiny")
        write_csv(folder / f"{seed}.csv", _said(folder / "models", part))
    return [pd.read_csv(folder / f"{seed}.csv", dtype=str) for seed in seeds]


def _write_params(target: Path, transfer: list[Path]) -> str:
    """The project's params.yaml with other texts to learn from; returns the network that `tiny` starts from."""
    yaml = YAML()
    content = yaml.load(Path("params.yaml"))
    content["kd"]["transfer"] = [str(path.resolve()) for path in transfer]
    with target.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return content["tiny"]["source"]


def _stage(folder: Path, name: str, *arguments: str) -> None:
    """Run a stage in `folder`, with the code of the working directory."""
    command = [sys.executable, "-m", f"stages.{name}", *arguments]
    code = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": os.getcwd()}).returncode
    if code:
        raise InputError(f"{folder}: the stage {name} failed (exit {code}) with the message above")


def _said(models: Path, part: Part) -> pd.DataFrame:
    test = part.splits["test"]
    found = {"label": test["label"], "source": test["source"]}
    for name, (folder, runtime) in NETWORKS.items():
        classifier = open_classifier(models / folder, runtime, os.cpu_count() or 1)
        found[name] = np.array(classifier.labels)[predict_logits(classifier, test["text"].tolist()).argmax(axis=1)]
    size = folder_bytes(models / NETWORKS["tiny_ort_int8"][0])
    return pd.DataFrame(found).assign(bytes=size)


def judged(runs: list[pd.DataFrame], resamples: int, seed: int) -> list[dict]:
    """A row a network and score: the mean over seeds, and its change against the teacher with a paired bootstrap.

    Args:
        runs: a seed each, the same rows in the same order. A resample draws rows, each with the answers of all seeds.
    """
    truth = runs[0]["label"].to_numpy()
    names = np.unique(truth)
    rng, found = np.random.default_rng(seed), []
    draws = rng.integers(len(truth), size=(resamples, len(truth)))
    codes = {
        name: np.stack([np.searchsorted(names, run[name].to_numpy()) for run in runs]) for name in NETWORKS
    }  # [seeds, rows]
    labels = np.searchsorted(names, truth)
    for score in (_macro_f1, _accuracy):
        seen = {name: np.mean([score(labels, own, len(names)) for own in own_runs]) for name, own_runs in codes.items()}
        drawn = {
            name: np.array([np.mean([score(labels[d], own[d], len(names)) for own in own_runs]) for d in draws])
            for name, own_runs in codes.items()
        }
        for name in NETWORKS:
            low, high = np.percentile(drawn[name] - drawn["teacher"], [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
            change = {"value": seen[name] - seen["teacher"], "low": low, "high": high}
            found.append({"network": name, "score": score.__name__.strip("_"), "value": seen[name], "change": change})
    return found


def _macro_f1(labels: np.ndarray, said: np.ndarray, classes: int) -> float:
    """As `networks.scores.macro_f1`, from a confusion matrix."""
    table = np.bincount(labels * classes + said, minlength=classes**2).reshape(classes, classes)
    return float(np.mean(2 * np.diag(table) / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)))


def _accuracy(labels: np.ndarray, said: np.ndarray, classes: int) -> float:
    return float((labels == said).mean())


def page(name: str, runs: list[pd.DataFrame], rows: list[dict], parts: int, machine: dict, command: str) -> str:
    """The scores of a data set as a Markdown page."""
    count, size = len(runs[0]), max(float(run["bytes"].iloc[0]) for run in runs) / 1e6
    how = f"{parts} folds, pooled" if parts > 1 else "the official test rows"
    lines = [
        f"# The tiny student on real data: {TITLES[name]}",
        "",
        f"{count:,} test rows ({how}); the student with {len(runs)} seeds, its teacher (MiniLM) with one a fold.",
        "Scores are means over seeds; changes are against the teacher, with a 95 % interval of a paired bootstrap over",
        "rows.",
        f"The folder of `tiny_ort_int8` takes {size:.2f} MB, tokenizer included. `tiny` is the same network in fp32.",
        "",
        "| network | score | value | change, points |",
        "|---|---|--:|--:|",
    ]
    for row in rows:
        points = {key: 100 * value for key, value in row["change"].items()}
        change = "–" if row["network"] == "teacher" else "{value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**points)
        lines.append(f"| `{row['network']}` | {row['score'].replace('_', ' ')} | {row['value']:.4f} | {change} |")
    if runs[0]["source"].nunique() > 1:
        lines += [
            "",
            "By source, macro F1, mean over seeds:",
            "",
            "| source | rows | " + " | ".join(f"`{n}`" for n in NETWORKS) + " |",
        ]
        lines.append("|---|--:|" + "--:|" * len(NETWORKS))
        for source in sorted(runs[0]["source"].unique()):
            own = [run[run["source"] == source] for run in runs]
            scores = [np.mean([macro_f1(run["label"].to_numpy(), run[n].to_numpy()) for run in own]) for n in NETWORKS]
            lines.append(f"| {source} | {len(own[0]):,} | " + " | ".join(f"{score:.3f}" for score in scores) + " |")
    cpu = f"{machine['cpu']} ({', '.join(machine['vector_instructions'])})"
    lines += ["", f"Trained on {cpu}.", "", f"Made by `{command}`.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The tiny student against its teacher on real data.")
    parser.add_argument("data_set", choices=TITLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument(
        "--transfer", type=Path, nargs="*", default=[], help="files of unlabelled texts, as kd.transfer"
    )
    parser.add_argument("--folder", default="ag_news", help="of AG News' train.csv and test.csv")
    parser.add_argument("--most", type=int, default=12000, help="training rows of AG News")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        params = load_params(Needs)
        if options.dry_run:
            print(f"would train {len(options.seeds)} students a fold, for {options.write or 'standard output'}")
            return
        financial = options.data_set == "financial"
        parts = financial_parts(params) if financial else ag_news_parts(params, options.folder, options.most)
        sections = {**vars(params), "transfer": sorted(map(str, options.transfer)), "most": options.most}
        kept = kept_folder(f"tiny_folds_{options.data_set}", sections, options.transfer)
        found = [
            run_part(part, kept / str(number), options.seeds, options.transfer) for number, part in enumerate(parts)
        ]
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    runs = [pd.concat(of_seed, ignore_index=True) for of_seed in zip(*found, strict=True)]
    rows = judged(runs, params.evaluate.bootstrap_resamples, params.seed)
    words = [
        f"python -m studies.tiny_folds {options.data_set}",
        *(["--transfer", *map(str, options.transfer)] if options.transfer else []),
    ]
    command = " ".join([*words, f"--write {options.write}"] if options.write else words)
    publish(page(options.data_set, runs, rows, len(parts), environment(os.cpu_count() or 1), command), options.write)


if __name__ == "__main__":
    main()
