"""The texts every case is encoded with, and the prompts several cases store."""

from __future__ import annotations

# One string, or a pair of strings read as one sequence.
Input = str | list[str]

# Longer than every model's window.
LONG = " ".join(
    f"the quick brown fox number {i} jumps over a lazy dog while it rains in New York city" for i in range(14)
)

SENTENCES: list[str] = [
    "",
    "   ",
    "\t\n ",
    "hello",
    "Hello World",
    "hello hello hello hello hello",
    "The quick brown fox jumps over the lazy dog.",
    LONG,
    "  leading and trailing spaces  ",
    "line one\nline two\r\n\tindented",
    "\U0001f600 emoji \U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family \U0001f1eb\U0001f1f7 flag",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u8fd9\u662f\u4e00\u4e2a\u6d4b\u8bd5",
    "\u3053\u3093\u306b\u3061\u306f \u4e16\u754c \uc548\ub155\ud558\uc138\uc694",
    "Caf\u00e9 d\u00e9j\u00e0 vu na\u00efve \u00c5ngstr\u00f6m",
    "Cafe\u0301 de\u0301ja\u0300 vu nai\u0308ve A\u030angstro\u0308m",
    "zero\u200bwidth\u200djoiner\ufeffbom\u2060word",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "MiXeD CaSe TeXt WITH ALLCAPS",
    "x",
    "?!...",
    "[CLS] hello [SEP] [MASK] [PAD] <s> </s> <pad> <|endoftext|>",
    "New York is bigger than new_york and the New_York_City area",
    "C++ & C# <html> \"quotes\" 'single' `tick` 100% $5.00 1,234.56",
    "\ufb01 ligature \u2167 \u00bd \uff12 \uff46\uff55\uff4c\uff4c\uff57\uff49\uff44\uff54\uff48",
    "control\x00\x07char\x7fhere",
    "Stra\u00dfe \u0130stanbul \u0391\u03a3 \u03c2 \u01c5",
    # One word of more than a hundred characters: WordPiece gives up on it.
    "a" * 130,
]

PAIRS: list[list[str]] = [[text, SENTENCES[(i * 5 + 3) % len(SENTENCES)]] for i, text in enumerate(SENTENCES)]

# Texts of at least two words of the word vocabulary: the fewest an even kernel can slide over.
WORD_TEXTS: list[str] = [
    "hello world",
    "Hello World",
    "hello hello hello hello hello",
    "the quick brown fox jumps over the lazy dog",
    "The quick brown fox jumps over the lazy dog.",
    LONG,
    "  leading and trailing spaces  ",
    "line one\nline two\r\n\tindented",
    "emoji family flag",
    "New York is bigger than new_york",
    "text WITH quotes, single tick",
    "naive angstrom",
    "zero width joiner bom word",
    "what is the weather today",
    "query passage document",
    "represent unknownword retrieval",
    "(search) title!",
    "it rains in New York city",
    "yes, no; yes; no.",
    "full control of this char here",
    "C++ with x",
    "an area on the city",
    "\u4f60\u597d world",
    "two dog",
]

# What a case may name as its inputs; each is one JSON file of golden/expected.
INPUTS: dict[str, list[Input]] = {"sentences": list(SENTENCES), "pairs": list(PAIRS), "words": list(WORD_TEXTS)}

PROMPTS = {"query": "represent the query for retrieval: ", "document": "passage: ", "bare": "title"}

# Fills the window of every model by itself.
LONG_PROMPT = {"long": "query " * 90}
