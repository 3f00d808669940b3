"""`tiny` by the commands that people run, for teachers of other architectures than the default one."""

import pytest
import torch
from conftest import LABELS, Project, make_tokenizer
from trained_tokenizers import byte_level_bpe
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from fincompress.core.files import folder_bytes, read_json
from fincompress.data.prepared import read_split
from fincompress.serving.classifier import load_classifier

NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}


def roberta() -> tuple[PreTrainedConfig, object]:
    """RoBERTa's shape: byte-level BPE, padding with id 1, two positions that no word piece has."""
    tokenizer = byte_level_bpe()
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, **shape, **NAMES
    )
    return config, tokenizer


def distilbert() -> tuple[PreTrainedConfig, object]:
    tokenizer = make_tokenizer()
    shape = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}
    return DistilBertConfig(vocab_size=len(tokenizer), **shape, **NAMES), tokenizer


@pytest.mark.e2e
@pytest.mark.parametrize("architecture", [roberta, distilbert])
def test_a_teacher_of_another_architecture_has_a_tiny_student_too(architecture, fresh_project, tmp_path):
    project: Project = fresh_project.copy(tmp_path / "project")
    torch.manual_seed(0)
    config, tokenizer = architecture()
    AutoModelForSequenceClassification.from_config(config).save_pretrained(project.root / "tiny/other")
    tokenizer.save_pretrained(project.root / "tiny/other")
    project.set_params(
        {
            "teacher.checkpoint": "tiny/other",
            "teacher.epochs": 1,
            "tiny.source": "teacher",
            "tiny.layers": 1,
            "tiny.epochs": 1,
        }
    )
    project.repro("ptq@tiny")
    models = project.root / "models"
    made = read_json(models / "tiny/config.json")
    (heads,) = made["pruned_structure"]["kept_heads"]
    assert len(heads) == 2 and made["pruned_structure"]["ffn_widths"] == [32]
    whole, pruned = (AutoTokenizer.from_pretrained(models / name) for name in ("teacher", "tiny"))
    assert made["vocab_size"] == len(pruned) < len(whole)
    assert folder_bytes(models / "ptq/tiny_ort_int8") < 0.6 * folder_bytes(models / "tiny")
    texts = read_split(project.root / "data", "val")["text"].tolist()
    exact = load_classifier(models / "tiny")(texts)
    for name in ("tiny_ort_int8", "tiny_ov_int8"):
        found = load_classifier(models / "ptq" / name)(texts)
        same = sum(one.label == other.label for one, other in zip(exact, found, strict=True))
        assert same > 0.8 * len(texts), name
