"""Damaged files of a model are told from whole ones by their own form, and named."""

import json
import struct

import pytest
from odd_checkpoints import POINTER, copied, in_parts

from fincompress.core.errors import InputError
from fincompress.core.model_files import damage, read_object, reading, safetensors_header, weight_files


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.onnx", b"", "empty"),
        ("a.bin", b" \n ", "blank"),
        ("a.onnx", POINTER, "a Git LFS pointer in place of the file (`git lfs pull` brings it)"),
        ("a.json", b"{nope", "not JSON (line 1, column 2: Expecting property name enclosed in double quotes)"),
        ("a.json", b"\xff\xfe{}", "not JSON"),
        ("a.xml", b"<!DOCTYPE html" + b">", None),
        ("a.xml", b"PK\x03\x04", "not XML"),
        ("a.safetensors", b"junk" * 100, "not safetensors, or cut short within its header"),
        ("a.safetensors", struct.pack("<Q", 2) + b"[]", "not safetensors, or cut short within its header"),
        ("a.bin", b"anything", None),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_its_form(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    assert damage(tmp_path / name) == what


def test_safetensors_are_whole_to_the_last_byte(checkpoint, tmp_path):
    file = copied(checkpoint, tmp_path / "copy") / "model.safetensors"
    whole = file.read_bytes()
    assert damage(file) is None
    assert safetensors_header(file)["classifier.weight"]["shape"] == [3, 32]
    file.write_bytes(whole[:-1])
    assert damage(file) == f"cut short: {len(whole) - 1:,} of {len(whole):,} bytes"
    file.write_bytes(whole[:100])
    assert "header" in damage(file)


@pytest.mark.parametrize(
    ("content", "what"),
    [("", "empty"), ("[1]", "holds list where an object is expected"), ("{" * 3000, "not JSON"), ("null", "NoneType")],
)
def test_what_is_no_object_is_one_line_with_the_mend(tmp_path, content, what):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: .*fetch it again$") as caught:
        read_object(tmp_path / "config.json")
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_a_part_that_an_index_names_must_be_there_and_beside_it(checkpoint, tmp_path):
    folder = copied(checkpoint, tmp_path / "copy")
    in_parts(folder)
    parts = weight_files(folder)
    assert parts == sorted(folder.glob("model-*.safetensors"))
    parts[1].unlink()
    with pytest.raises(InputError, match=rf"of which {parts[1].name} is missing; fetch it too"):
        weight_files(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../other.safetensors"}}))
    with pytest.raises(InputError, match=r"names \.\./\.\./other\.safetensors, which is not a file beside it"):
        weight_files(folder)
    index.write_text("{}")
    with pytest.raises(InputError, match="no weight_map"):
        weight_files(folder)


def test_a_mistake_of_our_own_keeps_its_traceback_where_the_file_is_whole(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"whole")
    with pytest.raises(IndexError), reading(tmp_path / "a.bin", by="torch", raises=(OSError,)):
        raise IndexError("ours")
    (tmp_path / "a.bin").write_bytes(b"")
    with (
        pytest.raises(InputError, match=r"a\.bin: empty; fetch it again"),
        reading(tmp_path / "a.bin", by="torch", raises=(OSError,)),
    ):
        raise IndexError("theirs")
