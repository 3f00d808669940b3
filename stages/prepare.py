"""prepare: read labelled texts, clean them, split them."""

from pathlib import Path

from fincompress import stage
from fincompress.files import atomic_file, write_json
from fincompress.params import load_params
from fincompress.sources import read_source
from fincompress.splitting import clean, split, split_training, summarise, without


def main(out: Path = Path("data"), summary: Path = Path("metrics/about/data.json")) -> None:
    """Write OUT/{train,val,test}.csv and OUT/labels.json (the names in id order)."""
    params = load_params("seed", "prepare")
    source = read_source(params.prepare)
    frame, dropped = clean(source.rows)
    if source.test is None:
        splits = split(frame, source.labels, params.prepare, params.seed)
    else:
        training = without(frame, source.test)
        dropped["in_test"] = len(frame) - len(training)
        splits = {**split_training(training, source.labels, params.prepare, params.seed), "test": source.test}
    for name, rows in splits.items():
        with atomic_file(out / f"{name}.csv") as path:
            rows.to_csv(path, index=False, lineterminator="\n")
    write_json(out / "labels.json", {"labels": source.labels})
    write_json(summary, {**summarise(splits, dropped), "origins": source.origins})
    counts = ", ".join(f"{len(rows)} {name}" for name, rows in splits.items())
    print(
        f"prepare: {counts}; dropped {dropped['duplicates']} duplicates and {dropped['conflicting']} conflicting rows"
    )


if __name__ == "__main__":
    stage.run(main)
