"""Model cards: what a shipped folder holds, how to load it, what it scores and costs, and what it is not for.

The front matter is in the Hugging Face hub's format (https://huggingface.co/docs/hub/model-cards).
"""

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from fincompress.benchmark.origins import DATA_SETS, base_model, licence
from fincompress.core.examples import EXAMPLES
from fincompress.core.files import read_json
from fincompress.core.registry import pipeline_of
from fincompress.core.runtimes import RUNTIMES
from fincompress.core.variants import Variant
from fincompress.report import tables
from fincompress.report.groups import largest_counts
from fincompress.report.results import Results
from fincompress.report.templating import template

NAMED = 3  # groups of test rows that a card names as the hardest, and as the easiest
FEWEST_ROWS = 10  # in such a group


def card(variant: Variant, results: Results, data: dict, source: str, chosen_licence: str | None) -> str:
    """The card of a variant, in Markdown with the hub's front matter.

    Args:
        data: the content of metrics/about/data.json.
        source: `prepare.source`, where the labelled texts come from.
        chosen_licence: the user's choice; None says what is known.
    """
    record, runtime, precision = results.records[variant.name], RUNTIMES[variant.runtime], _precision(variant)
    identifier, why = (chosen_licence, "") if chosen_licence else licence(results.models, source)
    config = read_json(variant.folder / "config.json")
    names, example = list(dict.fromkeys((variant.name, results.reference))), next(iter(EXAMPLES))
    columns = {
        title: [cell(results, name) for name in names]
        for title, cell in {**tables.COSTS, **tables.BEHAVIOUR}.items()
        if title != "Pareto"
    }
    return template("report", "card.md").render(
        front_matter=_front_matter(variant, record, results, source, identifier),
        variant=variant,
        made_by=pipeline_of(results.records).network(variant.network).made_by,
        format=f"{runtime.title} in {precision}",
        labels=list(config["id2label"].values()),
        pruned="pruned_structure" in config,
        max_length=read_json(variant.folder / "tokenizer_config.json")["model_max_length"],
        names=names,
        columns=columns,
        record=record,
        example=example,
        answer=results.examples.get(example, {}).get(variant.name),
        groups=_groups(results, variant.name),
        results=results,
        data=data,
        train_sources=largest_counts(data["sources"]["train"]),
        source=source,
        data_sets=[DATA_SETS[name] for name in data["sources"]["train"] if name in DATA_SETS],
        origins=_origins(variant, results.models),
        contamination=tables.contamination_notes(results.models),
        license=identifier,
        why=why,
    )


def _precision(variant: Variant) -> str:
    """The precision of a variant's weights: a checkpoint is fp32, and a converted one int8."""
    return "fp32" if variant.runtime == "torch" else "int8"


def _origins(variant: Variant, models: dict) -> list[str]:
    """What the weights started from, in words: for the teacher and, if it is a student, for the student."""
    said = {"teacher": "the teacher's own layers", "random": "random weights"}

    def words(origin: dict) -> str:
        commit = f" at {origin['commit']}" if origin["commit"] else ""
        return said.get(origin["checkpoint"], f"`{origin['checkpoint']}`{commit}")

    student = [f"The student started from {words(models['student'])}."] if variant.network in ("kd", "ikd") else []
    return [f"The teacher started from {words(models['teacher'])}.", *student]


def _front_matter(variant: Variant, record: dict, results: Results, source: str, identifier: str) -> str:
    score: dict[str, Any] = {
        "task_type": "text-classification",
        "dataset_type": source,
        "dataset_name": f"{source}, test split",
    }
    return ModelCardData(
        license=identifier,
        base_model=base_model(results.models["teacher"]["checkpoint"]),
        datasets=[entry["repository"] for name, entry in DATA_SETS.items() if source == "financial"] or None,
        language=None if source == "files" else "en",
        library_name=RUNTIMES[variant.runtime].library,
        pipeline_tag="text-classification",
        tags=["fincompress", variant.network, _precision(variant)],
        metrics=["f1", "accuracy"],
        model_name=variant.name,
        eval_results=[
            EvalResult(**score, metric_type="f1", metric_name="macro F1", metric_value=record["macro_f1"]),
            EvalResult(**score, metric_type="accuracy", metric_name="accuracy", metric_value=record["accuracy"]),
        ],
    ).to_yaml()


def _groups(results: Results, name: str) -> dict[str, list[dict]]:
    """`hardest` and `easiest`: the groups of test rows (phenomena, or sources if there are none) by accuracy."""
    table = results.breakdown
    rows = table[(table["variant"] == name) & (table["rows"] >= FEWEST_ROWS)]
    for group in ("phenomenon", "source"):
        part = rows[rows["group"] == group]
        if len(part):
            chosen = {"hardest": part.nsmallest(NAMED, "accuracy"), "easiest": part.nlargest(NAMED, "accuracy")}
            return {title: some[["value", "accuracy", "rows"]].to_dict("records") for title, some in chosen.items()}
    return {}
