"""Quantisation-aware training: int8 fake quantisation in the forward pass, a straight-through gradient, conversion.

Rounding has no useful gradient, so inside a quantiser's range the gradient is passed straight through (Bengio et al.
2013, arXiv:1308.3432), and outside it is stopped. Ranges are learnt with the weights (Jain et al. 2020,
arXiv:1903.08066).
NNCF inserts the quantisers: https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide.html
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fincompress.compress.ptq import nncf_options
from fincompress.core.errors import InputError
from fincompress.core.files import atomic_folder, write_json
from fincompress.networks.checkpoints import output_layer
from fincompress.networks.scores import macro_f1
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import as_openvino, save_openvino, spell_out_local_attention
from fincompress.runtimes.openvino import OpenVinoClassifier
from fincompress.runtimes.pytorch import TorchClassifier
from fincompress.runtimes.quiet import load_nncf, quiet

MIN_AGREEMENT = 0.99
MAX_LOSS = 0.01  # of macro F1


def fake_quantize(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], keep_classifier_float: bool
) -> PreTrainedModel:
    """`model` with a quantiser on every weight and activation that is int8 at inference, ready to be trained.

    Args:
        texts: training texts that set the initial ranges of the activations.
    """
    nncf = load_nncf()
    _use_own_quantizers()
    spell_out_local_attention(model)  # now, because quantisers are placed where operations are
    names = {module: name for name, module in model.named_modules()}
    ignored = [f"{names[output_layer(model)].replace('.', '/')}/linear/0"] if keep_classifier_float else []
    dataset = nncf.Dataset(texts, lambda text: dict(tokenizer(text, truncation=True, return_tensors="pt")))
    with quiet():
        model = nncf.quantize(model, dataset, subset_size=len(texts), **nncf_options(ignored))
    model.register_state_dict_post_hook(_store_apart)
    return model


def quantize_forward(values: torch.Tensor, low: torch.Tensor, width: torch.Tensor, levels: int) -> torch.Tensor:
    """`values` clipped to `[low, low + width]` and rounded to the nearest of `levels` even steps, one of which is 0.

    Args:
        values: any shape.
        low, width: one number, or one per channel ([channels, 1, …] along the only axis that is longer than 1).

    Returns:
        The values that the integers stand for, as floats of the same shape.
    """
    step = width / (levels - 1)
    zero = torch.round(-low / step).to(torch.int32)
    if step.numel() == 1:
        return torch.fake_quantize_per_tensor_affine(values, step.reshape(()), zero.reshape(()), 0, levels - 1)
    axis = max(range(step.dim()), key=lambda dimension: step.shape[dimension])
    return torch.fake_quantize_per_channel_affine(values, step.reshape(-1), zero.reshape(-1), axis, 0, levels - 1)


def quantize_backward(
    gradient: torch.Tensor,
    values: torch.Tensor,
    low: torch.Tensor,
    width: torch.Tensor,
    levels: int,
    level_low: int,
    level_high: int,
    asymmetric: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """The straight-through gradient of `quantize_forward`, given the gradient of its result.

    With x the values and q their quantised form: dq/dx is 1 inside the range and 0 outside; dq/dwidth is
    (q - x) / width inside, 1 above, and level_low / level_high below, because a symmetric range moves with its width;
    dq/dlow is 0 inside and 1 outside.

    Returns:
        Gradients of `values`, `low` (None for a symmetric range, which follows its width) and `width`.
    """
    below, above = values < low, values > low + width
    by_width = (quantize_forward(values, low, width, levels) - values).div_(width)
    by_width.masked_fill_(below, level_low / level_high).masked_fill_(above, 1.0).mul_(gradient)
    by_values = gradient.masked_fill(below | above, 0.0)
    by_low = (gradient - by_values).sum_to_size(low.shape) if asymmetric else None
    return by_values, by_low, by_width.sum_to_size(width.shape)


def _use_own_quantizers() -> None:
    """Make NNCF's quantisers run the two functions above.

    NNCF would compile C++ for them on first use, and behave differently without a compiler. Built from torch's fused
    operations, they are as fast and need none.
    """
    from nncf.torch.quantization import extensions

    functions = SimpleNamespace(Quantize_forward=quantize_forward, Quantize_backward=quantize_backward)
    extensions.QuantizedFunctionsCPU._loaded_namespace = functions
    extensions.QuantizedFunctionsCUDA._loaded_namespace = functions


def _store_apart(module: torch.nn.Module, state: dict[str, torch.Tensor], prefix: str, metadata: dict) -> None:
    """Give each name its own copy of a shared tensor (the ranges of an input to three layers), as safetensors requires.

    The copies are equal, so loading them one after another restores the shared tensor.
    """
    seen = set()
    for name, tensor in state.items():
        if tensor.data_ptr() in seen:
            state[name] = tensor.clone()
        seen.add(tensor.data_ptr())


def convert(
    model: PreTrainedModel, source: Path, out: Path, rows: pd.DataFrame, labels: list[str], training: dict
) -> dict[str, float]:
    """Write a fake-quantised `model` as a self-contained int8 OpenVINO folder, if it is as good there.

    Integer kernels round differently from float ones, which flips near-ties: a network that is unsure about many texts
    may change some predictions without getting worse. A conversion is refused only if it changes predictions *and*
    scores lower.

    Args:
        source: the checkpoint that training started from; its configuration and tokenizer are copied.
        rows: held-out rows on which both are compared; test rows stay unseen.
        labels: names of the model's outputs, in order.
        training: the summary to save with the model.

    Returns:
        `agreement`, the share of rows on which both predict the same label, and `val_macro_f1` of the converted
        model. Both are saved with the model too.

    Raises:
        InputError: they agree on less than `MIN_AGREEMENT` and macro F1 falls by more than `MAX_LOSS`; nothing is
            written.
    """
    texts, truth, names = rows["text"].tolist(), rows["label"].to_numpy(), np.array(labels)
    expected = names[_predictions(model, source, texts)]
    with atomic_folder(out) as folder:
        save_openvino(as_openvino(model), source, folder)
        classifier = OpenVinoClassifier(folder, threads=torch.get_num_threads())
        predicted = names[predict_logits(classifier, texts).argmax(axis=1)]
        converted = {"agreement": float((predicted == expected).mean()), "val_macro_f1": macro_f1(truth, predicted)}
        loss = macro_f1(truth, expected) - converted["val_macro_f1"]
        if converted["agreement"] < MIN_AGREEMENT and loss > MAX_LOSS:
            raise InputError(
                f"{out}: the converted int8 model predicts as the fake-quantised one on only "
                f"{converted['agreement']:.1%} of the validation texts and loses {loss:.3f} macro F1 to it; "
                "lower qat.learning_rate in params.yaml"
            )
        write_json(folder / "training.json", {**training, "converted": converted})
    return converted


def _predictions(model: PreTrainedModel, source: Path, texts: list[str]) -> np.ndarray:
    """The fake-quantised model's predicted ids, [texts]."""
    classifier = TorchClassifier(source, threads=torch.get_num_threads())
    classifier.model = model.eval().cpu()
    return predict_logits(classifier, texts).argmax(axis=1)
