"""Compare the importance criteria: `python -m studies.head_importance`, after `dvc repro teacher`.

It prunes the teacher as a section of params.yaml says, once per criterion and seed, and writes the scores as a table
and as a page. An interrupted study continues: rows already in the table are not computed again, and pruning resumes
at its last round.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import pandas as pd

from fincompress.compress.pruning import predict, prune, removal_schedule
from fincompress.core.errors import InputError
from fincompress.core.files import write_csv, write_text
from fincompress.core.params import Key, load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import PruneParams
from fincompress.data.prepared import read_labels, read_split
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.networks.scores import macro_f1
from fincompress.networks.structure import structure_of

CRITERIA = get_args(PruneParams.model_fields["importance"].annotation)


@dataclass(frozen=True)
class Needs:
    """What this study reads from params.yaml."""

    own: Annotated[PruneParams, Key("{section}")]


def study(section: str, seeds: list[int], teacher: Path, data: Path, out: Path) -> pd.DataFrame:
    """Write `out`, one row per criterion and seed: validation macro F1 before and after the last recovery, and test."""
    params = load_params(Needs, section).own
    tokenizer, labels = load_tokenizer(str(teacher)), read_labels(data)
    train_set, val_set, test_set = (
        tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val", "test")
    )
    rows = pd.read_csv(out).to_dict("records") if out.is_file() else []
    for criterion in CRITERIA:
        for seed in seeds:
            if any((row["section"], row["importance"], row["seed"]) == (section, criterion, seed) for row in rows):
                continue
            chosen = params.model_copy(update={"importance": criterion})
            model = load_model(str(teacher))
            schedule = removal_schedule(structure_of(model), chosen, section)
            name = f"study-{section}-{criterion}-{seed}"
            with scratch_folder(name, {"seed": seed, section: chosen}, [data, teacher]) as scratch:
                model, record = prune(
                    model, tokenizer, train_set, val_set, chosen, schedule=schedule, seed=seed, scratch=scratch.folder
                )
            last = record["rounds"][-1]
            test_f1 = macro_f1(np.array(test_set["labels"]), predict(model, tokenizer, test_set))
            scores = {key: last[key] for key in ("heads_removed", "val_macro_f1_pruned", "val_macro_f1_recovered")}
            rows.append({"section": section, "importance": criterion, "seed": seed, **scores, "macro_f1": test_f1})
            write_csv(out, pd.DataFrame(rows).round(6))
    return pd.DataFrame(rows)


def page(rows: pd.DataFrame, out: Path) -> str:
    """Mean ± standard deviation over seeds as a Markdown page, with one row per section and criterion.

    Args:
        out: the file with every single score, beside which the page is.
    """
    columns = {
        "val_macro_f1_pruned": "val, before the last recovery",
        "val_macro_f1_recovered": "val, recovered",
        "macro_f1": "test, recovered",
    }
    lines = [
        "# Which heads to remove",
        "",
        "Macro F1 of one network after the same iterative pruning by each criterion, mean ± standard deviation over",
        "seeds. `random` is the control: a criterion that is not better than it by more than the spread has not been",
        "shown to choose well.",
        "",
        f"| section | importance | heads removed | seeds | {' | '.join(columns.values())} |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for (section, criterion), group in rows.groupby(["section", "importance"], sort=False):
        means, spreads = group[list(columns)].mean(), group[list(columns)].std()
        scores = " | ".join(f"{means[key]:.3f} ± {spreads[key]:.3f}" for key in columns)
        lines.append(f"| `{section}` | {criterion} | {group['heads_removed'].iloc[0]} | {len(group)} | {scores} |")
    commands = [
        f"`python -m studies.head_importance --section {section} --seeds {' '.join(map(str, group['seed'].unique()))} "
        f"--out {out}`"
        for section, group in rows.groupby("section", sort=False)
    ]
    lines += ["", f"Made by {' and '.join(commands)}; every single score is in the CSV file beside it.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the importance criteria over several seeds.")
    parser.add_argument("--section", choices=["prune30", "prune50"], default="prune50")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--teacher", type=Path, default=Path("models/teacher"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/head_importance.csv"))
    parser.add_argument("--dry-run", action="store_true", help="check options and params.yaml, and say what would run")
    options = parser.parse_args()
    try:
        if options.dry_run:
            load_params(Needs, options.section)
            print(f"would prune {options.teacher} {len(CRITERIA) * len(options.seeds)} times, for {options.out}")
            return
        rows = study(options.section, options.seeds, options.teacher, options.data, options.out)
        text = page(rows, options.out)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    write_text(options.out.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
