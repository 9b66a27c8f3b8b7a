"""One small fast tokenizer per family, and the files Transformers loads it from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from golden.generate import vocabularies
from golden.generate.files import write_json

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _add_specials(tokenizer: Tokenizer, specials: list[str], lstrip: bool = False) -> None:
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, lstrip=lstrip) for token in specials]
    )


def _roberta_template() -> processors.RobertaProcessing:
    return processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)


def _cls_sep_template(ids: dict[str, int], second_type: int = 1) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair=f"[CLS]:0 $A:0 [SEP]:0 $B:{second_type} [SEP]:{second_type}",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )


def _bert(lower: bool) -> Tokenizer:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = vocabularies.wordpiece(specials, cased=not lower)
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lower
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = _cls_sep_template(vocab)
    _add_specials(tokenizer, specials)
    return tokenizer


def _mpnet() -> Tokenizer:
    specials = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    vocab = vocabularies.wordpiece(specials)
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = _roberta_template()
    _add_specials(tokenizer, specials)
    return tokenizer


def _roberta() -> Tokenizer:
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.BPE(*vocabularies.byte_level(specials, ["<mask>"])))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = _roberta_template()
    _add_specials(tokenizer, specials)
    _add_specials(tokenizer, ["<mask>"], lstrip=True)
    return tokenizer


def _modernbert() -> Tokenizer:
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    vocab, merges = vocabularies.byte_level([], [*specials, "[MASK]"])
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = _cls_sep_template(vocab, second_type=0)
    _add_specials(tokenizer, specials)
    _add_specials(tokenizer, ["[MASK]"], lstrip=True)
    return tokenizer


def _qwen(append_end: bool) -> Tokenizer:
    """Byte-level BPE whose padding token is also the appended end token, as in common embedding releases."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab, merges = vocabularies.byte_level([], specials)
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    offsets = processors.ByteLevel(trim_offsets=False)
    if append_end:
        end = processors.TemplateProcessing(
            single="$A <|endoftext|>",
            pair="$A <|endoftext|> $B <|endoftext|>",
            special_tokens=[("<|endoftext|>", vocab["<|endoftext|>"])],
        )
        tokenizer.post_processor = processors.Sequence([offsets, end])
    else:
        tokenizer.post_processor = offsets
    _add_specials(tokenizer, specials)
    return tokenizer


def _clip() -> Tokenizer:
    """Lower-case BPE with marked word ends, whose padding token is also the end token, the highest id of all."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    vocab, merges = vocabularies.word_end_bpe([start, end])
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=end, end_of_word_suffix=vocabularies.WORD_END))
    squeeze = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), squeeze, normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocab[end]), (start, vocab[start]), trim_offsets=False, add_prefix_space=False
    )
    _add_specials(tokenizer, [start, end])
    return tokenizer


def _unigram(first: list[str], last: list[str], unknown: str, steps: list[normalizers.Normalizer]) -> Tokenizer:
    """The SentencePiece shape the Unigram families share; they differ in clean-up and template."""
    pieces = vocabularies.unigram(first, last)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=first.index(unknown), byte_fallback=False))
    squeeze = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([*steps, squeeze])
    metaspace = vocabularies.METASPACE
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=metaspace, prepend_scheme="always", split=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement=metaspace, prepend_scheme="always")
    return tokenizer


def _xlmr() -> Tokenizer:
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = _unigram(specials, ["<mask>"], "<unk>", [normalizers.NFKC()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    _add_specials(tokenizer, specials)
    _add_specials(tokenizer, ["<mask>"], lstrip=True)
    return tokenizer


def _t5() -> Tokenizer:
    specials = ["<pad>", "</s>", "<unk>"]
    tokenizer = _unigram(specials, [], "<unk>", [normalizers.NFKC()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    _add_specials(tokenizer, specials)
    return tokenizer


def _cls_sep_unigram(specials: list[str], unknown: str, lower: bool) -> Tokenizer:
    quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    letters = (
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()] if lower else [normalizers.NFKC()]
    )
    tokenizer = _unigram(specials, [], unknown, [*quotes, *letters, normalizers.Strip()])
    tokenizer.post_processor = _cls_sep_template({token: i for i, token in enumerate(specials)})
    _add_specials(tokenizer, specials)
    return tokenizer


@dataclass(frozen=True)
class Family:
    """How one family builds its tokenizer and describes it in tokenizer_config.json."""

    build: Callable[[], Tokenizer]
    tokenizer_class: str
    special_names: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)


_BERT_NAMES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROBERTA_NAMES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_NO_TYPES = {"model_input_names": ["input_ids", "attention_mask"]}
_QWEN_SETTINGS = {**_NO_TYPES, "padding_side": "left", "add_bos_token": False, "add_prefix_space": False}

FAMILIES: dict[str, Family] = {
    "bert": Family(
        partial(_bert, lower=True),
        "BertTokenizer",
        _BERT_NAMES,
        {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True},
    ),
    "bert_cased": Family(
        partial(_bert, lower=False),
        "BertTokenizer",
        _BERT_NAMES,
        {"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": True},
    ),
    "distilbert": Family(partial(_bert, lower=True), "DistilBertTokenizer", _BERT_NAMES, {"do_lower_case": True}),
    "electra": Family(partial(_bert, lower=True), "ElectraTokenizer", _BERT_NAMES, {"do_lower_case": True}),
    "mpnet": Family(
        _mpnet,
        "MPNetTokenizer",
        {**_ROBERTA_NAMES, "unk_token": "[UNK]"},
        {**_NO_TYPES, "do_lower_case": True},
    ),
    "roberta": Family(_roberta, "RobertaTokenizer", _ROBERTA_NAMES, {**_NO_TYPES, "add_prefix_space": False}),
    "modernbert": Family(_modernbert, "PreTrainedTokenizerFast", _BERT_NAMES, _NO_TYPES),
    "qwen": Family(
        partial(_qwen, append_end=True),
        "Qwen2Tokenizer",
        {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
        _QWEN_SETTINGS,
    ),
    "qwen_noeos": Family(
        partial(_qwen, append_end=False),
        "Qwen2Tokenizer",
        {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
        _QWEN_SETTINGS,
    ),
    "clip": Family(
        _clip,
        "CLIPTokenizer",
        {
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
        },
        {**_NO_TYPES, "do_lower_case": True},
    ),
    "xlmr": Family(_xlmr, "XLMRobertaTokenizer", _ROBERTA_NAMES, _NO_TYPES),
    "t5": Family(
        _t5,
        "T5Tokenizer",
        {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        {**_NO_TYPES, "extra_ids": 0},
    ),
    "albert": Family(
        partial(_cls_sep_unigram, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>", lower=True),
        "AlbertTokenizer",
        {
            **_BERT_NAMES,
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "bos_token": "[CLS]",
            "eos_token": "[SEP]",
        },
        {"do_lower_case": True, "remove_space": True, "keep_accents": False},
    ),
    "deberta": Family(
        partial(_cls_sep_unigram, ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], "[UNK]", lower=False),
        "DebertaV2Tokenizer",
        _BERT_NAMES,
        {"do_lower_case": False, "split_by_punct": False},
    ),
}


def write_tokenizer(kind: str, folder: Path, model_max_length: int, **overrides: Any) -> Tokenizer:
    """Write the tokenizer of a family into a folder; overrides land in tokenizer_config.json."""
    family = FAMILIES[kind]
    tokenizer = family.build()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(i): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for i, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    config = {
        "tokenizer_class": family.tokenizer_class,
        "model_max_length": model_max_length,
        "clean_up_tokenization_spaces": False,
        **family.special_names,
        **family.settings,
        **overrides,
        "added_tokens_decoder": added,
    }
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", family.special_names)
    return tokenizer
