"""Every architecture runs through the whole library, and needs nothing there but its adapter."""

import ast
import copy
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from conftest import LABELS, ROOT, make_tokenizer
from onnxruntime.transformers.fusion_options import FusionOptions
from settings import training_params
from transformers import AutoModelForSequenceClassification as AutoClassifier
from transformers import BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig

from fincompress.compress.hidden_layers import Compared, add_projections, intermediate_objective, teacher_targets
from fincompress.compress.importance import head_importance
from fincompress.compress.ptq import to_onnx_int8, to_openvino_int8
from fincompress.compress.qat import fake_quantize
from fincompress.compress.soft_labels import add_teacher_logits, soft_label_objective
from fincompress.compress.sparsity import HoldZeros, zero_smallest
from fincompress.compress.student import build_student
from fincompress.core.errors import InputError
from fincompress.core.sections import IkdParams, PtqParams, StudentParams
from fincompress.data.sources import read_embedded
from fincompress.networks.architectures import ARCHITECTURES
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_for_labels, load_model, load_tokenizer, output_layer, save
from fincompress.networks.structure import remove, structure_of
from fincompress.networks.training import train
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import to_onnx
from fincompress.runtimes.registry import open_classifier

SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
CONFIGS = {
    "bert": BertConfig(vocab_size=600, max_position_embeddings=48, **SHAPE),
    "distilbert": DistilBertConfig(
        vocab_size=600, max_position_embeddings=48, dim=32, n_layers=3, n_heads=4, hidden_dim=64
    ),
    "electra": ElectraConfig(vocab_size=600, embedding_size=16, max_position_embeddings=48, **SHAPE),
    "roberta": RobertaConfig(vocab_size=600, max_position_embeddings=50, type_vocab_size=1, pad_token_id=0, **SHAPE),
}
TRAINING = training_params(epochs=1, batch_size=8, weight_decay=0.01, dropout=0.0, warmup_ratio=0.0)
PTQ = PtqParams(calibration_samples=8, keep_classifier_float=False, embedding_group=None)
every_architecture = pytest.mark.parametrize("model_type", ARCHITECTURES)


@pytest.fixture(autouse=True)
def outside_any_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkpoint(model_type, tmp_path):
    """A random classifier of the architecture, with a tokenizer that would also give token types."""
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[model_type])
    config.id2label, config.label2id = dict(enumerate(LABELS)), {name: index for index, name in enumerate(LABELS)}
    model = AutoClassifier.from_config(config)
    model.save_pretrained(tmp_path / "whole")
    make_tokenizer().save_pretrained(tmp_path / "whole")
    loaded, tokenizer = load_for_labels(str(tmp_path / "whole"), LABELS, max_length=48)
    save(loaded, tokenizer, tmp_path / "teacher", {})
    return tmp_path / "teacher"


def some_rows():
    return read_embedded().groupby("label").head(8)


@every_architecture
def test_a_checkpoint_of_every_architecture_is_pruned_masked_recovered_and_served_in_int8(checkpoint, tmp_path):
    rows = some_rows()
    model, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    dataset = tokenise(rows, LABELS, tokenizer)
    for criterion in ("entropy", "attention", "gradient", "magnitude"):
        assert np.isfinite(head_importance(model, tokenizer, dataset, criterion, seed=0)).all()
    remove(model, [(0, 0), (0, 1), (2, 3)], [np.array([1, 2])] * 3)
    zero_smallest(model, 0.5)
    dataset = add_teacher_logits(dataset, load_model(str(checkpoint)), tokenizer)
    train(
        model,
        tokenizer,
        dataset,
        dataset.remove_columns("teacher_logits"),
        TRAINING,
        seed=0,
        scratch=tmp_path / "scratch",
        curves=tmp_path / "curves",
        objective=soft_label_objective(4.0, 0.7),
        callbacks=[HoldZeros(model)],
    )
    save(model, tokenizer, tmp_path / "pruned", {})
    assert structure_of(load_model(str(tmp_path / "pruned"))).ffn_widths == [62] * 3
    texts = rows["text"].tolist()
    logits = predict_logits(open_classifier(tmp_path / "pruned", "torch", 1), texts)
    to_onnx(tmp_path / "pruned", tmp_path / "onnx")
    exported = predict_logits(open_classifier(tmp_path / "onnx", "onnxruntime", 1), texts)
    np.testing.assert_allclose(exported, logits, atol=1e-4)
    to_openvino_int8(tmp_path / "pruned", tmp_path / "ov", PTQ, texts[:8])
    to_onnx_int8(tmp_path / "pruned", tmp_path / "ort", PTQ)
    for folder, runtime in (("ov", "openvino"), ("ort", "onnxruntime")):
        quantised = predict_logits(open_classifier(tmp_path / folder, runtime, 1), texts)
        assert np.abs(quantised - logits).max() < 0.1 * np.ptp(logits) + 0.02


@every_architecture
def test_a_student_of_every_architecture_learns_from_all_of_its_teacher(checkpoint, tmp_path):
    shape = {"layers": 2, "hidden_size": 32, "attention_heads": 4, "intermediate_size": 64}
    params = StudentParams(**shape, layer_selection="first", init="teacher", revision="main")
    student, tokenizer, _ = build_student(str(checkpoint), params)
    teacher = load_model(str(checkpoint))
    copied = student.base_model.state_dict()
    assert all(torch.equal(tensor, teacher.base_model.state_dict()[name]) for name, tensor in copied.items())
    ours, theirs = (Compared(layers, 4, "scores", embedding=True) for layers in ([0, 1], [0, 2]))
    add_projections(student, 32, 3)
    dataset = tokenise(some_rows(), LABELS, tokenizer)
    learning = IkdParams(
        **dict(TRAINING),
        temperature=4.0,
        alpha=0.5,
        attention="scores",
        lambda_hidden=1.0,
        lambda_attention=0.1,
        lambda_embedding=1.0,
        layer_map=None,
    )
    with_targets, targets = teacher_targets(dataset, teacher, tokenizer, theirs, tmp_path / "targets")
    summary = train(
        student,
        tokenizer,
        with_targets,
        dataset,
        learning,
        seed=0,
        scratch=tmp_path / "scratch",
        curves=tmp_path / "curves",
        objective=intermediate_objective(learning, ours, targets),
    )
    assert 0 <= summary["val_macro_f1"] <= 1


@every_architecture
def test_every_architecture_is_fused_for_onnx_runtime_at_equal_logits(checkpoint, tmp_path):
    to_onnx(checkpoint, tmp_path / "onnx")
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "onnx" / "model.onnx").graph.node)
    assert operators["Attention"] == len(structure_of(load_model(str(checkpoint))).kept_heads)
    assert not operators["Softmax"]
    texts = some_rows()["text"].tolist()
    expected = predict_logits(open_classifier(checkpoint, "torch", 1), texts)
    for batch_size in (1, 5):  # lengths and batches that the example of the export did not have
        found = predict_logits(open_classifier(tmp_path / "onnx", "onnxruntime", 1), texts, batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@every_architecture
def test_a_pruned_network_is_fused_with_each_layers_own_number_of_heads(checkpoint, tmp_path):
    model, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    remove(model, [(0, 1), (2, 0), (2, 3)], [np.arange(5), np.arange(9), np.arange(3)])
    save(model, tokenizer, tmp_path / "pruned", {})
    to_onnx(tmp_path / "pruned", tmp_path / "onnx")
    nodes = [node for node in onnx.load(tmp_path / "onnx" / "model.onnx").graph.node if node.op_type == "Attention"]
    heads = [attribute.i for node in nodes for attribute in node.attribute if attribute.name == "num_heads"]
    assert heads == [3, 4, 2]
    texts = some_rows()["text"].tolist()
    expected = predict_logits(open_classifier(tmp_path / "pruned", "torch", 1), texts)
    found = predict_logits(open_classifier(tmp_path / "onnx", "onnxruntime", 1), texts)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_network_whose_attention_is_not_recognised_is_exported_in_plain_operators_with_a_warning(
    tmp_path, monkeypatch
):
    save(AutoClassifier.from_config(CONFIGS["bert"]), make_tokenizer(), tmp_path / "checkpoint", {})
    monkeypatch.setattr("onnxruntime.transformers.fusion_options.FusionOptions", Unable)
    with pytest.warns(UserWarning, match="attention was recognised in 0 of 3 layers: exported in plain operators"):
        to_onnx(tmp_path / "checkpoint", tmp_path / "onnx")
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "onnx" / "model.onnx").graph.node)
    assert operators["Softmax"] == 3 and not operators["Attention"]


class Unable(FusionOptions):
    """Options with which the optimiser recognises no attention."""

    def __setattr__(self, name, value):
        super().__setattr__(name, False if name == "enable_attention" else value)


@every_architecture
def test_every_architecture_can_be_fake_quantised(checkpoint):
    model, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    batch = tokenizer(["Profit rose."], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**batch).logits
        quantised = fake_quantize(model, tokenizer, some_rows()["text"].tolist()[:8], True)(**batch).logits
    assert 0 < (quantised - expected).abs().max() < 0.1


@every_architecture
def test_a_text_as_long_as_the_model_takes_is_classified_and_a_longer_limit_is_refused(checkpoint, tmp_path):
    text = "profit " * 60
    assert len(load_tokenizer(str(checkpoint))([text], truncation=True)["input_ids"][0]) == 48
    assert np.isfinite(predict_logits(open_classifier(checkpoint, "torch", 1), [text])).all()
    with pytest.raises(InputError, match=r"params.yaml: baseline.max_length: 49 is over the 48 of"):
        load_for_labels(str(checkpoint), LABELS, 49, "baseline")


@every_architecture
def test_the_output_layer_is_the_one_that_gives_the_logits(checkpoint):
    model, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    seen = []
    output_layer(model).register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        logits = model(**tokenizer(["Profit rose."], return_tensors="pt")).logits
    assert torch.equal(seen[0], logits)


def test_no_other_module_knows_an_architecture():
    """A new architecture is one adapter: no other module names a model type or a class of one."""
    named = {}
    for file in [*(ROOT / "fincompress").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        if file.name in ("architectures.py", "shape_benchmark.py"):  # the second builds random networks to measure
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & set(ARCHITECTURES)
        classes = ("Bert", "DistilBert", "Roberta")  # ELECTRA is what embeddings are factorised into
        found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id.startswith(classes)}
        if found:
            named[file.name] = found
    assert named == {}
