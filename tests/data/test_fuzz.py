"""Any small table: the rows that were written come back with the same values, or one error says why not."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from table_files import SUFFIXES, WRITERS, broken, tables, texts, write

from fincompress.core.data_sections import FilesParams
from fincompress.core.errors import InputError
from fincompress.data.further import read_unlabelled
from fincompress.data.readers import read_files

LABELS = ["bad", "good"]


def params(path: Path, **changes) -> FilesParams:
    values = {"text_column": "text", "label_column": "label", "source_column": None, "phenomenon_column": None}
    return FilesParams(path=str(path), labels=LABELS, **{**values, **changes})


@settings(max_examples=1400)
@given(table=tables(columns=("label", "text")), labels=st.lists(st.sampled_from(LABELS), min_size=5, max_size=5))
def test_rows_come_back_with_the_same_values(table, labels):
    suffix, columns, rows = table
    rows = [[label, *row[1:]] for label, row in zip(labels, rows, strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), suffix, columns, rows)
        try:
            frame = read_files(params(path))
        except InputError as error:
            assert "\n" not in str(error) and path.name in str(error)
            assert any(not row[1].strip() for row in rows) or "quotation marks" in str(error), error
        else:
            assert frame[["label", "text"]].to_numpy().tolist() == [[label, text.strip()] for label, text, *_ in rows]
            assert frame["id"].is_unique
        assert list(Path(folder).iterdir()) == [path]


@settings(max_examples=600)
@given(data=st.data(), suffix=st.sampled_from([*SUFFIXES, ".txt"]), rows=st.lists(texts, min_size=1, max_size=4))
def test_a_broken_file_is_read_or_refused_in_one_line(data, suffix, rows):
    cells = [[row, data.draw(st.sampled_from([*LABELS, "other"]))] for row in rows]
    whole = "\n".join(rows).encode() if suffix == ".txt" else WRITERS[suffix](["text", "label"], cells)
    encoding = data.draw(st.sampled_from([None, "utf-8", "cp1252", "utf-16"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(data.draw(broken(whole)))
        for read in (lambda: read_files(params(path, encoding=encoding)), lambda: read_unlabelled(path)):
            try:
                read()
            except InputError as error:
                assert len(str(error).splitlines()) == 1 and path.name in str(error)
