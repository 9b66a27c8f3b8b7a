"""What the benchmarks of quality share: texts of several files, a retrieval task, and torch's vectors of them."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import BATCH_SIZE, require_file, sentence_transformer, status
from stcompile.cli.textfiles import read_texts
from stcompile.errors import InputError

Matrix = NDArray[np.float32]

# What was encoded (`sentences`, and of a retrieval task `queries` and `documents`) to its vectors, `(n, dim)`.
Vectors = Mapping[str, Matrix]

T = TypeVar("T")

CUTOFF = 10

# Similarities held at once: 64 MB.
_SCORES = 1 << 24


@dataclass(frozen=True)
class Retrieval:
    """A retrieval task.

    Attributes:
        queries: those that have an answer.
        documents: title and text of each.
        grades: of each query, position of a document to how well it answers, above 0.
    """

    queries: list[str]
    documents: list[str]
    grades: list[dict[int, float]]


@dataclass(frozen=True)
class Material:
    """Everything that is encoded."""

    sentences: list[str]
    retrieval: Retrieval | None

    def sha256(self) -> str:
        """Hash of the texts and their order."""
        return hashlib.sha256(json.dumps(asdict(self), ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def joined_texts(paths: Sequence[Path], limit: int) -> list[str]:
    """The different texts of several files; of more than `limit` an even sample, so that each file is in it."""
    texts = [text for path in paths for text in read_texts(str(require_file(path, "the text file")))]
    return even_sample(list(dict.fromkeys(texts)), limit)


def even_sample(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly spread, in their order."""
    if len(items) <= count:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, count)]


def read_retrieval(folder: Path) -> Retrieval:
    """A task in BEIR's layout: `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`.

    Raises:
        InputError: a file is missing or malformed, or an answer names what is not there.
    """
    documents = {
        str(line["_id"]): f"{line.get('title', '')} {line['text']}".strip() for line in _lines(folder / "corpus.jsonl")
    }
    queries = {str(line["_id"]): str(line["text"]) for line in _lines(folder / "queries.jsonl")}
    places = {name: place for place, name in enumerate(documents)}
    grades: dict[str, dict[int, float]] = {}
    for query, document, grade in _answers(folder / "qrels.tsv"):
        if query not in queries or document not in places:
            raise InputError(f"qrels.tsv in {folder} names query {query} and document {document}: one is not there")
        if grade > 0:
            grades.setdefault(query, {})[places[document]] = grade
    if not grades:
        raise InputError(f"qrels.tsv in {folder} names no answer: nothing to measure")
    return Retrieval([queries[name] for name in grades], list(documents.values()), list(grades.values()))


def part_of(task: Retrieval, queries: int, documents: int) -> Retrieval:
    """Some queries, and their answers among some documents.

    Raises:
        InputError: they have more answers than that.
    """
    places = even_sample(range(len(task.queries)), queries)
    answers = sorted({place for query in places for place in task.grades[query]})
    if len(answers) > documents:
        raise InputError(f"{len(places)} queries have {len(answers)} answers: pass more --documents or fewer --queries")
    others = sorted(set(range(len(task.documents))) - set(answers))
    kept = sorted([*answers, *even_sample(others, documents - len(answers))])
    now = {place: index for index, place in enumerate(kept)}
    return Retrieval(
        [task.queries[query] for query in places],
        [task.documents[place] for place in kept],
        [{now[place]: grade for place, grade in task.grades[query].items()} for query in places],
    )


def ndcg(vectors: Vectors, grades: Sequence[Mapping[int, float]]) -> float:
    """Mean NDCG@10 of ranking documents by cosine, times 100, with trec_eval's linear gain.

    Args:
        vectors: of `queries` and `documents`.
        grades: as in `Retrieval`.
    """
    queries, documents = _unit(vectors["queries"]), _unit(vectors["documents"])
    block = max(1, _SCORES // len(documents))
    found: list[float] = []
    for start in range(0, len(queries), block):
        # Equal scores in the documents' order.
        ranked = np.argsort(-(queries[start : start + block] @ documents.T), axis=1, kind="stable")[:, :CUTOFF]
        found += _each(ranked.tolist(), grades[start : start + block])
    return 100 * float(np.mean(found))


def ndcg_of(orders: Sequence[Sequence[int]], grades: Sequence[Mapping[int, float]]) -> float:
    """Mean NDCG@10 of documents in an order, times 100: of each query their positions, the best first."""
    return 100 * float(np.mean(_each(orders, grades)))


def _each(orders: Sequence[Sequence[int]], grades: Sequence[Mapping[int, float]]) -> list[float]:
    return [
        _gain([answers.get(place, 0.0) for place in order[:CUTOFF]])
        / _gain(sorted(answers.values(), reverse=True)[:CUTOFF])
        for order, answers in zip(orders, grades, strict=True)
    ]


def encoded(encoder: Any, material: Material) -> Vectors:
    """Everything encoded once, by a SentenceTransformer or an Encoder."""
    options = {"batch_size": BATCH_SIZE, "show_progress_bar": False}
    found = {"sentences": encoder.encode(material.sentences, **options)}
    if material.retrieval is not None:
        found["queries"] = encoder.encode_query(material.retrieval.queries, **options)
        found["documents"] = encoder.encode_document(material.retrieval.documents, **options)
    return found


def torch_vectors(model: Path, material: Material, cache: Path | None) -> Vectors:
    """What sentence-transformers makes of everything; read from `cache` where that holds it, else written there.

    Raises:
        InputError: the cache is of other texts, another model or other versions, or cannot be read or written.
    """
    if cache is None:
        return encoded(sentence_transformer(model), material)
    key = _key(model, material)
    if cache.exists():
        status("Taking torch's vectors from the cache")
        return _read(cache, key)
    partial = cache.with_name(f".{cache.name}.partial")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        # Opened first: what cannot be written is known before the minutes that torch takes.
        with partial.open("wb") as stream:
            found = encoded(sentence_transformer(model), material)
            stored: dict[str, Any] = {"key": np.array(key), **found}
            np.savez(stream, **stored)
        partial.replace(cache)
    except OSError as error:
        raise InputError(f"{cache} cannot be written ({error.strerror}): choose another --cache") from error
    finally:
        partial.unlink(missing_ok=True)
    return found


def _key(model: Path, material: Material) -> str:
    from stcompile.compiler.stack.load import load_stack  # noqa: PLC0415 - imports torch: only where there is a cache

    made_by = {name: version(name) for name in ("sentence-transformers", "torch")}
    return json.dumps({"texts": material.sha256(), "model": load_stack(model).fingerprint(), **made_by})


def _read(cache: Path, key: str) -> Vectors:
    try:
        with np.load(cache, allow_pickle=False) as stored:
            found = dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{cache} is not what this benchmark keeps: choose another --cache") from error
    if str(found.pop("key", "")) != key:
        raise InputError(
            f"{cache} holds the vectors of other texts, of another model or by other versions of torch or "
            "sentence-transformers: delete it or choose another --cache"
        )
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with require_file(path, "the retrieval file").open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                value = json.loads(line)
                if not isinstance(value, dict) or "_id" not in value or not isinstance(value.get("text"), str):
                    raise InputError(f"line {number} of {path} is not a JSON object with _id and text")
                yield value
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not JSONL in UTF-8 ({error})") from error


def _answers(path: Path) -> Iterator[tuple[str, str, float]]:
    try:
        with require_file(path, "the retrieval file").open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                yield row["query-id"], row["corpus-id"], float(row["score"])
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a table of query-id, corpus-id and score, with that header") from error


def _gain(grades: Sequence[float]) -> float:
    return float(sum(grade / np.log2(place + 2) for place, grade in enumerate(grades)))


def _unit(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Matrix = vectors / np.maximum(lengths, 1e-12)
    return unit
