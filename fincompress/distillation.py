"""Distillation: the soft-label loss, the teacher's targets, and the student's construction."""

import copy
import re

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fincompress.architectures import architecture_of
from fincompress.checkpoints import load_model, load_tokenizer
from fincompress.dataset import NO_LABEL
from fincompress.errors import InputError
from fincompress.evaluation import model_logits
from fincompress.locate import locate
from fincompress.params import StudentParams
from fincompress.surgery import is_pruned
from fincompress.training import Objective

_LAYER = re.compile(r"(?<=\.layer\.)\d+(?=\.)")


def hinton_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
) -> torch.Tensor:
    """`alpha · T² · KL(teacher ‖ student) + (1 - alpha) · CE` (Hinton et al. 2015, arXiv:1503.02531).

    T² keeps the soft labels' gradient of the same size whatever the temperature. A row without a true label learns
    from the soft one alone.

    Args:
        student_logits, teacher_logits: [batch, labels].
        labels: [batch] of ids, or `NO_LABEL`.

    Returns:
        The mean over the batch.
    """
    soft = functional.kl_div(
        functional.log_softmax(student_logits / temperature, dim=-1),
        functional.log_softmax(teacher_logits / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    hard = functional.cross_entropy(student_logits, labels, ignore_index=NO_LABEL, reduction="sum") / len(labels)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def soft_label_objective(temperature: float, alpha: float) -> Objective:
    """The training objective of `kd`, for batches with a `teacher_logits` column."""

    def objective(model, batch):
        inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", "teacher_logits")}
        outputs = model(**inputs)
        return hinton_loss(outputs.logits, batch["teacher_logits"], batch["labels"], temperature, alpha), outputs

    return objective


def add_teacher_logits(dataset: Dataset, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Run the teacher once over `dataset` and add its logits as the column `teacher_logits` ([rows, labels])."""
    return dataset.add_column("teacher_logits", model_logits(dataset, teacher, tokenizer, "teacher's targets").tolist())


def select_layers(count: int, total: int, selection: str) -> list[int]:
    """Which `count` of `total` layers a student copies.

    `first` keeps the lower layers, whose features stay whole (top-layer dropping, Sajjad et al. 2023,
    arXiv:2004.03844). `evenly_spaced` runs from the first to the last, 3 of 6: [0, 2, 5]; a single one is the last.
    """
    if selection == "first":
        return list(range(count))
    return [total - 1] if count == 1 else [round(i * (total - 1) / (count - 1)) for i in range(count)]


def build_student(
    teacher_checkpoint: str, params: StudentParams
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, str | None]]:
    """A student with the teacher's labels and tokenizer and the shape of `params`, started as `params.init` says.

    `teacher` copies the teacher's embeddings, selected layers and head (as DistilBERT, Sanh et al. 2019,
    arXiv:1910.01108); a checkpoint gives its embeddings and layers under a fresh head; `random` copies nothing.

    Returns:
        (student, tokenizer, origin of what it started from, as `locate.Located` has it)

    Raises:
        InputError: the layers to copy do not exist or do not fit, naming the key of params.yaml.
    """
    teacher = load_model(teacher_checkpoint)
    tokenizer = load_tokenizer(teacher_checkpoint)
    config = copy.deepcopy(teacher.config)
    if is_pruned(config):
        del config.pruned_structure  # the student has all the heads that `params` gives it
    config.num_hidden_layers = params.layers
    for key, attribute in _shape(config).items():
        setattr(config, attribute, getattr(params, key))
    student = AutoModelForSequenceClassification.from_config(config).eval()
    origin = {"checkpoint": params.init, "revision": None, "commit": None}
    if params.init == "random":
        return student, tokenizer, origin
    if params.init == "teacher":
        source = teacher
    else:
        located = locate(params.init, params.revision, "student", "init")
        origin, source = located.origin, load_model(located.folder)
        if load_tokenizer(located.folder).get_vocab() != tokenizer.get_vocab():
            raise InputError(f"params.yaml: student.init: `{params.init}` has another vocabulary than the teacher")
    _check_fit(source.config, params, student.config.model_type)
    layers = select_layers(params.layers, source.config.num_hidden_layers, params.layer_selection)
    copy_layers(source, student, layers, head=source is teacher)
    return student, tokenizer, origin


def _shape(config: PreTrainedConfig) -> dict[str, str]:
    """Key of `StudentParams` -> the attribute of a model's configuration."""
    return {
        "hidden_size": "hidden_size",
        "attention_heads": "num_attention_heads",
        "intermediate_size": architecture_of(config.model_type).intermediate_size,
    }


def _check_fit(source: PreTrainedConfig, params: StudentParams, model_type: str) -> None:
    if is_pruned(source):
        raise InputError(
            f"params.yaml: student.init: `{params.init}` is pruned, so its layers fit no other model; "
            "take `init: random` or a checkpoint with all its heads"
        )
    if source.model_type != model_type:
        raise InputError(
            f"params.yaml: student.init: `{params.init}` is a {source.model_type}, the teacher a {model_type}"
        )
    for key, attribute in _shape(source).items():
        theirs, ours = getattr(source, attribute), getattr(params, key)
        if theirs != ours:
            raise InputError(
                f"params.yaml: student.{key}: {ours} does not fit `student.init: {params.init}`, which has {theirs}; "
                "set it to that, or take `init: random` or a checkpoint of this width"
            )
    if params.layers > source.num_hidden_layers:
        raise InputError(
            f"params.yaml: student.layers: {params.layers} is more than the {source.num_hidden_layers} "
            f"of `student.init: {params.init}`"
        )


@torch.no_grad()
def copy_layers(source: PreTrainedModel, student: PreTrainedModel, layers: list[int], head: bool) -> None:
    """Copy embeddings and the encoder layers with these indices (and the classification head) into `student`."""
    weights = source.state_dict()
    backbone = f"{student.base_model_prefix}."
    for name, tensor in student.state_dict().items():
        if name.startswith(backbone) or head:
            tensor.copy_(weights[_LAYER.sub(lambda match: str(layers[int(match.group())]), name)])
