"""The load test of the server: its page, and locust against a server for a moment."""

import pytest
from http_servers import serving_app

from fincompress.serving.classifier import Prediction
from fincompress.serving.server_app import About, create_app
from fincompress.serving.server_limits import Limits
from studies import load


class Parrot:
    """An engine whose answers are known."""

    joins, calls, ready = True, 1, True

    async def classify(self, texts: list[str]) -> list[Prediction]:
        return [Prediction(text, text[0], {text[0]: 1.0}) for text in texts]

    def close(self) -> None:
        pass


def prepared(said: str) -> list[dict]:
    return [
        {"texts": ["a text", "b text"], "predictions": [{"label": x, "probabilities": {x: 1.0}} for x in ("a", said)]}
    ]


@pytest.mark.parametrize(("said", "wrong"), [("b", False), ("c", True)])
def test_answers_are_counted_and_wrong_ones_are_found(said, wrong, tmp_path):
    with serving_app(create_app(Parrot(), About("parrot", "0"), Limits())) as address:
        seen = load.load(f"http://127.0.0.1:{address.port}", prepared(said), 2, 2, 40.0, tmp_path)
    answered = seen.statuses["200"]
    assert answered == len(seen.ms) > 5 and seen.texts == 2 * answered and seen.lost == 0
    assert seen.wrong == (answered if wrong else 0) and seen.per_s < 2 * 80


def test_the_page_holds_what_was_measured():
    full = load.Load(10, {"200": 10}, 8000, 0, 0, [30.0])
    over = load.Load(60, {"200": 10, "429": 20, "503": 1}, 600, 2, 0, [100.0])
    watched = load.Watched([100.0] * 30 + [101.0] * 70, [1.0, 3.0])
    text = load.page(
        load.Report("m", 1000.0, 1.0, full, full, over, watched),
        {"cpu": "a CPU", "vector_instructions": ["avx2"], "memory_gb": 8.0},
        2,
        "Not alone.",
        "a command",
    )
    assert "800, 80% of `predict`'s" in text and "10 and 20 of 31 requests" in text
    assert "30.0 × the model's p50" in text and "| wrong and lost answers, of 51 | 2 and 1 | 0 |" in text
    assert "a CPU (avx2), 2 threads, 8.0 GB. Not alone." in text and "Made by `a command`." in text
