"""The study of bulk scoring, on few rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studies import bulk_scoring


def test_rows_with_columns_of_many_types_are_scored_by_a_random_model_and_measured(monkeypatch):
    monkeypatch.setattr(bulk_scoring, "GROUP", 40)
    rate, megabytes = bulk_scoring.study(None, 100)
    assert rate > 0 and 50 < megabytes < 400
    text = bulk_scoring.page(100, "a model", rate, megabytes, "a command")
    assert f"| 100 | {rate:,.0f} | {megabytes:.0f} |" in text and "Made by `a command`." in text


@pytest.mark.parametrize(
    "changed",
    [
        pa.table({"id": pa.array([1], pa.int32()), "text": ["a"]}),
        pa.table({"id": pa.array([2, 1], pa.int32()), "text": ["a", "b"]}),
        pa.table({"id": pa.array([1, 2], pa.int64()), "text": ["a", "b"]}),
        pa.table({"text": ["a", "b"], "id": pa.array([1, 2], pa.int32())}),
    ],
)
def test_an_output_with_other_rows_types_or_values_is_not_accepted(tmp_path, changed):
    pq.write_table(pa.table({"id": pa.array([1, 2], pa.int32()), "text": ["a", "b"]}), tmp_path / "in.parquet")
    bulk_scoring.check(tmp_path / "in.parquet", tmp_path / "in.parquet")
    pq.write_table(changed, tmp_path / "out.parquet")
    with pytest.raises(ValueError, match=r"out\.parquet"):
        bulk_scoring.check(tmp_path / "in.parquet", tmp_path / "out.parquet")
