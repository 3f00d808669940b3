"""Small tokenizers of each kind, trained on a few texts of the embedded corpus."""

import json

from conftest import few_rows
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = few_rows(40)["text"].tolist()
BERT = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
ROBERTA = {"unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
MPNET = {**ROBERTA, "unk_token": "[UNK]"}
FRONT = ["<s>", "<pad>", "</s>", "<unk>"]
CAMEMBERT = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
PLAIN = ["input_ids", "attention_mask"]


def fast(trained: Tokenizer, names: dict[str, str], inputs: list[str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=trained, model_input_names=inputs, model_max_length=64, **names)


def wordpiece(names: str = "BERT") -> PreTrainedTokenizerFast:
    """BERT's, or with `MPNET` that of MPNet: <s>, <pad> and </s> at the front, [UNK] after them."""
    special = {"BERT": BERT, "MPNET": MPNET}[names]
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=True)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    front = {"BERT": bert, "MPNET": ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]}[names]
    trained.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=900, special_tokens=front))
    around(trained, special)
    return fast(trained, special, ["input_ids", "token_type_ids", "attention_mask"] if names == "BERT" else PLAIN)


def around(trained: Tokenizer, names: dict[str, str]) -> None:
    """Have a tokenizer put the special tokens of a sentence around every text."""
    first, last = names["cls_token"], names["sep_token"]
    ids = [(name, trained.token_to_id(name)) for name in (first, last)]
    trained.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ids)


def byte_level_bpe(names: str = "ROBERTA") -> PreTrainedTokenizerFast:
    """RoBERTa's: <s>, <pad>, </s> and <unk> at the front, <mask> at the end; or, `MODERNBERT`, all at the end."""
    trained = Tokenizer(models.BPE(unk_token=None))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    front = FRONT if names == "ROBERTA" else []
    trained.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=1500, special_tokens=front, initial_alphabet=alphabet)
    )
    if names == "ROBERTA":
        trained.add_special_tokens(["<mask>"])
        trained.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        return fast(trained, ROBERTA, PLAIN)
    trained.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[unused0]"])
    special = {**BERT, "mask_token": "[MASK]"}
    around(trained, special)
    return fast(trained, special, PLAIN)


def unigram(names: str = "ROBERTA") -> PreTrainedTokenizerFast:
    """As in XLM-RoBERTa, `CAMEMBERT`, `ALBERT` or `DEBERTA`."""
    front = {
        "ROBERTA": FRONT,
        "CAMEMBERT": CAMEMBERT,
        "ALBERT": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        "DEBERTA": ["[PAD]", "[CLS]", "[SEP]", "[UNK]"],
    }[names]
    special = ROBERTA if "<pad>" in front else {**BERT, "mask_token": "[MASK]"}
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizers.NFKC()
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=front, unk_token=special["unk_token"])
    trained.train_from_iterator(TEXTS, trainer)
    if names == "CAMEMBERT":  # pieces that no text has are not special there
        content = json.loads(trained.to_str())
        content["added_tokens"] = [token for token in content["added_tokens"] if "NOTUSED" not in token["content"]]
        trained = Tokenizer.from_str(json.dumps(content))
    trained.add_special_tokens([special["mask_token"]])
    around(trained, special)
    return fast(trained, special, PLAIN)
