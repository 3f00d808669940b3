"""Heads and neurons are scored as published, removed for good, and the pruned model saves, loads and resumes."""

import argparse
import copy
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LABELS, ROOT, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import (
    AutoModelForSequenceClassification as AutoClassifier,
)
from transformers import (
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from fincompress import pruning, pruning_study, surgery
from fincompress.architectures import ARCHITECTURES
from fincompress.checkpoints import load_model, load_tokenizer, save
from fincompress.dataset import tokenise
from fincompress.distillation import build_student
from fincompress.errors import InputError
from fincompress.export import to_onnx
from fincompress.files import read_json
from fincompress.importance import head_importance, neuron_importance
from fincompress.params import FirstPruneParams, StudentParams, load_params
from fincompress.pruning import least_important, predict, prune, removal_schedule, scoring_rows
from fincompress.runtime import open_classifier, predict_logits
from fincompress.sources import read_embedded
from fincompress.surgery import Structure, linears, remove, structure_of
from fincompress.training import SCRATCH

LAYERS, HEADS, SIZE, WIDTH = 3, 4, 8, 64
SAME = {"vocab_size": 600, "num_labels": 3}
CONFIGS = {
    "bert": BertConfig(
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=WIDTH,
        **SAME,
    ),
    "roberta": RobertaConfig(
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=WIDTH,
        pad_token_id=0,
        **SAME,
    ),
    "distilbert": DistilBertConfig(dim=32, n_layers=LAYERS, n_heads=HEADS, hidden_dim=WIDTH, **SAME),
}
TEXTS = [
    "Profit rose.",
    "The board of the company met on Tuesday in Helsinki to talk about costs.",
    "Sales fell by 3 %.",
]
REMOVED = [(0, 1), (0, 3), (2, 0), (2, 1), (2, 3)]


def params(**changes) -> FirstPruneParams:
    values = {
        "source": "teacher",
        "heads_fraction": 0.5,
        "heads_per_round": 0.25,
        "ffn_fraction": 0.0,
        "importance": "entropy",
        "importance_batches": None,
        "epochs": 1,
        "patience": 1,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "dropout": 0.1,
        "warmup_ratio": 0.1,
    }
    return FirstPruneParams(**{**values, **changes})


def classifier(model_type: str = "bert"):
    """A random classifier whose attention and logits are not flat, as fresh weights of scale 0.02 would make them."""
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[model_type])
    config.id2label, config.label2id = dict(enumerate(LABELS)), {name: index for index, name in enumerate(LABELS)}
    model = AutoClassifier.from_config(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=0.4)
                module.bias.normal_(std=0.2)
    return model


@pytest.fixture
def tokenizer():
    tokenizer = copy.deepcopy(make_tokenizer())
    tokenizer.model_max_length = 48
    return tokenizer


@pytest.fixture
def rows(tokenizer):
    """24 labelled rows of unlike lengths."""
    frame = pd.concat(group.head(8) for _, group in read_embedded().groupby("label"))
    return tokenise(frame, LABELS, tokenizer)


@pytest.fixture(autouse=True)
def outside_any_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def batch_of(model, tokenizer, texts=TEXTS) -> dict:
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (model.config.model_type == "bert")
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    return {name: batch[name] for name in names}


def logits(model, tokenizer) -> torch.Tensor:
    with torch.inference_mode():
        return model(**batch_of(model, tokenizer)).logits


def mask_features(linear, positions) -> None:
    """Zero these input features of a linear layer, as a mask on heads or neurons does."""

    def hook(_module, inputs):
        masked = inputs[0].clone()
        masked[..., positions] = 0
        return masked

    linear.register_forward_pre_hook(hook)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_pruned_model_equals_the_whole_one_with_its_heads_and_neurons_masked(model_type, tokenizer):
    pruned, masked = classifier(model_type), classifier(model_type)
    neurons = [np.array([0, 5]), np.array([], dtype=int), np.array([63])]
    for layer, head in REMOVED:
        mask_features(linears(masked, "attention_output")[layer], list(range(head * SIZE, (head + 1) * SIZE)))
    for layer, positions in enumerate(neurons):
        mask_features(linears(masked, "output")[layer], positions)
    whole, parameters = logits(pruned, tokenizer), pruned.num_parameters()
    remove(pruned, REMOVED, neurons)
    assert (logits(pruned, tokenizer) - logits(masked, tokenizer)).abs().max() <= 1e-5
    assert (logits(pruned, tokenizer) - whole).abs().max() > 1e-2
    a_head, a_neuron = 4 * SIZE * 32 + 3 * SIZE, 2 * 32 + 1
    assert parameters - pruned.num_parameters() == len(REMOVED) * a_head + 3 * a_neuron


def test_a_pruned_model_can_be_pruned_again(tokenizer):
    twice, once = classifier(), classifier()
    remove(twice, REMOVED[:3], [np.array([1])] * LAYERS)
    remove(twice, REMOVED[3:], [np.array([1])] * LAYERS)  # the neuron that was 2 before the first removal
    remove(once, REMOVED, [np.array([1, 2])] * LAYERS)
    assert structure_of(twice) == structure_of(once) == Structure([[0, 2], [0, 1, 2, 3], [2]], [62] * LAYERS)
    torch.testing.assert_close(logits(twice, tokenizer), logits(once, tokenizer), rtol=0, atol=0)


def test_the_last_head_of_a_layer_cannot_be_removed():
    with pytest.raises(ValueError, match="layer 1"):
        remove(classifier(), [(1, head) for head in range(HEADS)])


def test_another_architecture_is_one_clear_error():
    with pytest.raises(InputError, match="type `electra` is not supported; take one of type bert, distilbert"):
        structure_of(
            AutoClassifier.from_config(ElectraConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2))
        )


@pytest.mark.parametrize("model_type", CONFIGS)
def test_entropy_importance_is_that_of_plain_loops_over_every_sentence_alone(model_type, tokenizer, rows):
    model = classifier(model_type)
    tokenizer.model_input_names = ARCHITECTURES[model_type].inputs
    remove(model, [(0, 2)])
    expected = brute_force_entropy(model, rows)
    scored = head_importance(model, tokenizer, rows, "entropy", seed=0)
    assert np.isnan(scored[0, 2]) and np.isnan(scored).sum() == 1
    np.testing.assert_allclose(scored, expected, atol=1e-5)
    assert np.nanmin(scored) > 0 and np.nanmax(scored) - np.nanmin(scored) > 0.01
    assert model.config._attn_implementation == "sdpa"


def brute_force_entropy(model, rows) -> np.ndarray:
    """1 - mean over all queries of -Σ p ln p / ln n, one unpadded sentence at a time, in plain Python."""
    model.set_attn_implementation("eager")
    values = {}
    for ids in rows["input_ids"]:
        with torch.inference_mode():
            attentions = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions
        for layer, kept in enumerate(structure_of(model).kept_heads):
            for position, head in enumerate(kept):
                for query in attentions[layer][0, position].tolist():
                    entropy = -sum(p * math.log(p) for p in query if p > 0)
                    values.setdefault((layer, head), []).append(entropy / math.log(len(ids)))
    model.set_attn_implementation("sdpa")
    expected = np.full((LAYERS, HEADS), np.nan)
    for place, entropies in values.items():
        expected[place] = 1 - sum(entropies) / len(entropies)
    return expected


@pytest.mark.parametrize("criterion", ["entropy", "attention", "gradient", "neurons"])
def test_padding_changes_no_score(criterion, tokenizer, rows):
    def score():
        if criterion == "neurons":
            return np.array(neuron_importance(classifier(), tokenizer, rows))
        return head_importance(classifier(), tokenizer, rows, criterion, seed=0)

    own = score()
    pad = tokenizer.pad
    tokenizer.pad = lambda inputs, **options: pad(inputs, padding="max_length", max_length=64, **options)
    assert tokenizer.pad(rows.select_columns(["input_ids"])[:2], return_tensors="pt")["input_ids"].shape == (2, 64)
    np.testing.assert_allclose(score(), own, rtol=1e-4)


def test_a_head_that_attends_evenly_is_the_least_important_by_entropy(tokenizer, rows):
    model = classifier()
    with torch.no_grad():
        for part in ("query", "key"):
            linears(model, part)[1].weight[2 * SIZE : 3 * SIZE] = 0
            linears(model, part)[1].bias[2 * SIZE : 3 * SIZE] = 0
    scored = head_importance(model, tokenizer, rows, "entropy", seed=0)
    assert scored[1, 2] == pytest.approx(0, abs=1e-5)
    assert least_important(scored, 1) == [(1, 2)]


def test_gradient_importance_agrees_with_finite_differences_sentence_by_sentence(tokenizer, rows):
    model = classifier().double()
    remove(model, [(1, 0)])
    rows = rows.select(range(5))
    expected, step = np.full((LAYERS, HEADS), np.nan), 1e-5
    for layer, kept in enumerate(structure_of(model).kept_heads):
        for position, head in enumerate(kept):
            columns = slice(position * SIZE, (position + 1) * SIZE)
            weight = linears(model, "attention_output")[layer].weight  # scaling its columns is scaling the head
            original = weight.detach().clone()
            losses = []
            for factor in (1 + step, 1 - step):
                with torch.no_grad():
                    weight[:, columns] = original[:, columns] * factor
                losses.append(np.array([sentence_loss(model, row) for row in rows]))
                with torch.no_grad():
                    weight.copy_(original)
            expected[layer, head] = np.abs((losses[0] - losses[1]) / (2 * step)).mean()
    expected /= np.sqrt(np.nansum(expected**2, axis=1, keepdims=True))
    scored = head_importance(model, tokenizer, rows, "gradient", seed=0)
    np.testing.assert_allclose(scored, expected, rtol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


@torch.no_grad()
def sentence_loss(model, row: dict) -> float:
    return model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item()


def test_magnitude_is_the_norm_of_all_weights_of_a_head(tokenizer, rows):
    model = classifier()
    remove(model, [(1, 0)])
    scored = head_importance(model, tokenizer, rows, "magnitude", seed=0)
    whole = classifier()
    for layer, head in ((0, 0), (1, 3), (2, 2)):
        mine = slice(head * SIZE, (head + 1) * SIZE)
        weights = [linears(whole, part)[layer].weight[mine] for part in ("query", "key", "value")]
        weights.append(linears(whole, "attention_output")[layer].weight[:, mine])
        assert scored[layer, head] == pytest.approx(torch.cat([w.flatten() for w in weights]).norm().item(), rel=1e-5)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_attention_importance_is_the_mean_size_of_what_a_head_gives(model_type, tokenizer, rows):
    """By the definition, softmax(QKᵀ/√d)V, from the model's own weights, one unpadded sentence at a time."""
    model = classifier(model_type)
    tokenizer.model_input_names = ARCHITECTURES[model_type].inputs
    remove(model, [(1, 0)])
    scored = head_importance(model, tokenizer, rows, "attention", seed=0)
    model.set_attn_implementation("eager")
    sizes, weights = {}, {}
    for ids in rows["input_ids"]:
        with torch.inference_mode():
            outputs = model(input_ids=torch.tensor([ids]), output_attentions=True, output_hidden_states=True)
            for layer, kept in enumerate(structure_of(model).kept_heads):
                value = linears(model, "value")[layer](outputs.hidden_states[layer])[0]  # [seq, heads · size]
                for position, head in enumerate(kept):
                    attention = outputs.attentions[layer][0, position]  # [seq, seq]
                    context = attention @ value[:, position * SIZE : (position + 1) * SIZE]
                    sizes.setdefault((layer, head), []).extend(context.abs().mean(dim=1).tolist())
                    weights.setdefault((layer, head), []).append(attention.abs().mean().item())
    for place, values in sizes.items():
        assert scored[place] == pytest.approx(sum(values) / len(values), rel=1e-4)
    assert np.isnan(scored[1, 0]) and len(sizes) == LAYERS * HEADS - 1
    means = [sum(values) / len(values) for values in weights.values()]  # of the probabilities: the same for every head
    assert max(means) == pytest.approx(min(means), rel=1e-5)


def test_heads_are_scored_on_as_many_mini_batches_as_asked(rows):
    few = params(importance_batches=2, batch_size=4)
    assert len(scoring_rows(rows, few, seed=0)) == 8 and scoring_rows(rows, params(), seed=0) is rows
    assert scoring_rows(rows, few, seed=0)["input_ids"] == scoring_rows(rows, few, seed=0)["input_ids"]
    assert scoring_rows(rows, few, seed=0)["input_ids"] != scoring_rows(rows, few, seed=1)["input_ids"]
    assert len(scoring_rows(rows, params(importance_batches=99), seed=0)) == len(rows)


def test_random_importance_depends_on_the_seed_alone(tokenizer, rows):
    model = classifier()
    first = head_importance(model, tokenizer, rows, "random", seed=1)
    remove(model, [(1, 0)])
    again = head_importance(model, tokenizer, rows, "random", seed=1)
    assert np.isnan(again[1, 0]) and np.array_equal(again[~np.isnan(again)], first[~np.isnan(again)])
    assert not np.array_equal(head_importance(classifier(), tokenizer, rows, "random", seed=2), first)


def test_neuron_importance_is_the_mean_size_of_what_a_neuron_adds(tokenizer, rows):
    model, rows = classifier(), rows.select(range(4))
    inner: list[torch.Tensor] = []
    linears(model, "output")[1].register_forward_pre_hook(lambda _module, inputs: inner.append(inputs[0][0]))
    with torch.inference_mode():
        for ids in rows["input_ids"]:
            model(input_ids=torch.tensor([ids]))
    activations, weight = torch.cat(inner), linears(model, "output")[1].weight  # [positions, width], [hidden, width]
    expected = [(activations[:, [i]] * weight[:, i]).norm(dim=1).mean().item() for i in range(WIDTH)]
    scored = neuron_importance(model, tokenizer, rows)[1]  # from 6e-5 to 11: the least are sums that cancel out
    np.testing.assert_allclose(scored, expected, rtol=1e-4, atol=1e-6)


scores = st.floats(0, 1, allow_subnormal=False)  # training turns them off for the whole process


@given(
    importance=arrays(np.float64, (4, 5), elements=st.one_of(scores, st.just(0.5))),
    gone=arrays(np.bool_, (4, 5)),
    count=st.integers(0, 16),
)
@settings(max_examples=200)
def test_the_worst_heads_go_but_never_the_last_of_a_layer(importance, gone, count):
    gone[:, 0] = False
    importance = np.where(gone, np.nan, importance)
    removable = int((~gone).sum()) - 4
    if count > removable:
        with pytest.raises(ValueError, match="cannot be removed"):
            least_important(importance, count)
        return
    chosen = least_important(importance, count)
    assert len(set(chosen)) == count and not any(gone[place] for place in chosen)
    left = ~gone
    for place in chosen:
        left[place] = False
    assert left.sum(axis=1).min() >= 1
    for layer in range(4):  # a head that stays, and is not its layer's last, matters no less than any that goes
        if left[layer].sum() > 1 and chosen:
            assert importance[layer][left[layer]].min() >= max(importance[place] for place in chosen)


@given(fraction=st.floats(0.01, 0.99), per_round=st.floats(0.02, 1), layers=st.integers(1, 6), heads=st.integers(1, 12))
@settings(max_examples=200)
def test_a_schedule_removes_exactly_the_fraction_or_names_the_key(fraction, per_round, layers, heads):
    structure = Structure([list(range(heads))] * layers, [8] * layers)
    total = round(fraction * layers * heads)
    chosen = params(heads_fraction=fraction, heads_per_round=per_round)
    if not 0 < total <= layers * (heads - 1):
        with pytest.raises(InputError, match=r"prune50\.heads_fraction"):
            removal_schedule(structure, chosen, "prune50")
        return
    schedule = removal_schedule(structure, chosen, "prune50")
    assert schedule[-1] == total and schedule == sorted(set(schedule))
    assert max(np.diff([0, *schedule])) <= per_round * layers * heads + 1
    assert len(schedule) <= math.ceil(fraction / per_round)


def test_minilm_loses_a_tenth_a_round():
    minilm = Structure([list(range(12))] * 6, [1536] * 6)
    chosen = {fraction: params(heads_fraction=fraction, heads_per_round=0.1) for fraction in (0.3, 0.5)}
    schedule = {fraction: removal_schedule(minilm, values, "x") for fraction, values in chosen.items()}
    assert schedule == {0.3: [7, 14, 22], 0.5: [7, 14, 22, 29, 36]}
    behind = {"rounds": [{"heads_removed": 22, "neurons_removed": 0}]}
    assert removal_schedule(minilm, chosen[0.5], "x", behind) == [29, 36]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads_fraction": 0.95}, r"prune30\.heads_fraction: 0\.95 would remove 11 of 12 heads.*at most 0\.75"),
        ({"heads_fraction": 0.01}, r"prune30\.heads_fraction: 0\.01 removes none of 12 heads.*at least 0\.084"),
        ({"ffn_fraction": 0.999}, r"prune30\.ffn_fraction: 0\.999 would remove all 64 neurons"),
    ],
)
def test_an_impossible_fraction_is_one_clear_error(changes, message):
    with pytest.raises(InputError, match=message):
        removal_schedule(structure_of(classifier()), params(**changes), "prune30")


def run(model, tokenizer, rows, scratch, **changes):
    chosen = params(**changes)
    schedule = removal_schedule(structure_of(model), chosen, "prune50")
    return prune(model, tokenizer, rows, rows, chosen, schedule=schedule, seed=1, scratch=scratch)


@pytest.mark.parametrize("importance", ["entropy", "attention", "magnitude", "gradient", "random"])
def test_pruning_removes_the_exact_count_and_records_every_round(importance, tokenizer, rows, tmp_path):
    model, record = run(classifier(), tokenizer, rows, tmp_path, importance=importance, ffn_fraction=0.25)
    structure = structure_of(model)
    assert sum(map(len, structure.kept_heads)) == 6 and min(map(len, structure.kept_heads)) >= 1
    assert structure.ffn_widths == [48] * LAYERS
    rounds, scores = pd.DataFrame(record["rounds"]), pd.DataFrame(record["importance"])
    assert rounds["heads_removed"].tolist() == [0, 3, 6] and rounds["neurons_removed"].tolist() == [0, 24, 48]
    assert rounds["head_sparsity"].tolist() == [0, 0.25, 0.5]
    assert rounds["parameters"].iloc[-1] == model.num_parameters() < rounds["parameters"].iloc[0]
    assert rounds["val_macro_f1_recovered"].iloc[-1] == pytest.approx(
        pruning.macro_f1(np.array(rows["labels"]), predict(model, tokenizer, rows)), abs=1e-5
    )
    assert scores.groupby("round").size().tolist() == [12, 9]
    assert scores.groupby("round")["kept"].sum().tolist() == [9, 6]
    last = scores[(scores["round"] == 2) & (scores["kept"] == 1)]
    assert [(r.layer, r.head) for r in last.itertuples()] == [
        (layer, head) for layer, kept in enumerate(structure.kept_heads) for head in kept
    ]


def test_pruning_goes_on_from_a_pruned_checkpoint_as_though_it_had_been_one_run(tokenizer, rows, tmp_path):
    whole, whole_record = run(classifier(), tokenizer, rows, tmp_path / "whole", ffn_fraction=0.5)
    half, record = run(classifier(), tokenizer, rows, tmp_path / "half", heads_fraction=0.25, ffn_fraction=0.25)
    save(half, tokenizer, tmp_path / "source", {"pruning": record})
    half, record = load_model(str(tmp_path / "source")), read_json(tmp_path / "source/training.json")["pruning"]
    chosen = params(ffn_fraction=0.5)
    schedule = removal_schedule(Structure(**record["start"]), chosen, "prune50", record)
    assert schedule == [6]
    further = {"schedule": schedule, "seed": 1, "scratch": tmp_path / "further", "record": record}
    model, record = prune(half, tokenizer, rows, rows, chosen, **further)
    assert record == whole_record
    for (name, ours), theirs in zip(model.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    for changes, message in (
        ({"heads_fraction": 0.4}, r"prune50\.heads_fraction: 0\.4 is 5 of 12 heads, but `prune50\.source` has lost 6"),
        ({"heads_fraction": 0.6}, r"prune50\.ffn_fraction: 0\.0 is less than `prune50\.source` has lost already"),
    ):
        with pytest.raises(InputError, match=message):
            removal_schedule(Structure(**record["start"]), params(**changes), "prune50", record)


class Killed(BaseException):
    """Stands for a kill: nothing but the test catches it."""


@pytest.mark.parametrize("moment", ["save", "train"])
def test_pruning_that_is_killed_goes_on_from_its_last_finished_round(moment, tokenizer, rows, tmp_path, monkeypatch):
    whole, whole_record = run(classifier(), tokenizer, rows, tmp_path / "whole", ffn_fraction=0.25)
    calls = {"save": 0, "train": 0}
    originals = {name: getattr(pruning, name) for name in calls}

    def dying(name, limit):
        def call(*arguments, **options):
            calls[name] += 1
            if calls[name] == limit:
                raise Killed
            return originals[name](*arguments, **options)

        return call

    monkeypatch.setattr(pruning, moment, dying(moment, limit=2))
    with pytest.raises(Killed):
        run(classifier(), tokenizer, rows, tmp_path / "killed", ffn_fraction=0.25)
    assert [path.name for path in (tmp_path / "killed").glob("round-*")] == ["round-1"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pruning, "train", dying("train", limit=0))
    calls["train"] = 0
    model, record = run(classifier(), tokenizer, rows, tmp_path / "killed", ffn_fraction=0.25)
    assert calls["train"] == 1, "the finished round ran again"
    assert record == whole_record and structure_of(model) == structure_of(whole)
    for (name, ours), theirs in zip(model.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.fixture
def saved(tokenizer, tmp_path):
    """(folder, model): an uneven pruned checkpoint."""
    model = classifier()
    remove(model, REMOVED, [np.array([0, 5]), np.array([7]), np.arange(10)])
    save(model, tokenizer, tmp_path / "pruned", {})
    return tmp_path / "pruned", model


def test_a_pruned_checkpoint_reloads_in_a_fresh_process(saved, tokenizer):
    folder, model = saved
    script = (
        "import sys, torch\n"
        "from fincompress.checkpoints import load_model, load_tokenizer\n"
        "model, tokenizer = load_model(sys.argv[1]), load_tokenizer(sys.argv[1])\n"
        f"print(model(**tokenizer({TEXTS!r}, padding=True, return_tensors='pt')).logits.tolist())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    printed = torch.tensor(json.loads(result.stdout))
    torch.testing.assert_close(printed, logits(model, tokenizer), rtol=0, atol=1e-6)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_a_pruned_checkpoint_exports_and_runs_everywhere_with_the_same_logits(saved, tokenizer, tmp_path):
    folder, model = saved
    to_onnx(folder, tmp_path / "onnx")
    expected = logits(model, tokenizer).numpy()
    for place, runtime in ((folder, "torch"), (tmp_path / "onnx", "onnxruntime")):
        served = predict_logits(open_classifier(place, runtime, threads=1), TEXTS)
        np.testing.assert_allclose(served, expected, atol=1e-4)


def test_a_pruned_checkpoint_stays_a_classifier_for_its_config(saved):
    folder, _ = saved
    reloaded = load_model(str(folder))
    assert reloaded.config.architectures == ["BertForSequenceClassification"]
    assert isinstance(reloaded, surgery.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[BertConfig])
    assert structure_of(reloaded) == Structure([[0, 2], [0, 1, 2, 3], [2]], [62, 63, 54])
    assert load_tokenizer(str(folder)).model_max_length == 48


def test_weights_that_do_not_fit_the_structure_are_one_clear_error(saved):
    folder, _ = saved
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"ffn_widths": [\n      62', '"ffn_widths": [\n      60'))
    assert (folder / "config.json").read_text() != config
    with pytest.raises(InputError, match="pruned"):
        load_model(str(folder))


def test_a_student_cannot_copy_pruned_layers_but_can_start_afresh(saved):
    folder, _ = saved
    shape = {"layers": 2, "layer_selection": "first", "hidden_size": 32, "attention_heads": 4, "intermediate_size": 64}
    shape["revision"] = "main"
    with pytest.raises(InputError, match=r"student\.init: `teacher` is pruned"):
        build_student(str(folder), StudentParams(**shape, init="teacher"))
    student, _, _ = build_student(str(folder), StudentParams(**shape, init="random"))
    assert structure_of(student) == Structure([[0, 1, 2, 3]] * 2, [64, 64]) and not SCRATCH.exists()


def test_the_study_has_a_row_a_criterion_and_seed_and_does_not_repeat_them(saved, tmp_path, monkeypatch):
    folder, _ = saved
    (tmp_path / "data").mkdir()
    frame = pd.concat(group.head(8) for _, group in read_embedded().groupby("label"))
    for name in ("train", "val", "test"):
        frame.to_csv(tmp_path / "data" / f"{name}.csv", index=False)
    (tmp_path / "data/labels.json").write_text(json.dumps({"labels": LABELS}))
    short = load_params("prune30", path=ROOT / "params.yaml").prune30.model_copy(update={"epochs": 0})
    monkeypatch.setattr(pruning_study, "load_params", lambda section: argparse.Namespace(prune30=short))
    out = tmp_path / "results/study.csv"
    rows = pruning_study.study("prune30", [1, 2], folder, tmp_path / "data", out)
    assert list(zip(rows["importance"], rows["seed"], strict=True)) == [
        (criterion, seed)
        for criterion in ("entropy", "attention", "magnitude", "gradient", "random")
        for seed in (1, 2)
    ]
    assert (rows["heads_removed"] == 2).all() and rows["macro_f1"].between(0, 1).all()
    monkeypatch.setattr(pruning_study, "prune", None)
    again = pruning_study.study("prune30", [1, 2], folder, tmp_path / "data", out)
    assert len(again) == 10 and pruning_study.page(again).count("| 2 | 2 |") == 5
