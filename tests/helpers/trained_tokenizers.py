"""Small tokenizers of each kind, trained on a few texts of the embedded corpus."""

from conftest import few_rows
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = few_rows(40)["text"].tolist()
BERT = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
ROBERTA = {"unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
FRONT = ["<s>", "<pad>", "</s>", "<unk>"]


def fast(trained: Tokenizer, names: dict[str, str], inputs: list[str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=trained, model_input_names=inputs, model_max_length=64, **names)


def wordpiece() -> PreTrainedTokenizerFast:
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=True)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=900, special_tokens=specials))
    ids = [(name, trained.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    trained.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return fast(trained, BERT, ["input_ids", "token_type_ids", "attention_mask"])


def byte_level_bpe() -> PreTrainedTokenizerFast:
    """As in RoBERTa: <s>, <pad>, </s> and <unk> at the front, <mask> at the end."""
    trained = Tokenizer(models.BPE(unk_token=None))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=FRONT, initial_alphabet=alphabet)
    trained.train_from_iterator(TEXTS, trainer)
    trained.add_special_tokens(["<mask>"])
    trained.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return fast(trained, ROBERTA, ["input_ids", "attention_mask"])


def unigram() -> PreTrainedTokenizerFast:
    """As in XLM-RoBERTa."""
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizers.NFKC()
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=FRONT, unk_token="<unk>")
    trained.train_from_iterator(TEXTS, trainer)
    trained.add_special_tokens(["<mask>"])
    ids = [(name, trained.token_to_id(name)) for name in ("<s>", "</s>")]
    trained.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    return fast(trained, ROBERTA, ["input_ids", "attention_mask"])
