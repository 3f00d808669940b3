"""Intermediate-layer distillation (TinyBERT, Jiao et al. 2020, arXiv:1909.10351): losses, layer map, targets.

The losses are the paper's: mean squared errors of attention scores (`scores`), of hidden states and of the embedding
output. What differs is the recipe around them:

- one stage learns everything at once, soft and true labels included, from the task's own texts. The paper distils
  general text first; then, on augmented texts of the task, hidden layers, and after them soft labels;
- attention can also be compared after the softmax (`probabilities`);
- every hidden state has a projection of its own, with a bias, where the paper's layers share one;
- unequal numbers of heads meet in groups of consecutive heads; the paper needs equally many;
- the layer map is any (`layer_map`); left out, it is the paper's even spacing.

The teacher's hidden states and attention are computed once and kept in memory-mapped files, in half precision and
without padding. If the disk is too small for them, the teacher runs on every batch instead.
"""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fincompress.compress.soft_labels import batch_loss, model_inputs
from fincompress.core.errors import InputError
from fincompress.core.files import atomic_folder
from fincompress.core.processes import is_main, wait
from fincompress.core.sections import IkdParams
from fincompress.networks.internals import attention_scores, with_states
from fincompress.networks.logits import model_batches
from fincompress.networks.training import Objective

_DISK_SHARE = 0.5  # of the free space, at most, for the targets
EMBEDDING = -1
"""The embedding output's place among hidden states, which are counted from 0 by the layer that they come out of."""


@dataclass(frozen=True)
class Compared:
    """What of one network, the student or its teacher, is compared with the other."""

    layers: list[int]  # counted from 0
    groups: int  # of consecutive heads, see `group_heads`
    attention: Literal["scores", "probabilities"] | None  # QKᵀ/√d, its softmax over the real positions, or nothing
    embedding: bool  # the output of the embedding layer too

    @property
    def states(self) -> list[int]:
        """Hidden states that are compared, the embedding output first if it is one of them."""
        return [*([EMBEDDING] if self.embedding else []), *self.layers]


class Intermediates(NamedTuple):
    """A network's side of the losses for a batch."""

    logits: torch.Tensor  # [batch, labels]
    hidden: torch.Tensor  # [batch, states, seq, width]
    attention: torch.Tensor  # [batch, layers, groups, seq, seq], none of it where it is not compared; scores of padding
    # are there, and count for nothing


def layer_map(layers: dict[int, int] | None, student_layers: int, teacher_layers: int) -> dict[int, int]:
    """Student layer -> teacher layer, both counted from 0.

    None spaces them evenly and maps the last layer to the last: 4 of 12 is {0: 2, 1: 5, 2: 8, 3: 11}.

    Raises:
        InputError: a layer does not exist, or no map is given and the student is deeper than its teacher.
    """
    if layers is None:
        if student_layers > teacher_layers:
            raise InputError(
                f"params.yaml: ikd.layer_map: null cannot space {student_layers} student layers over "
                f"{teacher_layers} of the teacher; name the pairs, as in {{0: 0, 1: 0}}"
            )
        return {layer: (layer + 1) * teacher_layers // student_layers - 1 for layer in range(student_layers)}
    for student, teacher in layers.items():
        for side, layer, count in (("student", student, student_layers), ("teacher", teacher, teacher_layers)):
            if not 0 <= layer < count:
                raise InputError(
                    f"params.yaml: ikd.layer_map: {student}: {teacher} names {side} layer {layer}, "
                    f"but the {side}'s layers are 0 to {count - 1}"
                )
    return dict(sorted(layers.items()))


def group_heads(attention: torch.Tensor, groups: int) -> torch.Tensor:
    """Average consecutive heads: [batch, heads, seq, seq] -> [batch, groups, seq, seq].

    If student and teacher have equally many heads, these are compared one to one; otherwise both are averaged into
    `gcd(student heads, teacher heads)` groups of consecutive heads.
    """
    return attention.unflatten(1, (groups, -1)).mean(dim=2)


def hidden_mse(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared error of hidden states over real positions, mapped layers and width.

    Args:
        student, teacher: [batch, layers, seq, width].
        mask: [batch, seq], 1 at real positions.
    """
    positions = mask[:, None, :].to(student.dtype)  # [batch, 1, seq]
    squared = (student - teacher).pow(2).mean(dim=-1)  # [batch, layers, seq]
    return (squared * positions).sum() / (positions.sum() * student.shape[1])


def attention_mse(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared error of attention over pairs of real positions, mapped layers and head groups.

    Args:
        student, teacher: [batch, layers, groups, seq, seq]; pairs with NaN on either side, which do not attend to each
            other there, count as equal.
        mask: [batch, seq], 1 at real positions.
    """
    real = mask.to(student.dtype)
    pairs = (real[:, :, None] * real[:, None, :])[:, None, None]  # [batch, 1, 1, seq, seq]
    difference = student - teacher
    squared = difference.masked_fill(difference.isnan(), 0).pow(2)
    return (squared * pairs).sum() / (pairs.sum() * student.shape[1] * student.shape[2])


class Targets(Protocol):
    """The teacher's side of the losses for a batch."""

    def __call__(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Its hidden states and attention, as in `Intermediates`."""
        ...


class LiveTargets:
    """Targets from running the teacher on the batch itself."""

    def __init__(self, teacher: PreTrainedModel, compared: Compared):
        self.teacher, self.compared = teacher.eval(), compared

    @torch.no_grad()
    def __call__(self, batch):
        self.teacher.to(batch["input_ids"].device)
        return intermediates(self.teacher, model_inputs(batch), self.compared)[1:]


class StoredTargets:
    """Targets from memory-mapped files; `batch["row"]` says which rows of the training set they are."""

    def __init__(self, folder: Path, lengths: list[int], compared: Compared, width: int):
        self.lengths, self.groups = np.asarray(lengths), compared.groups
        self._shapes = {"hidden": (len(compared.states), width)}
        if compared.attention:
            self._shapes["attention"] = (len(compared.layers), compared.groups)
        units = {"hidden": self.lengths, "attention": self.lengths**2}  # a unit is a position, or a pair of them
        self._starts = {name: np.concatenate([[0], np.cumsum(count)]) for name, count in units.items()}
        self._folder = folder
        self._files: dict[str, np.memmap] = {}

    def bytes(self) -> int:
        """Bytes that the files take up on disk."""
        return sum(2 * int(self._starts[name][-1]) * math.prod(shape) for name, shape in self._shapes.items())

    def open(self, mode: Literal["r", "w+"]) -> None:
        """Map the files for reading (`r`) or filling (`w+`)."""
        for name, shape in self._shapes.items():
            total = int(self._starts[name][-1])
            self._files[name] = np.memmap(self._folder / f"{name}.f16", np.float16, mode, shape=(total, *shape))

    def put(self, row: int, hidden: torch.Tensor, attention: torch.Tensor) -> None:
        """Store one sentence's [states, seq, width] and [layers, groups, seq, seq], with padding cut off."""
        length = self.lengths[row]
        self._part("hidden", row)[:] = hidden[:, :length].permute(1, 0, 2).numpy()
        if "attention" in self._shapes:
            pairs = attention[:, :, :length, :length].flatten(2)  # [layers, groups, pairs]
            self._part("attention", row)[:] = pairs.permute(2, 0, 1).numpy()

    def __call__(self, batch):
        rows, seq = batch["row"].tolist(), batch["input_ids"].shape[1]
        hidden = np.zeros((len(rows), seq, *self._shapes["hidden"]), np.float32)
        attention = np.zeros((len(rows), seq, seq, *self._shapes.get("attention", (0, 0))), np.float32)
        for index, row in enumerate(rows):
            length = self.lengths[row]
            hidden[index, :length] = self._part("hidden", row)
            if "attention" in self._shapes:
                pairs = self._part("attention", row)
                attention[index, :length, :length] = pairs.reshape(length, length, -1, self.groups)
        device = batch["input_ids"].device
        return (
            torch.from_numpy(hidden).to(device).permute(0, 2, 1, 3),
            torch.from_numpy(attention).to(device).permute(0, 3, 4, 1, 2),
        )

    def _part(self, name: str, row: int) -> np.ndarray:
        return self._files[name][self._starts[name][row] : self._starts[name][row + 1]]


@torch.no_grad()
def teacher_targets(
    dataset: Dataset,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    compared: Compared,
    folder: Path,
) -> tuple[Dataset, Targets]:
    """Run the teacher once over `dataset` and keep what `ikd` compares with.

    Returns:
        (`dataset` with the columns `teacher_logits` and `row`, the targets of its rows). Targets that an interrupted
        run left in `folder` are used again.
    """
    dataset = dataset.add_column("row", list(range(len(dataset))))
    width = teacher.config.hidden_size
    stored = StoredTargets(folder, dataset["length"], compared, width)
    logits_file = folder / "logits.npy"
    if is_main() and not logits_file.is_file():
        logits = np.empty((len(dataset), cast(int, teacher.config.num_labels)), dtype=np.float32)
        fits = stored.bytes() < _DISK_SHARE * shutil.disk_usage(folder.parent).free
        if not fits:
            print(f"ikd: no room for {stored.bytes() / 1e9:.1f} GB of targets; the teacher runs along with every batch")
        with atomic_folder(folder) as temporary:
            filling = StoredTargets(temporary, dataset["length"], compared, width)
            if fits:
                filling.open("w+")
            for rows, batch in model_batches(dataset, teacher, tokenizer, "teacher's targets"):
                logits[rows], hidden, attention = (part.cpu() for part in intermediates(teacher, batch, compared))
                for index, row in enumerate(rows if fits else []):
                    filling.put(row, hidden[index], attention[index])
            np.save(temporary / logits_file.name, logits)
    wait()
    dataset = dataset.add_column("teacher_logits", np.load(logits_file).tolist())
    if not (folder / "hidden.f16").is_file():
        return dataset, LiveTargets(teacher, compared)
    stored.open("r")
    return dataset, stored


def intermediates(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], compared: Compared) -> Intermediates:
    """Run `model`, in DistributedDataParallel or not, and take what is compared.

    Attention is free of its dropout (see `internals.attention_scores`).
    """
    attended = compared.layers if compared.attention else []
    with attention_scores(getattr(model, "module", model), attended) as scores_of:
        outputs, states = with_states(model, inputs)
    hidden = torch.stack([states[state + 1] for state in compared.states], dim=1)
    attention = []
    for layer in attended:  # one that is named twice counts twice
        scores = scores_of(layer)
        if compared.attention == "probabilities":
            padding = inputs["attention_mask"][:, None, None] == 0
            scores = scores.masked_fill(
                scores.isnan(), torch.finfo(scores.dtype).min
            )  # finite: rows of padding have a sum
            scores = scores.masked_fill(padding, -torch.inf).softmax(dim=-1)
        attention.append(group_heads(scores, compared.groups))
    shape = (len(hidden), 0, 0, *inputs["attention_mask"].shape[-1:] * 2)
    return Intermediates(
        outputs.logits, hidden, torch.stack(attention, dim=1) if attention else hidden.new_empty(shape)
    )


def add_projections(student: PreTrainedModel, teacher_width: int, states: int) -> None:
    """Give the student a learned projection to the teacher's width for every hidden state that is compared.

    They train with the student and are saved in its resume states. If the widths agree, they start as the identity.
    """
    width = student.config.hidden_size
    projections = [nn.Linear(width, teacher_width) for _ in range(states)]
    student.projections = nn.ModuleList(projections)
    if width == teacher_width:
        for projection in projections:
            nn.init.eye_(projection.weight)
            nn.init.zeros_(projection.bias)


def drop_projections(student: PreTrainedModel) -> None:
    """Remove the projections again: they are not part of the model that is shipped."""
    del student.projections


def intermediate_objective(params: IkdParams, compared: Compared, targets: Targets) -> Objective:
    """`hinton_loss` plus the weighted errors of hidden states, attention and embedding, for a student with projections.

    Args:
        compared: the student's side; its states are in the order of the projections and of `targets`.

    The objective raises RuntimeError if a weighted term is exactly zero, because then nothing was compared.
    """
    first = len(compared.states) - len(compared.layers)  # 1 where the embedding output comes before the layers

    def objective(model, batch):
        logits, hidden, attention = intermediates(model, model_inputs(batch), compared)
        projections = getattr(model, "module", model).projections
        projected = torch.stack([projection(hidden[:, i]) for i, projection in enumerate(projections)], dim=1)
        teacher_hidden, teacher_attention = targets(batch)
        mask = batch["attention_mask"]
        loss = batch_loss(logits, batch, params.temperature, params.alpha)
        terms = {
            "hidden": (params.lambda_hidden, hidden_mse(projected[:, first:], teacher_hidden[:, first:], mask)),
            "attention": (params.lambda_attention, attention_mse(attention, teacher_attention, mask)),
        }
        if first:
            error = hidden_mse(projected[:, :first], teacher_hidden[:, :first], mask)
            terms["embedding"] = (params.lambda_embedding, error)
        for name, (weight, term) in terms.items():
            if weight:
                if not term > 0:
                    raise RuntimeError(
                        f"ikd: the {name} loss is {term.item()}, so student and teacher were not compared"
                    )
                loss = loss + weight * term
        return loss, {"logits": logits}

    return objective
