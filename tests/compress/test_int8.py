"""int8 after training and during it: the predictions, the bytes, the gradient, the data that is seen."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from conftest import LABELS, ROOT, make_checkpoint
from settings import training_params

from fincompress.compress import qat
from fincompress.compress.ptq import save_torch_int8, to_onnx_int8, to_openvino_int8
from fincompress.core.errors import InputError
from fincompress.core.files import folder_bytes, read_json
from fincompress.core.sections import PtqParams, TrainingParams
from fincompress.data.prepared import calibration_texts
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_for_labels, load_model, load_tokenizer, save
from fincompress.networks.training import train
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import to_onnx, to_openvino
from fincompress.runtimes.quiet import openvino
from fincompress.runtimes.registry import open_classifier

PARAMS = PtqParams(calibration_samples=16, keep_classifier_float=False, embedding_group=None)
RUNTIMES = {
    "fp32": "torch",
    "ov_fp32": "openvino",
    "ov_int8": "openvino",
    "ort_fp32": "onnxruntime",
    "ort_int8": "onnxruntime",
}
INT8 = ("ov_int8", "ort_int8")


def sentences(rows: int, seed: int) -> pd.DataFrame:
    """Rows whose label one word decides, so that a tiny network learns them with a margin."""
    rng = np.random.default_rng(seed)
    words = {"negative": "loss", "neutral": "report", "positive": "profit"}
    labels = rng.choice(LABELS, rows)
    filler = ["the", "company", "said", "sales", "EUR", "million", "of", "in", "quarter", "net"]
    texts = [" ".join([*rng.choice(filler, rng.integers(1, 12)), words[label], "."]) for label in labels]
    return pd.DataFrame({"text": texts, "label": labels})


TRAIN, TEST = sentences(240, seed=0), sentences(120, seed=1)
TEXTS = TEST["text"].tolist()


def training(**changes) -> TrainingParams:
    values = {"epochs": 24, "patience": 24, "batch_size": 8, "weight_decay": 0.0, "dropout": 0.0}
    return training_params(**{**values, **changes})


def fine_tune(model, tokenizer, folder: Path, **changes) -> dict:
    rows = (tokenise(frame, LABELS, tokenizer) for frame in (TRAIN, TEST))
    return train(
        model, tokenizer, *rows, training(**changes), seed=1, scratch=folder / "scratch", curves=folder / "curves"
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """A tiny trained classifier and its conversions."""
    root = tmp_path_factory.mktemp("models")
    model, tokenizer = load_for_labels(str(make_checkpoint(root / "start", layers=2)), LABELS, max_length=48)
    summary = fine_tune(model, tokenizer, root)
    assert summary["val_macro_f1"] > 0.95, "the comparisons below need a model that has learnt its task"
    folders = {name: root / name for name in RUNTIMES}
    save(model, tokenizer, folders["fp32"], summary)
    to_openvino(folders["fp32"], folders["ov_fp32"])
    to_onnx(folders["fp32"], folders["ort_fp32"])
    to_openvino_int8(folders["fp32"], folders["ov_int8"], PARAMS, calibration_texts(TRAIN, 16, seed=0))
    to_onnx_int8(folders["fp32"], folders["ort_int8"], PARAMS)
    return folders


def logits(models, name: str, texts: list[str] = TEXTS) -> np.ndarray:
    return predict_logits(open_classifier(models[name], RUNTIMES[name], threads=1), texts)


def test_openvino_in_fp32_gives_the_logits_of_torch(models):
    np.testing.assert_allclose(logits(models, "ov_fp32"), logits(models, "fp32"), atol=1e-4)


@pytest.mark.parametrize("name", INT8)
def test_int8_predicts_as_fp32_but_not_with_the_same_logits(models, name):
    fp32, int8 = logits(models, "fp32"), logits(models, name)
    assert (fp32.argmax(axis=1) == int8.argmax(axis=1)).mean() >= 0.97
    assert np.abs(fp32 - int8).max() > 1e-3, "nothing was rounded"
    assert len(set(fp32.argmax(axis=1))) == 3, "a constant answer would agree with anything"


def test_torch_int8_predicts_as_fp32(models):
    int8 = predict_logits(open_classifier(models["fp32"], "torch_int8", threads=1), TEXTS)
    fp32 = logits(models, "fp32")
    assert (fp32.argmax(axis=1) == int8.argmax(axis=1)).mean() >= 0.97
    assert np.abs(fp32 - int8).max() > 1e-4


@pytest.mark.parametrize("name", ["ov_fp32", *INT8])
def test_a_saved_model_gives_the_same_logits_in_a_fresh_process(models, name, tmp_path):
    program = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from fincompress.runtimes.base import predict_logits;"
        "from fincompress.runtimes.registry import open_classifier;"
        f"c = open_classifier(Path({str(models[name])!r}), {RUNTIMES[name]!r}, 1);"
        f"np.save({str(tmp_path / 'logits.npy')!r}, predict_logits(c, {TEXTS[:20]!r}));"
        "print([m for m in ('torch', 'transformers', 'nncf', 'openvino_telemetry') if sys.modules.get(m)])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]", "serving should import none of these"
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), logits(models, name, TEXTS[:20]), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "runtime", "threads"),
    [("fp32", "torch_int8", 1), ("ort_int8", "onnxruntime", 1), ("ort_int8", "onnxruntime", 3)],
)
def test_dynamic_int8_says_the_same_of_a_text_whatever_is_beside_it(models, name, runtime, threads):
    alone = predict_logits(open_classifier(models[name], runtime, threads=1), TEXTS, batch_size=1)
    classifier = open_classifier(models[name], runtime, threads)
    np.testing.assert_array_equal(predict_logits(classifier, TEXTS, batch_size=16), alone)
    np.testing.assert_array_equal(predict_logits(classifier, TEXTS[::-3], batch_size=7), alone[::-3])
    together = classifier._forward(classifier.encode(TEXTS))
    assert np.abs(together - alone).max() > 1e-3, "ranges over all texts at once change nothing: no need of this test"


def test_a_loaded_model_stays_what_it_is_when_another_takes_its_place(models, tmp_path):
    folder = shutil.copytree(models["ort_int8"], tmp_path / "model")
    classifier = open_classifier(folder, "onnxruntime", threads=2)
    alone = predict_logits(classifier, TEXTS, batch_size=1)
    (folder / "model.onnx").unlink()
    shutil.copy(models["ort_fp32"] / "model.onnx", folder)
    np.testing.assert_array_equal(predict_logits(classifier, TEXTS, batch_size=16), alone)


@pytest.mark.parametrize("length", [13, 16, 48])
@pytest.mark.parametrize("name", ["ov_fp32", "ov_int8"])
def test_padding_and_buckets_change_no_prediction(models, name, length):
    classifier = open_classifier(models[name], "openvino", threads=1)
    texts = [text for text in TEXTS if classifier.encode([text])["input_ids"].shape[1] <= length][:20]
    assert texts
    alone = np.concatenate([classifier.logits(classifier.encode([text])) for text in texts])
    padded = np.concatenate([classifier.logits(classifier.encode([text], pad_to=length)) for text in texts])
    np.testing.assert_allclose(padded, alone, atol=1e-4)
    exact = np.concatenate([classifier._request.infer(classifier.encode([text]))["logits"] for text in texts])
    np.testing.assert_allclose(alone, exact, atol=1e-4)


def test_lengths_are_rounded_up_to_buckets_within_what_the_model_takes(models):
    classifier = open_classifier(models["ov_fp32"], "openvino", threads=1)

    def bucket(length: int) -> int:
        return classifier._in_bucket({"input_ids": np.ones((2, length), dtype=np.int64)})["input_ids"].shape[1]

    assert [bucket(length) for length in (3, 8, 9, 41, 48, 60)] == [8, 8, 16, 48, 48, 60]
    classifier.max_length = 45
    assert bucket(41) == 45


def test_weights_and_embeddings_are_stored_as_int8(models):
    graph = openvino.Core().read_model(models["ov_int8"] / "openvino_model.xml")
    constants = [node for node in graph.get_ops() if node.get_type_name() == "Constant"]
    large = [node for node in constants if len(node.shape) == 2 and min(node.shape) > 2 and np.prod(node.shape) > 90]
    assert len(large) >= 2 + 2 * 6 and {node.get_element_type().to_string() for node in large} == {"i8"}
    tensors = onnx.load(models["ort_int8"] / "model.onnx").graph.initializer
    large = [t for t in tensors if len(t.dims) == 2 and min(t.dims) > 2 and np.prod(t.dims) > 90]
    bytes_each = {onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize for tensor in large}
    assert len(large) >= 2 + 2 * 4 and bytes_each == {1}, "query, key and value are one matrix there"


def test_an_int8_folder_is_about_a_quarter_of_the_fp32_one(tmp_path):
    """The tiny models above are mostly graph and tokenizer; this one is mostly weights, as a real one is."""
    checkpoint = make_checkpoint(tmp_path / "wide", layers=1, hidden_size=512)
    to_openvino_int8(checkpoint, tmp_path / "ov", PARAMS, TRAIN["text"].head(4).tolist())
    to_onnx_int8(checkpoint, tmp_path / "ort", PARAMS)
    save_torch_int8(checkpoint, tmp_path / "torch")
    fp32 = folder_bytes(checkpoint)
    assert folder_bytes(tmp_path / "ov") <= 0.35 * fp32 and folder_bytes(tmp_path / "ort") <= 0.35 * fp32
    assert 0.25 * fp32 < folder_bytes(tmp_path / "torch") < 0.6 * fp32, "its embeddings stay in fp32"


@pytest.mark.parametrize("fmt", ["ov", "ort"])
def test_the_classifier_can_stay_in_float(models, tmp_path, fmt):
    params = PtqParams(calibration_samples=4, keep_classifier_float=True, embedding_group=None)
    if fmt == "ov":
        to_openvino_int8(models["fp32"], tmp_path / "out", params, TEXTS[:4])
        graph = openvino.Core().read_model(tmp_path / "out" / "openvino_model.xml")
        last = [node for node in graph.get_ordered_ops() if node.get_type_name() == "MatMul"][-1]
        kind = last.input(1).get_source_output().get_node()
        assert kind.get_type_name() == "Constant" and kind.get_element_type().to_string() == "f32"
    else:
        to_onnx_int8(models["fp32"], tmp_path / "out", params)
        tensors = onnx.load(tmp_path / "out" / "model.onnx").graph.initializer
        (head,) = (tensor for tensor in tensors if sorted(tensor.dims) == [3, 32])
        assert head.data_type == onnx.TensorProto.FLOAT


def test_calibration_draws_training_texts_without_repeats():
    texts = calibration_texts(TRAIN.drop_duplicates("text"), 50, seed=3)
    assert len(set(texts)) == 50 and set(texts) <= set(TRAIN["text"])
    assert texts == calibration_texts(TRAIN.drop_duplicates("text"), 50, seed=3)
    assert texts != calibration_texts(TRAIN.drop_duplicates("text"), 50, seed=4)
    assert len(calibration_texts(TRAIN.head(9), 50, seed=3)) == 9


@pytest.fixture
def ptq_stage(tmp_path, monkeypatch):
    """The stage's module, to be run on `models/kd` in a project that has no validation and no test rows."""
    from stages import ptq

    (tmp_path / "data").mkdir()
    TRAIN.to_csv(tmp_path / "data" / "train.csv", index=False)
    (tmp_path / "models").mkdir()
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return ptq


def test_ptq_reads_no_held_out_text(models, ptq_stage, monkeypatch):
    Path("models/kd").symlink_to(models["fp32"])
    seen = []
    monkeypatch.setattr(ptq_stage, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))  # sees the patches
    monkeypatch.setattr(ptq_stage, "load_object", lambda _: lambda checkpoint, out, params, texts: seen.extend(texts))
    ptq_stage.main("ptq", "kd")
    assert seen and set(seen) <= set(TRAIN["text"])


def test_ptq_names_a_missing_checkpoint_and_writes_nothing(ptq_stage):
    with pytest.raises(InputError, match="models/kd"):
        ptq_stage.main("ptq", "kd")
    assert not [path for path in Path("models").rglob("*") if path.is_file()]


def test_a_model_is_the_same_files_whatever_the_process_converted_before(models, tmp_path):
    to_openvino(models["fp32"], tmp_path / "other")
    for name in ("first", "second"):
        to_openvino_int8(models["fp32"], tmp_path / name, PARAMS, TEXTS[:2])
        to_onnx_int8(models["fp32"], tmp_path / f"{name}_ort", PARAMS)
    for first in [*(tmp_path / "first").iterdir(), *(tmp_path / "first_ort").iterdir()]:
        second = tmp_path / first.parent.name.replace("first", "second") / first.name
        assert first.read_bytes() == second.read_bytes(), first.name


def test_a_failing_conversion_leaves_nothing(models, tmp_path, monkeypatch):
    monkeypatch.setattr("fincompress.compress.ptq.save_openvino", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_openvino_int8(models["fp32"], tmp_path / "out", PARAMS, TEXTS[:2])
    assert list(tmp_path.iterdir()) == []


def test_the_gradient_is_straight_through_inside_the_range_and_zero_outside():
    values = torch.tensor([-3.0, -0.9, 0.004, 0.31, 0.9, 2.5], requires_grad=True)
    scale = torch.tensor([1.0])
    low, width = scale * -128 / 127, scale + scale * 128 / 127
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    by_values, by_low, by_width = qat.quantize_backward(upstream, values.detach(), low, width, 256, -128, 127)
    assert by_values.tolist() == [0, 2, 3, 4, 5, 0] and by_low is None
    step = width / 255
    inside = (torch.round(values.detach() / step) * step - values.detach()) / width
    expected = upstream @ torch.tensor([-128 / 127, *inside[1:5].tolist(), 1.0])
    assert by_width.item() == pytest.approx(expected.item(), rel=1e-4)
    assert qat.quantize_backward(upstream, values.detach(), low, width, 256, -128, 127, True)[1].item() == 7


def test_fake_quantisation_rounds_each_channel_to_its_own_256_levels():
    values = torch.randn(4, 500)
    scale = torch.tensor([[0.5], [1.0], [2.0], [4.0]])
    low, width = scale * -128 / 127, scale * 255 / 127
    rounded = qat.quantize_forward(values, low, width, 256)
    levels = rounded / (width / 255)
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert levels.min() >= -128.001 and levels.max() <= 127.001
    clipped = values.clamp(low, low + width)
    assert ((rounded - clipped).abs() <= width / 255 / 2 + 1e-6).all()


def fake_quantized(models):
    tokenizer = load_tokenizer(str(models["fp32"]))
    texts = calibration_texts(TRAIN, 16, seed=0)
    return qat.fake_quantize(load_model(str(models["fp32"])), tokenizer, texts, False), tokenizer


@pytest.fixture(scope="module")
def trained(models, tmp_path_factory):
    """(fake-quantised and fine-tuned model, the folder its states were kept in)."""
    folder = tmp_path_factory.mktemp("qat")
    model, tokenizer = fake_quantized(models)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fine_tune(model, tokenizer, folder, epochs=2, learning_rate=1e-4)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}
    assert any("nncf" in name for name in changed) and "classifier.weight" in changed, "ranges and weights are learnt"
    return model, folder


def test_the_converted_model_predicts_as_the_fake_quantised_one(models, trained, tmp_path):
    model, _ = trained
    result = qat.convert(model, models["fp32"], tmp_path / "qat", TEST, LABELS, {"source": "kd"})
    converted = predict_logits(open_classifier(tmp_path / "qat", "openvino", threads=1), TEXTS)
    expected = qat._predictions(model, models["fp32"], TEXTS)
    assert result["agreement"] == (converted.argmax(axis=1) == expected).mean() >= 0.99
    assert read_json(tmp_path / "qat" / "training.json") == {"source": "kd", "converted": result}
    graph = openvino.Core().read_model(tmp_path / "qat" / "openvino_model.xml")
    types = [node.get_element_type().to_string() for node in graph.get_ops() if node.get_type_name() == "Constant"]
    assert types.count("i8") >= 2 + 2 * 6
    assert folder_bytes(tmp_path / "qat") < 1.1 * folder_bytes(models["ov_int8"])


def test_a_conversion_that_predicts_otherwise_and_worse_is_refused(models, trained, tmp_path, monkeypatch):
    untrained = load_model(str(make_checkpoint(tmp_path / "untrained", layers=2)), num_labels=len(LABELS))
    convert_model = qat.as_openvino
    monkeypatch.setattr(qat, "as_openvino", lambda model: convert_model(untrained))
    with pytest.raises(InputError, match=r"only \d+\.\d% of the validation texts and loses 0\.\d+ macro F1"):
        qat.convert(trained[0], models["fp32"], tmp_path / "out" / "qat", TEST, LABELS, {})
    assert list((tmp_path / "out").iterdir()) == []


def test_a_conversion_that_predicts_otherwise_but_no_worse_is_kept(models, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(qat, "_predictions", lambda model, source, texts: np.zeros(len(texts), dtype=int))
    result = qat.convert(trained[0], models["fp32"], tmp_path / "qat", TEST, LABELS, {})
    assert result["agreement"] < qat.MIN_AGREEMENT and result["val_macro_f1"] > 0.9
    assert (tmp_path / "qat" / "openvino_model.bin").is_file()


def test_interrupted_qat_resumes_and_ends_as_an_uninterrupted_one(models, trained):
    model, folder = trained
    last = max((folder / "scratch").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (last / "trainer_state.json").unlink()
    again, tokenizer = fake_quantized(models)
    fine_tune(again, tokenizer, folder, epochs=2, learning_rate=1e-4)
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())


def test_nothing_reports_over_the_network():
    program = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('looked for the network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from fincompress.runtimes.quiet import load_nncf\n"
        "load_nncf()\n"
        "import threading; print(sys.modules['openvino_telemetry'], threading.active_count())"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split()[0] == "None" and result.stderr == ""
