"""prepare: read labelled texts, clean them, split them."""

from dataclasses import dataclass
from pathlib import Path

from fincompress.core import stage
from fincompress.core.data_sections import AgNewsParams, PrepareParams
from fincompress.core.files import write_csv, write_json
from fincompress.core.params import load_params
from fincompress.data.prepared import check_own
from fincompress.data.readers import COLUMNS
from fincompress.data.sources import divide, read_source
from fincompress.data.splits import summarise


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    prepare: PrepareParams | AgNewsParams


def main(out: Path = Path("data"), summary: Path = Path("metrics/about/data.json")) -> None:
    """Write OUT/{train,val,test}.csv and OUT/labels.json (the names in id order)."""
    params = load_params(Needs)
    check_own(out)
    source = read_source(params.prepare)
    splits, dropped = divide(source, params.prepare, params.seed)
    for name, rows in splits.items():
        write_csv(out / f"{name}.csv", rows[COLUMNS])
    write_json(out / "labels.json", {"labels": source.labels})
    write_json(summary, {**summarise(splits, dropped), "origins": source.origins})
    counts = ", ".join(f"{len(rows)} {name}" for name, rows in splits.items())
    print(
        f"prepare: {counts}; dropped {dropped['duplicates']} duplicates and {dropped['conflicting']} conflicting rows"
        + (f", {dropped['across_splits']} of the duplicates from other splits" if "across_splits" in dropped else "")
    )


if __name__ == "__main__":
    stage.run(main)
