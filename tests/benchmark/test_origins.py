"""What is known of the rows that a checkpoint had seen is said, and nothing else."""

import pytest

from fincompress.benchmark.origins import contamination

SOURCES = ["financial_phrasebank", "fiqa"]


@pytest.mark.parametrize(
    ("teacher", "student", "trained_on", "sources", "seen"),
    [
        ("ProsusAI/finbert", "minilm", [], SOURCES, {"financial_phrasebank": "`ProsusAI/finbert` had seen"}),
        ("prosusai/FinBERT", "minilm", ["fiqa"], SOURCES, {"financial_phrasebank": "Araci 2019", "fiqa": "trained_on"}),
        ("minilm", "ProsusAI/finbert", [], SOURCES, {"financial_phrasebank": "`ProsusAI/finbert` had seen"}),
        ("models/mine", "minilm", ["financial_phrasebank"], SOURCES, {"financial_phrasebank": "`models/mine` had"}),
        ("ProsusAI/finbert", "minilm", [], ["fiqa"], {}),
        ("minilm", "teacher", [], SOURCES, {}),
    ],
)
def test_contamination_is_told_by_source(teacher, student, trained_on, sources, seen):
    told = contamination([teacher, student], trained_on, sources)
    assert set(told) == set(seen)
    assert all(part in told[source] for source, part in seen.items())
