"""Fisher information against finite differences, and the refit against least squares."""

import numpy as np
import pytest
import torch
from random_classifiers import CONFIGS, HEADS, LAYERS, SIZE, VARIANTS, WIDTH, classifier

from fincompress.compress.fisher import fisher_information, fitted, remove_refitted
from fincompress.compress.importance import visit_inputs
from fincompress.networks.architectures import ARCHITECTURES
from fincompress.networks.batches import length_batches
from fincompress.networks.structure import encoder_layers, head_projections, linears, remove, residuals, structure_of

TYPES = [*CONFIGS, *VARIANTS, "albert"]


def log_probabilities(model, tokenizer, rows) -> torch.Tensor:
    """[rows, labels], float64."""
    found = torch.empty(len(rows), 3, dtype=torch.float64)
    with torch.inference_mode():
        for places, batch in length_batches(rows, tokenizer):
            names = ["input_ids", "attention_mask"]
            found[places] = model(**{name: batch[name] for name in names}).logits.double().log_softmax(dim=-1)
    return found


def scaled(module, start: int, end: int, factor: float):
    """While the hook is there, these inputs of a linear layer are multiplied."""

    def apply(_module, inputs):
        values = inputs[0].clone()
        values[..., start:end] *= factor
        return values

    return module.register_forward_pre_hook(apply)


@pytest.mark.parametrize("model_type", ["bert", "albert", "modernbert"])
@pytest.mark.parametrize(("part", "width"), [("attention_output", SIZE), ("output", 1)])
def test_the_information_is_that_of_finite_differences(part, width, model_type, rows, tokenizer):
    model, rows = classifier(model_type).double(), rows.select(range(6)).remove_columns("token_type_ids")
    heads, neurons = fisher_information(model, tokenizer, rows)
    layers = 1 if model_type == "albert" else LAYERS
    assert [len(scores) for scores in heads] == [HEADS] * layers
    assert [len(scores) for scores in neurons] == [WIDTH] * layers
    for layer, unit in ((0, 1), (layers - 1, 3)):
        sides, step = [], 1e-4
        for sign in (1, -1):
            module = linears(model, part)[layer]
            hook = scaled(module, unit * width, (unit + 1) * width, 1 + sign * step)
            sides.append(log_probabilities(model, tokenizer, rows))
            hook.remove()
        slope = (sides[0] - sides[1]) / (2 * step)  # [rows, labels]
        expected = (log_probabilities(model, tokenizer, rows).exp() * slope.square()).sum(dim=1).mean()
        found = (heads if part == "attention_output" else neurons)[layer][unit]
        assert found == pytest.approx(float(expected), rel=1e-3)  # ModernBERT turns its queries in fp32


def test_a_neuron_that_does_nothing_has_no_information(rows, tokenizer):
    model = classifier()
    with torch.no_grad():
        linears(model, "output")[1].weight[:, 5] = 0
    _, neurons = fisher_information(model, tokenizer, rows)
    assert neurons[1][5] == 0 and (np.delete(neurons[1], 5) > 0).all()


def test_the_refit_is_that_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 12, generator=generator, dtype=torch.float64)
    inputs[:, 7] = inputs[:, 2] + 0.1 * torch.randn(200, generator=generator, dtype=torch.float64)
    weight, kept = torch.randn(5, 12, generator=generator, dtype=torch.float64), np.array([0, 2, 3, 4, 8, 9, 10])
    wanted, left = inputs @ weight.T, inputs[:, kept]
    expected = np.linalg.lstsq(left.numpy(), wanted.numpy(), rcond=None)[0].T
    found = fitted(weight[:, kept], left.T @ left, wanted.T @ left)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("model_type", TYPES)
def test_what_a_twin_can_take_over_is_removed_without_a_trace(model_type, rows, tokenizer):
    model = classifier(model_type)
    place = min(1, len(encoder_layers(model)) - 1)
    with torch.no_grad():
        for found, count in head_projections(model):
            repeat(found[place], count, slice(0, SIZE), slice(SIZE, 2 * SIZE))
        repeat(
            linears(model, "intermediate")[place], 1 + (model_type.startswith("modernbert")), slice(4, 5), slice(9, 10)
        )
        if model_type == "mpnet":
            biases = model.base_model.encoder.relative_attention_bias.weight
            biases[:, 1] = biases[:, 0]
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    rows = rows.remove_columns("token_type_ids")
    before = log_probabilities(model, tokenizer, rows)
    neurons = [np.array([9]) if layer == place else np.array([], int) for layer in range(len(encoder_layers(model)))]
    remove_refitted(model, tokenizer, rows, [(place, 1)], neurons)
    assert len(structure_of(model).kept_heads[place]) == HEADS - 1
    torch.testing.assert_close(log_probabilities(model, tokenizer, rows), before, atol=2e-3, rtol=1e-3)


def repeat(linear, matrices: int, first: slice, second: slice) -> None:
    """Give rows of a linear layer the values of others, in each of the matrices that it has one above another."""
    for parameter in linear.parameters():
        for matrix in parameter.chunk(matrices):
            matrix[second] = matrix[first]


@pytest.mark.parametrize("model_type", ["bert", "deberta-v2 with a convolution", "modernbert"])
def test_a_layer_is_fitted_to_what_comes_in_now_that_those_before_it_are_fitted(model_type, rows, tokenizer):
    """Worked anew, by numpy: what the last layer's output needs, given everything before it."""
    whole, refit = classifier(model_type), classifier(model_type)
    tokenizer.model_input_names = list(ARCHITECTURES[whole.config.model_type].inputs)
    remove_refitted(refit, tokenizer, rows, [(0, 0)], [np.arange(20), np.array([], int), np.arange(8)])
    last = LAYERS - 1
    old, new = (np.concatenate(real_inputs(model, last, tokenizer, rows), axis=1) for model in (whole, refit))
    weights = [linears(model, "output")[last].weight.detach().double().numpy() for model in (whole, refit)]
    wanted = old[:, :WIDTH] @ weights[0].T + old[:, WIDTH:] - new[:, WIDTH - 8 :]
    expected = np.linalg.lstsq(new[:, : WIDTH - 8], wanted, rcond=None)[0].T
    error = lambda weight: np.square(new[:, : WIDTH - 8] @ weight.T - wanted).mean()  # noqa: E731
    assert error(weights[1]) == pytest.approx(error(expected), rel=0.02)


def real_inputs(model, layer, tokenizer, rows) -> list[np.ndarray]:
    """What goes into a layer's output and what that is added to, at real positions, float64 [positions, features]."""
    found: list[list[np.ndarray]] = [[], []]

    def keep(place: int, inputs, mask) -> None:
        found[place].append(inputs[mask.bool()].double().numpy())

    modules = [linears(model, "output")[layer], residuals(model, "output")[layer]]
    visit_inputs(model, tokenizer, rows, modules, keep)
    return [np.concatenate(batches) for batches in found]


def test_a_refitted_layer_is_nearer_to_its_old_output_than_one_that_was_only_cut(rows, tokenizer):
    whole, cut, refit = classifier(), classifier(), classifier()
    neurons = [np.arange(20)] * LAYERS
    remove(cut, [(0, 0)], neurons)
    remove_refitted(refit, tokenizer, rows, [(0, 0)], neurons)
    expected = log_probabilities(whole, tokenizer, rows)
    errors = [float((log_probabilities(model, tokenizer, rows) - expected).square().mean()) for model in (cut, refit)]
    assert errors[1] < 0.5 * errors[0]
