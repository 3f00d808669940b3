"""What the models came from, and which test rows their checkpoint had seen before: `metrics/about/models.json`."""

from pathlib import Path

from fincompress.files import read_json

TRAINED_ON = {
    "prosusai/finbert": {
        "financial_phrasebank": "it was itself fine-tuned on Financial PhraseBank (Araci 2019, arXiv:1908.10063)"
    }
}
"""Published checkpoint, in lower case -> source -> how it is known that the checkpoint has seen its rows."""


def contamination(teacher: str, student: str, trained_on: list[str], sources: list[str]) -> dict[str, str]:
    """Source -> why scores on its test rows are not scores on unseen text; empty where none is known.

    Args:
        teacher, student: the checkpoints that they started from.
        trained_on: sources that the user says the teacher's was trained on.
        sources: those that the test split has.
    """
    seen = [(teacher, source, "params.yaml says so (teacher.trained_on)") for source in trained_on]
    for checkpoint in (student, teacher):
        seen += [(checkpoint, *known) for known in TRAINED_ON.get(checkpoint.lower(), {}).items()]
    return {
        source: f"`{checkpoint}` had seen its rows before: {reason}"
        for checkpoint, source, reason in sorted(seen, key=lambda entry: entry[1])
        if source in sources
    }


def describe(models: Path, sources: list[str]) -> dict:
    """What the teacher and the student in `models` started from, and what follows for the scores.

    Args:
        sources: those that the test split has.
    """
    teacher, student = (read_json(models / name / "training.json") for name in ("teacher", "kd"))
    starts = [model["origin"]["checkpoint"] for model in (teacher, student)]
    return {
        "teacher": teacher["origin"],
        "student": student["origin"],
        "contamination": contamination(*starts, teacher["trained_on"], sources),
        "published": teacher["published"],
    }
