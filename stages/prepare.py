"""prepare: read labelled texts, clean them, split them."""

from dataclasses import dataclass
from pathlib import Path

from fincompress.core import stage
from fincompress.core.data_sections import AgNewsParams, PrepareParams
from fincompress.core.files import write_csv, write_json
from fincompress.core.params import load_params
from fincompress.data.readers import COLUMNS
from fincompress.data.sources import read_source
from fincompress.data.splits import clean, clean_own_splits, own_splits, split, split_training, summarise, without


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    prepare: PrepareParams | AgNewsParams


def main(out: Path = Path("data"), summary: Path = Path("metrics/about/data.json")) -> None:
    """Write OUT/{train,val,test}.csv and OUT/labels.json (the names in id order)."""
    params = load_params(Needs)
    source = read_source(params.prepare)
    own = isinstance(params.prepare, PrepareParams) and params.prepare.own_splits
    frame, dropped = (clean_own_splits if own else clean)(source.rows)
    if isinstance(params.prepare, PrepareParams) and own:
        splits = own_splits(frame, source.labels, params.prepare.max_rows, params.seed)
    elif isinstance(params.prepare, PrepareParams):
        splits = split(frame, source.labels, params.prepare, params.seed)
    else:
        assert source.test is not None, "AG News comes with its test rows"
        training = without(frame, source.test)
        dropped["in_test"] = len(frame) - len(training)
        splits = {**split_training(training, source.labels, params.prepare, params.seed), "test": source.test}
    for name, rows in splits.items():
        write_csv(out / f"{name}.csv", rows[COLUMNS])
    write_json(out / "labels.json", {"labels": source.labels})
    write_json(summary, {**summarise(splits, dropped), "origins": source.origins})
    counts = ", ".join(f"{len(rows)} {name}" for name, rows in splits.items())
    print(
        f"prepare: {counts}; dropped {dropped['duplicates']} duplicates and {dropped['conflicting']} conflicting rows"
        + (f", {dropped['across_splits']} of the duplicates from other splits" if own else "")
    )


if __name__ == "__main__":
    stage.run(main)
