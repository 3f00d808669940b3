"""Embeddings in codes: near the rows they stand for, and the same numbers in ONNX Runtime as in the checkpoint."""

import numpy as np
import onnx
import pytest
import torch
from conftest import few_rows
from random_classifiers import classifier

from fincompress.compress.embedding_codes import encode, with_codes
from fincompress.compress.ptq import to_onnx_int8
from fincompress.core.errors import InputError
from fincompress.core.files import folder_bytes
from fincompress.core.sections import PtqParams
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import optimised, to_onnx
from fincompress.runtimes.registry import open_classifier

PTQ = PtqParams(calibration_samples=8, keep_classifier_float=False, embedding_group=None)
TEXTS = few_rows(6)["text"].tolist()


def rows_of(pieces: int, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(pieces, width)).astype(np.float32)


def test_a_byte_stands_for_the_entry_that_is_nearest():
    table = rows_of(200)
    found = encode(table, 4, seed=0)
    assert found.codes.shape == (200, 8) and found.codes.dtype == np.uint8 and found.book.shape == (256, 4)
    parts = table.reshape(-1, 4)
    distances = np.square(parts[:, None] - found.book[None]).sum(axis=2)  # [parts, entries]
    assert (distances.argmin(axis=1) == found.codes.reshape(-1)).mean() > 0.999, "ties apart"
    np.testing.assert_array_equal(found.table(), found.book[found.codes.reshape(-1)].reshape(200, 32))


def test_the_fewer_numbers_share_a_byte_the_nearer_are_the_rows():
    table = rows_of(600)
    errors = [np.square(encode(table, group, seed=0).table() - table).mean() for group in (1, 2, 4, 8)]
    assert errors[0] < 0.001 < errors[1] < 0.03 < errors[2] < 0.2 < errors[3] < 0.5


def test_codes_are_the_same_each_time_and_exact_where_few_parts_differ():
    table = np.repeat(rows_of(10), 30, axis=0)  # 80 parts that differ
    first, again = (encode(table, 4, seed=3) for _ in range(2))
    assert (first.codes == again.codes).all() and (first.book == again.book).all()
    np.testing.assert_allclose(first.table(), table, atol=1e-6)


def test_the_last_group_of_a_row_is_filled_up():
    table = rows_of(400)
    found = encode(table, 3, seed=0)
    assert found.codes.shape == (400, 11) and found.table().shape == (400, 32)
    assert np.square(found.table() - table).mean() < 0.12


@pytest.fixture(params=["bert", "distilbert", "roberta", "electra"])
def checkpoint(request, tmp_path, tokenizer):
    save(classifier(request.param), tokenizer, tmp_path / "whole", {})
    return tmp_path / "whole"


@pytest.mark.parametrize("group", [2, 3])
def test_onnx_runtime_reads_codes_as_the_table_that_they_stand_for(group, checkpoint, tmp_path):
    model = load_model(str(checkpoint))
    graph = optimised(model)
    with_codes(graph, group, seed=0)
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(torch.from_numpy(encode(table.numpy(force=True), group, seed=0).table()))
    save(model, load_tokenizer(str(checkpoint)), tmp_path / "rounded", {})
    to_onnx(checkpoint, tmp_path / "onnx")
    onnx.save(graph, tmp_path / "onnx/model.onnx")
    found, exact = (
        predict_logits(open_classifier(folder, runtime, 1), TEXTS)
        for folder, runtime in ((tmp_path / "onnx", "onnxruntime"), (tmp_path / "rounded", "torch"))
    )
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_int8_holds_codes_and_loses_about_what_they_lose(checkpoint, tmp_path):
    to_onnx_int8(checkpoint, tmp_path / "table", PTQ)
    to_onnx_int8(checkpoint, tmp_path / "codes", PTQ.model_copy(update={"embedding_group": 2}))
    stored = {tensor.name: tensor for tensor in onnx.load(tmp_path / "codes/model.onnx").graph.initializer}
    (codes,) = (onnx.numpy_helper.to_array(tensor) for name, tensor in stored.items() if name.endswith("_codes"))
    (book,) = (onnx.numpy_helper.to_array(tensor) for name, tensor in stored.items() if name.endswith("_book"))
    assert codes.dtype == np.uint8 and book.dtype == np.float32, "which is not rounded once more"
    table = load_model(str(checkpoint)).get_input_embeddings().weight.numpy(force=True)
    np.testing.assert_array_equal(codes, encode(table, 2, seed=0).codes)
    assert not [name for name in stored if "word_embeddings.weight" in name], "the table itself is gone"
    assert codes.nbytes == table.size / 2 and folder_bytes(tmp_path / "codes") < folder_bytes(tmp_path / "table")
    exact, by_table, by_codes = (
        predict_logits(open_classifier(folder, runtime, 1), TEXTS)
        for folder, runtime in (
            (checkpoint, "torch"),
            (tmp_path / "table", "onnxruntime"),
            (tmp_path / "codes", "onnxruntime"),
        )
    )
    assert np.abs(by_codes - exact).mean() < 2 * np.abs(by_table - exact).mean() + 0.05 * np.ptp(exact)


def test_a_graph_without_an_embedding_of_word_pieces_is_refused():
    node = onnx.helper.make_node("Identity", ["input_ids"], ["logits"])
    value = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, [1])
    graph = onnx.helper.make_model(onnx.helper.make_graph([node], "none", [value], [value]))
    with pytest.raises(InputError, match="no embedding is looked up"):
        with_codes(graph, 2, seed=0)
