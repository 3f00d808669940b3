"""Distillation from soft labels (Hinton et al. 2015): the loss, the objective, the teacher's targets."""

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fincompress.networks.batches import NO_LABEL
from fincompress.networks.logits import model_logits
from fincompress.networks.training import Objective


def hinton_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor, temperature: float, alpha: float
) -> torch.Tensor:
    """`alpha · T² · KL(teacher ‖ student) + (1 - alpha) · CE` (Hinton et al. 2015, arXiv:1503.02531).

    T² keeps the gradient of the soft labels the same size at every temperature. A row without a true label learns
    only from its soft one.

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
