"""Distillation from soft labels (Hinton et al. 2015): the loss, the objective, the teacher's targets."""

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fincompress.networks.batches import CLASS_WEIGHTS
from fincompress.networks.logits import model_logits
from fincompress.networks.training import Objective, true_label_loss


def hinton_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
    alpha: float,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """`alpha · T² · KL(teacher ‖ student) + (1 - alpha) · CE` (Hinton et al. 2015, arXiv:1503.02531).

    T² keeps the gradient of the soft labels the same size at every temperature. A row without a true label learns
    only from its soft one.

    Args:
        student_logits, teacher_logits: [batch, labels].
        labels: [batch] of ids, or `NO_LABEL`.
        class_weights: [labels], of the true labels' part (see `training.true_label_loss`).

    Returns:
        The mean over the batch.
    """
    soft = functional.kl_div(
        functional.log_softmax(student_logits / temperature, dim=-1),
        functional.log_softmax(teacher_logits / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    hard = true_label_loss(student_logits, labels, class_weights)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def batch_loss(logits: torch.Tensor, batch: dict[str, torch.Tensor], temperature: float, alpha: float) -> torch.Tensor:
    """`hinton_loss` of a student's logits for a training batch, which says how classes are weighed, if they are."""
    weights = batch.get(CLASS_WEIGHTS)
    return hinton_loss(logits, batch["teacher_logits"], batch["labels"], temperature, alpha, weights)


def model_inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The part of a training batch that the model itself takes."""
    others = ("labels", "teacher_logits", "row", CLASS_WEIGHTS)
    return {name: tensor for name, tensor in batch.items() if name not in others}


def soft_label_objective(temperature: float, alpha: float) -> Objective:
    """The training objective of `kd`, for batches with a `teacher_logits` column."""

    def objective(model, batch):
        outputs = model(**model_inputs(batch))
        return batch_loss(outputs.logits, batch, temperature, alpha), outputs

    return objective


def add_teacher_logits(
    dataset: Dataset, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, read_as: Dataset | None = None
) -> Dataset:
    """Run the teacher once over `dataset` and add its logits as the column `teacher_logits` ([rows, labels]).

    Args:
        tokenizer: the teacher's.
        read_as: the same rows as the teacher reads them, where `dataset` is tokenised with another vocabulary.
    """
    logits = model_logits(read_as or dataset, teacher, tokenizer, "teacher's targets")
    return dataset.add_column("teacher_logits", logits.tolist())
