"""Every criterion is the one that was published, found again by plain loops, differences or definitions."""

import math

import numpy as np
import pytest
import torch
from random_classifiers import CONFIGS, HEADS, LAYERS, SIZE, WIDTH, classifier

from fincompress.compress.importance import head_importance, neuron_importance
from fincompress.compress.pruning import least_important
from fincompress.networks.architectures import ARCHITECTURES
from fincompress.networks.structure import encoder_layers, linears, remove, structure_of


@pytest.mark.parametrize("model_type", CONFIGS)
def test_entropy_importance_is_that_of_plain_loops_over_every_sentence_alone(model_type, tokenizer, rows):
    model = classifier(model_type)
    usual = model.config._attn_implementation
    tokenizer.model_input_names = ARCHITECTURES[model_type].inputs
    remove(model, [(0, 2)])
    expected = brute_force_entropy(model, rows)
    scored = head_importance(model, tokenizer, rows, "entropy", seed=0)
    assert np.isnan(scored[0, 2]) and np.isnan(scored).sum() == 1
    np.testing.assert_allclose(scored, expected, atol=1e-5)
    assert np.nanmin(scored) > 0 and np.nanmax(scored) - np.nanmin(scored) > 0.01
    assert model.config._attn_implementation == usual


def brute_force_entropy(model, rows) -> np.ndarray:
    """1 - mean over all queries of -Σ p ln p / ln n, one unpadded sentence at a time, in plain Python."""
    usual = model.config._attn_implementation
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
    model.set_attn_implementation(usual)
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
                states = outputs.hidden_states[layer]
                if model_type == "modernbert":  # normalises before it attends, and has the values in the last third
                    states = encoder_layers(model)[layer].attn_norm(states)
                value = linears(model, "value")[layer](states)[0][:, -len(kept) * SIZE :]  # [seq, heads · size]
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
