"""Hand-made vocabularies: a few words, and every character the inputs need."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import pre_tokenizers

_WORDS = (
    "the a an of and in on at to it is are was were be this that with for from by as over under while "
    "quick brown fox jumps lazy dog hello world number rains new york city bigger than area family flag "
    "emoji line one two three indented leading trailing spaces mixed case text with allcaps quotes single "
    "tick cafe deja vu naive angstrom zero width joiner bom word ligature full control char here query "
    "passage document represent retrieval search title what weather today query: passage: yes no strasse "
    "istanbul"
)
WORDS = _WORDS.split()
SUFFIXES = ["ing", "ed", "er", "s", "ly", "tion", "es", "al", "en", "ment"]
ASCII = [chr(code) for code in range(33, 127)]
OTHER_CHARACTERS = list(
    "\u00e9\u00e0\u00ef\u00c5\u00f6\u00df\u0130\u0391\u03a3\u03c2\u03b1\u03c3"
    "\u4f60\u597d\u4e16\u754c\u8fd9\u662f\u6d4b\u8bd5"
    "\u3053\u3093\u306b\u3061\u306f\uc548\ub155\u0645\u0631\u062d\u0628\u0627\u05e9\u05dc\u05d5\u05dd\u05e2"
    "\U0001f600\U0001f1eb\uff0c\u3002\u00bd"
)

# The words of word models; the first is the row of padding, and one differs from others by its letter case only.
WORD_TABLE = list(
    dict.fromkeys(
        [
            "PADDING_TOKEN",
            *(word for word in WORDS if word.isalpha()),
            *("new_york", "New", "York", "Hello", "World", "NEW", "\u4f60\u597d", "Caf\u00e9", "x", "C++"),
        ]
    )
)

# How byte-level and SentencePiece vocabularies write a space.
BYTE_LEVEL_SPACE = "\u0120"
METASPACE = "\u2581"

# How CLIP's vocabulary marks the last piece of a word.
WORD_END = "</w>"


def numbered(tokens: Iterable[str]) -> dict[str, int]:
    """Ids in order of first appearance."""
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def wordpiece(specials: list[str], cased: bool = False) -> dict[str, int]:
    """A WordPiece vocabulary."""
    words = (
        [*WORDS, "Hello", "World", "The", "New", "York", "Caf\u00e9", "MiXeD", "WITH"]
        if cased
        else [word.lower() for word in WORDS]
    )
    return numbered(
        [
            *specials,
            *ASCII,
            *OTHER_CHARACTERS,
            *("##" + char for char in ASCII if char.isalnum()),
            *("##" + char for char in OTHER_CHARACTERS),
            *(word for word in words if word.isalpha()),
            *("##" + suffix for suffix in SUFFIXES),
        ]
    )


def byte_level(first: list[str], last: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level BPE vocabulary and the merges that spell its words."""
    tokens = dict.fromkeys([*first, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    merges: dict[tuple[str, str], None] = {}
    for word in [*WORDS, "Hello", "World", "New", "York"]:
        for form in (word, BYTE_LEVEL_SPACE + word):
            head = form[0]
            for char in form[1:]:
                merges.setdefault((head, char))
                head += char
                tokens.setdefault(head)
    return numbered([*tokens, *last]), list(merges)


def word_end_bpe(last: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level BPE vocabulary of lower-case words whose last piece carries the end of the word."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *(char + WORD_END for char in alphabet)])
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        pieces = [*word.lower()[:-1], word[-1].lower() + WORD_END]
        head = pieces[0]
        for piece in pieces[1:]:
            merges.setdefault((head, piece))
            head += piece
            tokens.setdefault(head)
    return numbered([*tokens, *last]), list(merges)


def unigram(first: list[str], last: list[str]) -> list[tuple[str, float]]:
    """Unigram pieces with made-up scores: whole words beat suffixes, suffixes beat characters."""
    pieces = dict.fromkeys(first, 0.0)
    pieces.setdefault(METASPACE, -3.0)
    for i, word in enumerate(WORDS):
        if word.isalpha():
            pieces.setdefault(METASPACE + word, -5.0 - 0.01 * i)
            pieces.setdefault(word, -6.5 - 0.01 * i)
    for suffix in SUFFIXES:
        pieces.setdefault(suffix, -6.0)
    for i, char in enumerate(ASCII + OTHER_CHARACTERS):
        pieces.setdefault(char, -8.0 - 0.01 * i)
    for special in last:
        pieces.setdefault(special, 0.0)
    return list(pieces.items())
