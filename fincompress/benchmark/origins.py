"""What the models came from, and which test rows their checkpoint had seen before: `metrics/about/models.json`."""

from pathlib import Path

from fincompress.core.files import read_json
from fincompress.core.registry import Pipeline

TRAINED_ON = {
    "prosusai/finbert": {
        "financial_phrasebank": "it was itself fine-tuned on Financial PhraseBank (Araci 2019, arXiv:1908.10063)"
    }
}
"""Published checkpoint, in lower case -> source -> how it is known that the checkpoint has seen its rows."""


CHECKPOINTS = {"minilm": {"hub_id": "sentence-transformers/all-MiniLM-L6-v2", "licence": "apache-2.0"}}
"""Checkpoint that params.yaml can name without its hub id -> that id, and its weights' licence."""

DATA_SETS = {
    "financial_phrasebank": {
        "title": "Financial PhraseBank (Malo et al. 2014)",
        "repository": "takala/financial_phrasebank",
        "licence": "CC BY-NC-SA 3.0, so not for commercial use",
    },
    "fiqa": {
        "title": "FiQA-2018 (Maia et al. 2018)",
        "repository": "pauri32/fiqa-2018",
        "licence": "for research",
    },
}
"""Source of the home case -> what must be said of it where a model that learnt from it is shipped."""


def base_model(checkpoint: str) -> str | None:
    """The hub id of a checkpoint; None where it is a local folder."""
    if checkpoint in CHECKPOINTS:
        return CHECKPOINTS[checkpoint]["hub_id"]
    return None if Path(checkpoint).is_dir() else checkpoint


def licence(origins: dict, source: str) -> tuple[str, str]:
    """What is known of a model's licence: its identifier on the hub, and why it is no better known.

    Args:
        origins: the content of metrics/about/models.json.
        source: `prepare.source`; the embedded corpus has the project's own licence and binds a model to nothing.
    """
    checkpoint = origins["teacher"]["checkpoint"]
    known = CHECKPOINTS.get(checkpoint)
    if known and source == "embedded":
        return known["licence"], ""
    return "unknown", (
        f"It follows from that of `{checkpoint}` and from those of the data; say it in `ship.license` (params.yaml)."
    )


def contamination(checkpoints: list[str], trained_on: list[str], sources: list[str]) -> dict[str, str]:
    """Source -> why scores on its test rows are not scores on unseen text; empty where none is known.

    Args:
        checkpoints: what the teacher and, if there is one, the student started from, in this order.
        trained_on: sources that the user says the teacher's was trained on.
        sources: those that the test split has.
    """
    seen = [(checkpoints[0], source, "params.yaml says so (`trained_on`)") for source in trained_on]
    for checkpoint in reversed(checkpoints):
        seen += [(checkpoint, *known) for known in TRAINED_ON.get(checkpoint.lower(), {}).items()]
    return {
        source: f"`{checkpoint}` had seen its rows before: {reason}"
        for checkpoint, source, reason in sorted(seen, key=lambda entry: entry[1])
        if source in sources
    }


def describe(models: Path, pipeline: Pipeline, sources: list[str]) -> dict:
    """What the teacher and the student in `models` started from, and what follows for the scores.

    Args:
        pipeline: what the models are of; its `kd` has the student, if there is one.
        sources: those that the test split has.
    """
    teacher = read_json(models / pipeline.reference / "training.json")
    has_student = any(network.name == "kd" for network in pipeline.networks)
    student = read_json(models / "kd" / "training.json") if has_student else {"origin": None}
    starts = [model["origin"]["checkpoint"] for model in (teacher, student) if model["origin"]]
    return {
        "teacher": teacher["origin"],
        "student": student["origin"],
        "contamination": contamination(starts, teacher["trained_on"], sources),
        "published": teacher["published"],
    }
