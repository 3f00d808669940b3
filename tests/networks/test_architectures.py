"""Every architecture runs through the whole library, and needs nothing there but its adapter."""

import ast
import dataclasses
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from conftest import LABELS, ROOT, few_rows
from onnxruntime.transformers.fusion_options import FusionOptions
from real_shapes import LIMITS, save_checkpoint
from settings import training_params

from fincompress.compress.hidden_layers import (
    Compared,
    add_projections,
    drop_projections,
    intermediate_objective,
    teacher_targets,
)
from fincompress.compress.importance import head_importance
from fincompress.compress.ptq import to_onnx_int8, to_openvino_int8
from fincompress.compress.qat import fake_quantize
from fincompress.compress.soft_labels import add_teacher_logits, soft_label_objective
from fincompress.compress.sparsity import HoldZeros, zero_smallest
from fincompress.compress.student import build_student
from fincompress.compress.tiny import add_targets, build_tiny, tiny_objective
from fincompress.compress.vocabulary import fixed_front, prune_embedding, prune_vocabulary
from fincompress.core.errors import InputError
from fincompress.core.sections import IkdParams, PtqParams, StudentParams, TinyParams
from fincompress.networks.architectures import ARCHITECTURES, Architecture
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_for_labels, load_model, load_tokenizer, output_layer, save
from fincompress.networks.logits import model_logits
from fincompress.networks.structure import encoder_layers, remove, structure_of
from fincompress.networks.training import set_dropout, train
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import to_onnx, to_openvino
from fincompress.runtimes.registry import open_classifier

TRAINING = training_params(epochs=1, batch_size=8, weight_decay=0.01, dropout=0.0, warmup_ratio=0.0)
PTQ = PtqParams(calibration_samples=8, keep_classifier_float=False, embedding_group=None)
SUPPORTED = list(ARCHITECTURES)
PAGE = (ROOT / "docs/architectures.md").read_text(encoding="utf-8")
EXAMPLE, CODE = re.findall(r"<!-- example: (.*?) -->\n```python\n(.*?)```", PAGE, re.DOTALL)[0]
"""The model type that the page about architectures adds, and the entry that it writes for it."""
every_architecture = pytest.mark.parametrize("model_type", [*SUPPORTED, EXAMPLE])


@pytest.fixture(autouse=True)
def outside_any_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def with_the_example_of_the_page(monkeypatch):
    assert EXAMPLE not in SUPPORTED, "an example has to be of an architecture that is not there yet"
    entry = eval(compile(CODE, "docs/architectures.md", "eval"), {"Architecture": Architecture})
    monkeypatch.setitem(ARCHITECTURES, EXAMPLE, entry)


@pytest.fixture
def checkpoint(model_type, tmp_path):
    """A random classifier of the architecture, in its real shape, as the stage `teacher` loads and saves it."""
    save_checkpoint(model_type, tmp_path / "whole")
    loaded, tokenizer = load_for_labels(str(tmp_path / "whole"), LABELS, max_length=LIMITS.get(model_type, 48))
    save(loaded, tokenizer, tmp_path / "teacher", {})
    return tmp_path / "teacher"


def some_rows():
    return few_rows(8)


def some_heads(model) -> list[tuple[int, int]]:
    """Heads to remove, of several layers where there are several."""
    last = len(structure_of(model).kept_heads) - 1
    return sorted({(0, 0), (0, 1), (last, 3)})


@every_architecture
def test_rows_of_a_head_are_matched_by_name(model_type, tmp_path):
    save_checkpoint(model_type, tmp_path / "whole")
    names = ["positive", "negative"]
    whole = load_model(str(tmp_path / "whole"))
    model, tokenizer = load_for_labels(str(tmp_path / "whole"), names, max_length=48)
    batch = tokenizer(some_rows()["text"].tolist()[:4], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(model(**batch).logits, whole(**batch).logits[:, [2, 0]])


@every_architecture
def test_a_checkpoint_of_every_architecture_is_pruned_masked_recovered_and_served_in_int8(checkpoint, tmp_path):
    rows = some_rows()
    model, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    dataset = tokenise(rows, LABELS, tokenizer)
    for criterion in ("entropy", "attention", "gradient", "magnitude"):
        assert np.isfinite(head_importance(model, tokenizer, dataset, criterion, seed=0)).all()
    layers = len(structure_of(model).kept_heads)
    remove(model, some_heads(model), [np.array([1, 2])] * layers)
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
    assert structure_of(load_model(str(tmp_path / "pruned"))).ffn_widths == [62] * layers
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
    places = {"scratch": tmp_path / "scratch", "curves": tmp_path / "curves"}
    before = losses(student, tokenizer, dataset, teacher)
    objective = intermediate_objective(learning, ours, targets)
    train(student, tokenizer, with_targets, dataset, learning, seed=0, objective=objective, **places)
    drop_projections(student)
    assert losses(student, tokenizer, dataset, teacher) != before
    places = {"scratch": tmp_path / "further", "curves": tmp_path / "curves"}
    soft = add_teacher_logits(dataset, teacher, tokenizer)
    training = TRAINING.model_copy(update={"epochs": 3, "learning_rate": 1e-3})
    before = losses(student, tokenizer, dataset, teacher)
    train(student, tokenizer, soft, dataset, training, seed=0, objective=soft_label_objective(4.0, 1.0), **places)
    assert losses(student, tokenizer, dataset, teacher) < before


def losses(student, tokenizer, dataset, teacher) -> float:
    """How far a student's logits are from its teacher's."""
    ours, theirs = (model_logits(dataset, model, tokenizer, "logits") for model in (student, teacher))
    return float(np.square(ours - theirs).mean())


@every_architecture
def test_every_architecture_is_converted_at_equal_logits_whole_and_pruned(checkpoint, model_type, tmp_path):
    """Fused for ONNX Runtime, each layer with its own number of heads, where there is an operator for its attention."""
    model, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    remove(model, some_heads(model))
    save(model, tokenizer, tmp_path / "pruned", {})
    texts = [*some_rows()["text"], "profit rose " * 40]
    for source, heads in ((checkpoint, [4, 4, 4]), (tmp_path / "pruned", [2, 4, 3])):
        expected = predict_logits(open_classifier(source, "torch", 1), texts, 5)
        to_onnx(source, tmp_path / "onnx")
        to_openvino(source, tmp_path / "openvino")
        for runtime in ("onnxruntime", "openvino"):
            folder = tmp_path / runtime.removesuffix("runtime")
            for batch_size in (1, 5):  # lengths and batches that the example of the export did not have
                found = predict_logits(open_classifier(folder, runtime, 1), texts, batch_size)
                np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=runtime)
        nodes = onnx.load(tmp_path / "onnx" / "model.onnx").graph.node
        found = [attribute.i for node in nodes for attribute in node.attribute if attribute.name == "num_heads"]
        plain = [node for node in nodes if node.op_type == "Softmax"]
        assert (found, len(plain)) == ((heads, 0) if ARCHITECTURES[model_type].fused_attention else ([], 3))


def test_the_page_says_of_every_architecture_what_it_can_do():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")
    ]
    table = {row[0].strip("`"): row[1:] for row in rows if row[0].strip("`") in SUPPORTED}
    assert list(table) == SUPPORTED
    for model_type, (_, trained, heads, vocabulary, factorised, converted, fused) in table.items():
        adapter = ARCHITECTURES[model_type]
        assert trained == vocabulary == converted == "yes"
        assert heads == ("of all layers together" if adapter.shared_layers else "yes")
        assert factorised.startswith("yes") == (adapter.norms is not None and model_type != "electra")
        assert fused == ("yes" if adapter.fused_attention else "no")
    fields = {
        name for row in re.findall(r"^\| .* \| (`.*) \|$", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)", row)
    }
    assert fields <= {field.name for field in dataclasses.fields(Architecture)}


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_every_architecture_is_served_without_torch(checkpoint, tmp_path):
    to_onnx(checkpoint, tmp_path / "onnx")
    script = (
        "import sys\n"
        "from fincompress import load_classifier\n"
        "print(load_classifier(sys.argv[1], threads=1)(['Profit rose.', 'Sales fell by 3 % in the quarter.']))\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "onnx")]
    served = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert served.count("label=") == 2


def test_a_network_whose_attention_is_not_recognised_is_exported_in_plain_operators_with_a_warning(
    tmp_path, monkeypatch
):
    save_checkpoint("bert", tmp_path / "checkpoint")
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
def test_a_text_as_long_as_the_model_takes_is_classified_and_a_longer_limit_is_refused(checkpoint, model_type):
    text, limit = "profit " * 600, LIMITS.get(model_type, 48)
    assert len(load_tokenizer(str(checkpoint))([text], truncation=True)["input_ids"][0]) == limit
    assert np.isfinite(predict_logits(open_classifier(checkpoint, "torch", 1), [text, "Profit rose."])).all()
    message = rf"params.yaml: baseline.max_length: {limit + 1} is over the {limit} of"
    with pytest.raises(InputError, match=message):
        load_for_labels(str(checkpoint), LABELS, limit + 1, "baseline")


@every_architecture
def test_texts_that_lose_no_piece_have_the_same_logits_after_vocabulary_pruning(checkpoint, tmp_path):
    texts = some_rows()["text"].tolist()
    model, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    expected = predict_logits(open_classifier(checkpoint, "torch", 1), texts, 5)
    pruned = prune_vocabulary(tokenizer, texts, front=fixed_front(model.config))
    prune_embedding(model, pruned.rows)
    save(model, pruned.tokenizer, tmp_path / "pruned", {})
    assert len(pruned.tokenizer) < len(tokenizer)
    assert pruned.tokenizer.pad_token_id == model.config.pad_token_id
    to_onnx(tmp_path / "pruned", tmp_path / "onnx")
    for folder, runtime in (("pruned", "torch"), ("onnx", "onnxruntime")):
        found = predict_logits(open_classifier(tmp_path / folder, runtime, 1), texts, 5)
        np.testing.assert_allclose(found, expected, atol=1e-5)


TINY = {
    "layers": 2,
    "layer_selection": "evenly_spaced",
    "attention_heads": 2,
    "intermediate_size": 32,
    "vocabulary_min_count": 1,
    "embedding_size": None,
    "lambda_hidden": 1.0,
    "source": "teacher",
    "importance": "fisher",
    "importance_batches": None,
    "temperature": 4.0,
    "alpha": 0.7,
}


@every_architecture
def test_a_tiny_student_of_every_architecture_is_cut_out_and_learns(checkpoint, tmp_path):
    params = TinyParams(**{**dict(TRAINING), **TINY})
    rows, source, tokenizer = some_rows(), load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    scored = tokenise(rows, LABELS, tokenizer)
    student, smaller = build_tiny(load_model(str(checkpoint)), tokenizer, scored, rows["text"].tolist(), params, 0)
    dataset = add_teacher_logits(tokenise(rows, LABELS, smaller), source, tokenizer, scored)
    with_targets, targets = add_targets(dataset, smaller, source, tokenizer, [0, 2], tmp_path / "targets")
    places = {"scratch": tmp_path / "scratch", "curves": tmp_path / "curves"}
    objective, validation = tiny_objective(params, targets), dataset.remove_columns("teacher_logits")
    train(student, smaller, with_targets, validation, params, seed=0, objective=objective, **places)
    save(student, smaller, tmp_path / "tiny", {})
    loaded = load_model(str(tmp_path / "tiny"))
    layers = len(structure_of(source).kept_heads)
    assert [len(heads) for heads in structure_of(loaded).kept_heads] == [2] * min(2, layers)
    assert loaded.config.num_hidden_layers == 2 and loaded.config.vocab_size == len(smaller) < len(tokenizer)
    to_onnx_int8(tmp_path / "tiny", tmp_path / "ort", PtqParams(**{**dict(PTQ), "embedding_group": 1}))
    texts = rows["text"].tolist()
    exact = predict_logits(open_classifier(tmp_path / "tiny", "torch", 1), texts)
    found = predict_logits(open_classifier(tmp_path / "ort", "onnxruntime", 1), texts)
    assert np.abs(found - exact).max() < 0.1 * np.ptp(exact) + 0.05


@every_architecture
def test_embeddings_are_factorised_or_refused_before_anything_is_scored(checkpoint, model_type, monkeypatch):
    params = TinyParams(**{**dict(TRAINING), **TINY, "embedding_size": 16})
    rows, source, tokenizer = some_rows(), load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    scored = tokenise(rows, LABELS, tokenizer)
    if model_type in ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", EXAMPLE):
        student, _ = build_tiny(source, tokenizer, scored, rows["text"].tolist(), params, 0)
        assert student.config.model_type == "electra" and student.config.embedding_size == 16
        return
    monkeypatch.setattr("fincompress.compress.tiny.importance_of", lambda *arguments: pytest.fail("scored"))
    reason = "are factorised already" if model_type in ("electra", "albert") else "cannot have factorised embeddings"
    with pytest.raises(InputError, match=rf"^params.yaml: tiny.embedding_size: .*`{model_type}` {reason}"):
        build_tiny(source, tokenizer, scored, rows["text"].tolist(), params, 0)


@pytest.mark.parametrize("key", ["num_hidden_groups", "inner_group_num"])
def test_an_albert_whose_layers_are_not_all_one_is_refused_when_it_is_loaded(key, tmp_path):
    save_checkpoint("albert", tmp_path / "whole", **{key: 3})
    with pytest.raises(
        InputError, match=rf"whole`: config.json: {key}: 3 is not supported for the type `albert`: 1 is"
    ):
        load_for_labels(str(tmp_path / "whole"), LABELS, 48)


def test_a_student_has_the_kinds_of_attention_of_the_layers_that_it_copies(tmp_path):
    save_checkpoint("modernbert", tmp_path / "whole", num_hidden_layers=6)  # every third is global
    shape = {"hidden_size": 32, "attention_heads": 4, "intermediate_size": 64, "init": "teacher", "revision": "main"}
    kinds = {
        ("evenly_spaced", 3): ["full_attention", "sliding_attention", "sliding_attention"],
        ("first", 4): ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    }
    for (selection, layers), expected in kinds.items():
        params = StudentParams(**shape, layers=layers, layer_selection=selection)
        assert build_student(str(tmp_path / "whole"), params)[0].config.layer_types == expected
    random = StudentParams(**{**shape, "init": "random", "layers": 8, "layer_selection": "first", "hidden_size": 16})
    assert len(build_student(str(tmp_path / "whole"), random)[0].config.layer_types) == 8


def test_a_start_that_is_another_kind_of_network_is_refused(tmp_path):
    save_checkpoint("deberta-v2", tmp_path / "whole")
    save_checkpoint("deberta-v2", tmp_path / "start", share_att_key=False, position_buckets=128)
    shape = {"hidden_size": 32, "attention_heads": 4, "intermediate_size": 64, "layers": 2, "revision": "main"}
    params = StudentParams(**shape, layer_selection="first", init=str(tmp_path / "start"))
    message = r"^params.yaml: student.init: .*start` has no `deberta.encoder.rel_embeddings.weight` of size \[512, 32\]"
    with pytest.raises(InputError, match=message):
        build_student(str(tmp_path / "whole"), params)
    save_checkpoint("modernbert", tmp_path / "local")
    save_checkpoint("modernbert", tmp_path / "global", layer_types=["full_attention"] * 3)
    params = StudentParams(**shape, layer_selection="first", init=str(tmp_path / "global"))
    with pytest.raises(InputError, match=r"student.init: the layers \[0, 1\] of .*global` have other layer_types"):
        build_student(str(tmp_path / "local"), params)


def test_dropout_reaches_attention_that_holds_a_number(tmp_path):
    save_checkpoint("modernbert", tmp_path / "whole")
    model, tokenizer = load_for_labels(str(tmp_path / "whole"), LABELS, 48)
    set_dropout(model, 0.5)
    layer = encoder_layers(model)[1]
    assert layer.attn.attention_dropout == 0.5 and layer.attn.out_drop.p == 0.5
    batch = tokenizer(["Profit rose."], return_tensors="pt")
    assert not torch.equal(model.train()(**batch).logits, model(**batch).logits)


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
