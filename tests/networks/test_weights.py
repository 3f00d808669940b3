"""Whatever transformers would make up at random is refused, unless it is the head that an encoder lacks."""

import os

import pytest
import torch
from conftest import LABELS
from odd_checkpoints import (
    copied,
    edit,
    in_parts,
    reweighted,
    with_older_weights,
    with_older_weights_in_parts,
)

from fincompress.core.errors import InputError
from fincompress.networks.checkpoints import load_for_labels, load_model
from fincompress.networks.weights import weight_shapes


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.net."])
@pytest.mark.parametrize("trains", [True, False])
def test_names_with_a_prefix_are_refused_with_the_prefix(checkpoint, tmp_path, prefix, trains):
    odd = reweighted(checkpoint, tmp_path / "odd", lambda w: {prefix + name: tensor for name, tensor in w.items()})
    with pytest.raises(InputError, match=f"the names of its weights begin with `{prefix}`.*save_pretrained"):
        load_for_labels(str(odd), LABELS, 48) if trains else load_model(str(odd))


def test_a_prefix_is_found_where_an_encoder_has_no_base_name_too(checkpoint, tmp_path):
    def change(weights):
        return {f"_orig_mod.{name[5:]}": tensor for name, tensor in weights.items() if name.startswith("bert.")}

    odd = reweighted(checkpoint, tmp_path / "odd", change)
    edit(odd / "config.json", architectures=["BertModel"])
    with pytest.raises(InputError, match=r"begin with `_orig_mod\.`"):
        load_for_labels(str(odd), LABELS, 48)


def test_a_layer_that_is_missing_or_left_over_is_named(checkpoint, tmp_path):
    lacks = reweighted(
        checkpoint, tmp_path / "lacks", lambda w: {name: t for name, t in w.items() if ".layer.2." not in name}
    )
    with pytest.raises(InputError, match=r"its weights lack bert\.encoder\.layer\.2\.\S+, .* \(16 in all\)"):
        load_for_labels(str(lacks), LABELS, 48)
    shallow = copied(checkpoint, tmp_path / "shallow")
    edit(shallow / "config.json", num_hidden_layers=3)
    with pytest.raises(InputError, match=r"its weights hold bert\.encoder\.layer\.3\.\S+, .*has no place for"):
        load_for_labels(str(shallow), LABELS, 48)


@pytest.mark.parametrize("gone", ["classifier.", "bert.pooler."])
def test_a_classifier_without_its_head_is_refused_though_an_encoder_may_lack_one(checkpoint, tmp_path, gone):
    odd = reweighted(
        checkpoint, tmp_path / "odd", lambda w: {name: t for name, t in w.items() if not name.startswith(gone)}
    )
    for load in (load_model, lambda folder: load_for_labels(folder, LABELS, 48)):
        with pytest.raises(InputError, match=rf"it has no classification head: its weights lack {gone}"):
            load(str(odd))
    if gone == "classifier.":
        edit(odd / "config.json", architectures=["BertModel"])
        assert load_for_labels(str(odd), LABELS, 48)[0].num_labels == 3
        with pytest.raises(InputError, match="no classification head"):
            load_model(str(odd))


def test_what_pretraining_and_older_releases_leave_behind_is_no_fault(checkpoint, tmp_path):
    """LayerNorm.gamma, position_ids and the head of a masked language model, as in bert-base-uncased on the hub."""

    def older(weights):
        renamed = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in weights.items()
            if name.startswith("bert.") and "pooler" not in name
        }
        more = {"bert.embeddings.position_ids": torch.arange(64)[None], "cls.predictions.bias": torch.zeros(600)}
        return renamed | more

    odd = reweighted(checkpoint, tmp_path / "odd", older)
    edit(odd / "config.json", architectures=["BertForMaskedLM"], id2label=None, label2id=None)
    found, whole = load_for_labels(str(odd), LABELS, 48)[0].state_dict(), load_model(str(checkpoint)).state_dict()
    encoder = [name for name in whole if name.startswith("bert.") and "pooler" not in name]
    assert all(torch.equal(found[name], whole[name]) for name in encoder)


def test_weights_of_another_size_are_named_with_both(checkpoint, tmp_path):
    odd = copied(checkpoint, tmp_path / "odd")
    edit(odd / "config.json", vocab_size=700)
    with pytest.raises(InputError, match=r"word_embeddings\.weight is 600×32 where config\.json says 700×32"):
        load_model(str(odd))


def test_a_head_that_config_json_does_not_speak_of_is_found_by_its_weights(checkpoint, tmp_path):
    odd = copied(checkpoint, tmp_path / "odd")
    edit(odd / "config.json", architectures=None)
    model, _ = load_for_labels(str(odd), ["positive", "negative"], 48)
    assert torch.equal(model.classifier.weight[1], load_model(str(checkpoint)).classifier.weight[0])
    edit(odd / "config.json", architectures=["BertForTokenClassification"])
    with pytest.raises(InputError, match="a BertForTokenClassification, whose head is for another task"):
        load_for_labels(str(odd), LABELS, 48)


@pytest.mark.parametrize("change", [with_older_weights, in_parts, with_older_weights_in_parts])
def test_weights_in_any_form_are_read_alike(checkpoint, tmp_path, change):
    odd = copied(checkpoint, tmp_path / "odd")
    change(odd)
    found, whole = load_model(str(odd)).state_dict(), load_model(str(checkpoint)).state_dict()
    assert found.keys() == whole.keys() and all(torch.equal(found[name], whole[name]) for name in whole)
    assert {name: shape for name, (shape, _) in weight_shapes(odd).items()} == {
        name: list(tensor.shape) for name, tensor in whole.items()
    }


class Program:
    """What would run if a file of weights were unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_program_among_the_weights_is_not_run(checkpoint, tmp_path):
    odd = copied(checkpoint, tmp_path / "odd")
    (odd / "model.safetensors").unlink()
    torch.save({"classifier.weight": Program(f"touch {tmp_path}/ran")}, odd / "pytorch_model.bin")
    for read in (load_model, lambda folder: weight_shapes(odd)):
        with pytest.raises(InputError, match=r"pytorch_model\.bin: .*besides weights, of which nothing was run"):
            read(str(odd))
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_quantised_already_are_refused(checkpoint, tmp_path):
    odd = copied(checkpoint, tmp_path / "odd")
    edit(odd / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(InputError, match=r"quantised already \(bitsandbytes\); take the one in full precision"):
        load_model(str(odd))
