"""The pipeline's training repeated over seeds, to know how much of a difference between two variants is chance.

The split stays as it is, so that the spread is that of training alone. The first seed is the pipeline's own run.
"""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pandas as pd
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.repo import Repo

from fincompress.benchmark.significance import CONFIDENCE
from fincompress.core.errors import InputError
from fincompress.core.files import read_json, write_json
from fincompress.core.params import checked_params
from fincompress.core.registry import PIPELINES
from fincompress.core.scratch import kept_folder
from fincompress.core.threads import usable_cores
from fincompress.core.variants import Variant, saved_variants
from fincompress.data.prepared import read_split
from fincompress.networks.scores import macro_f1
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.registry import open_classifier

RECORD = Path("metrics/about/seeds.json")
SCORES = ("val_macro_f1", "macro_f1")
PIPELINE = PIPELINES["side_by_side"]
TRAINED = [name for network in PIPELINE.networks for name in (network.prepared_by, network.name) if name]
STAGES = (
    *TRAINED,
    *(f"{PIPELINE.int8}@{network.name}" for network in PIPELINE.networks if network.quantized),
)
"""Of dvc.yaml, each after those that it may start from."""
FINISHED = ".finished"
"""The folder whose files name the stages that have finished beside it."""


def repeat(n: int, data: Path = Path("data"), models: Path = Path("models"), record: Path = RECORD) -> dict:
    """Train and convert every variant with `n` consecutive seeds, the first being that of params.yaml.

    A repetition that is interrupted goes on where it was, and one with a greater `n` adds what is missing.

    Returns:
        What `record` then holds: `seeds`, and `variants`: name -> score (`val_macro_f1`, `macro_f1` of the test split)
        -> `mean`, `std` (of a sample) and `values`, a value a seed; and but for the reference `change`, see `change`.

    Raises:
        InputError: the pipeline's own models are missing or outdated, or a stage failed.
    """
    if n < 2:
        raise InputError(f"--n {n}: a spread needs at least 2 seeds")
    params = checked_params()
    _check_up_to_date()
    sections = {name: getattr(params, name) for name in ("seed", "student", *TRAINED, PIPELINE.int8)}
    seeds = [params.seed + index for index in range(n)]
    scratch = kept_folder("seeds", sections, [data])
    scores = [
        _scores(scratch / f"{seed}.json", seed, data, models if not index else None) for index, seed in enumerate(seeds)
    ]
    reference = [run[PIPELINE.reference] for run in scores]
    content = {
        "seeds": seeds,
        "variants": {
            name: _spread([run[name] for run in scores], None if name == PIPELINE.reference else reference)
            for name in scores[0]
        },
    }
    write_json(record, content)
    return content


def _check_up_to_date() -> None:
    """An error where DVC would train or convert again, or cannot say."""
    try:
        with Repo() as repo:
            outdated = repo.status(targets=list(STAGES))
    except NotDvcRepoError:
        raise InputError("not inside a DVC project; change into the folder with dvc.yaml") from None
    except LockError:
        raise InputError(
            "another dvc command holds this project's lock (.dvc/tmp/lock); wait until it ends, then run this again"
        ) from None
    except DvcException as error:
        raise InputError(f"dvc.yaml: DVC cannot tell what is up to date: {' '.join(str(error).split())}") from None
    if outdated:
        raise InputError(f"{', '.join(sorted(outdated))}: outdated; run `dvc repro` first")


def _scores(file: Path, seed: int, data: Path, models: Path | None) -> dict[str, dict[str, float]]:
    """Variant -> its scores with `seed`, from `file` where that is there; trained first where `models` is None."""
    if file.is_file():
        return read_json(file)
    folder = models or file.with_suffix("")
    if models is None:
        run_stages(folder, data, seed)
    splits = {name: read_split(data, name) for name in ("val", "test")}
    scores = {variant.name: _score(variant, splits) for variant in saved_variants(folder, PIPELINE)}
    write_json(file, scores)
    if models is None:
        shutil.rmtree(folder)
    return scores


def run_stages(folder: Path, data: Path, seed: int, stages: Collection[str] = STAGES) -> None:
    """Run these training and int8 stages of the pipeline with all outputs below `folder`.

    Those that have finished there are not run again; a file below `folder`/.finished marks each.

    Raises:
        InputError: a stage failed.
        KeyboardInterrupt: it was interrupted.
    """
    for name, options in _commands(folder, data):
        if name not in stages or (folder / FINISHED / name).exists():
            continue
        print(f"seed {seed}: {name}", flush=True)
        command = [sys.executable, "-m", *options, "--seed", str(seed)]
        code = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.getcwd()}).returncode
        if code == 130:
            raise KeyboardInterrupt
        if code:
            raise InputError(f"seed {seed}: the stage {name} failed (exit {code}) with the message above")
        (folder / FINISHED).mkdir(exist_ok=True)
        (folder / FINISHED / name).touch()


def _commands(folder: Path, data: Path) -> list[tuple[str, list[str]]]:
    """(stage, its module and options) of `STAGES`, with all outputs below `folder`."""
    models = ["--data", str(data), "--models", str(folder)]
    beside = ["--plots", str(folder / "plots"), "--metrics", str(folder / "metrics")]
    trained = []
    for network in PIPELINE.networks:
        if network.prepared_by:
            trained.append((network.prepared_by, [f"stages.{network.prepared_by}", *models]))
        trained.append((network.name, [*network.command, *models, *beside]))
    converted = [
        (f"{PIPELINE.int8}@{network.name}", ["stages.ptq", PIPELINE.int8, network.name, *models])
        for network in PIPELINE.networks
        if network.quantized
    ]
    return [*trained, *converted]


def _score(variant: Variant, splits: dict[str, pd.DataFrame]) -> dict[str, float]:
    classifier = open_classifier(variant.folder, variant.runtime, threads=usable_cores())

    def score(rows: pd.DataFrame) -> float:
        predicted = np.array(classifier.labels)[predict_logits(classifier, rows["text"].tolist()).argmax(axis=1)]
        return round(macro_f1(rows["label"].to_numpy(), predicted), 6)

    return dict(zip(SCORES, (score(splits["val"]), score(splits["test"])), strict=True))


def _spread(runs: list[dict[str, float]], reference: list[dict[str, float]] | None) -> dict[str, dict]:
    """Score -> mean, standard deviation and values of one variant's runs, and its change against the reference's."""
    spread = {}
    for score in SCORES:
        values = [run[score] for run in runs]
        spread[score] = {"mean": round(fmean(values), 6), "std": round(stdev(values), 6), "values": values}
        if reference:
            spread[score]["change"] = change(values, [run[score] for run in reference])
    return spread


def change(values: list[float], reference: list[float]) -> dict[str, float]:
    """The mean change against the reference of the same seed, `value`, with its 95 % t interval, `low` to `high`.

    Every seed has a reference of its own. What makes one seed luckier than another is mostly the same for both, and
    cancels out of the difference.

    Args:
        values, reference: a score a seed, at least two.
    """
    from scipy import stats

    changes = [own - other for own, other in zip(values, reference, strict=True)]
    mean, error = fmean(changes), stdev(changes) / math.sqrt(len(changes))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(changes) - 1)) * error
    return {key: round(value, 6) for key, value in (("value", mean), ("low", mean - reach), ("high", mean + reach))}
