"""MTEB: small tasks of its own classes, and the scores that the artifact's own vectors have there."""

import sys
from pathlib import Path
from typing import Any, ClassVar

import mteb
import numpy as np
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from scipy.stats import pearsonr, spearmanr

import stcompile
from stcompile.errors import InputError
from stcompile.integrations.mteb import StcompileModel, StcompileReranker

encoder, reranker = sys.argv[1:]
loaded = stcompile.load(encoder, threads=1)

DOCUMENTS = ["a dog", "a cat", "one more", "the second one", "a cat and a dog", "more of the same"]
QUERIES = ["dog", "one", "the cat"]
# The only right document of each query.
ANSWERS = [4, 3, 0]

# Pairs, and how alike they are said to be.
FIRST, SECOND, GIVEN = DOCUMENTS, [*DOCUMENTS[1:], "a dog"], [0.0, 5.0, 1.0, 4.0, 2.0, 3.0]


def described(name: str, kind: str, metric: str) -> TaskMetadata:
    """What mteb wants to know of any task."""
    return TaskMetadata(
        name=name,
        description="Made for a test.",
        dataset={"path": "made/here", "revision": "1"},
        type=kind,
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score=metric,
    )


class Similarity(AbsTaskSTS):  # type: ignore[misc] # of a package that is not here
    metadata = described("MadeSTS", "STS", "cosine_spearman")

    def load_data(self, **_: Any) -> None:
        rows = Dataset.from_dict({"sentence1": FIRST, "sentence2": SECOND, "score": GIVEN})
        self.dataset = DatasetDict({"test": rows})
        self.data_loaded = True


class Search(AbsTaskRetrieval):  # type: ignore[misc] # of a package that is not here
    metadata = described("MadeRetrieval", "Retrieval", "mrr_at_10")
    candidates: ClassVar[dict[str, list[str]] | None] = None

    def load_data(self, **_: Any) -> None:
        made = {
            "corpus": Dataset.from_list([{"id": f"d{i}", "text": text} for i, text in enumerate(DOCUMENTS)]),
            "queries": Dataset.from_list([{"id": f"q{i}", "text": text} for i, text in enumerate(QUERIES)]),
            "relevant_docs": {f"q{i}": {f"d{answer}": 1} for i, answer in enumerate(ANSWERS)},
            "top_ranked": self.candidates,
        }
        self.dataset = {"default": {"test": made}}
        self.data_loaded = True


class Reranking(Search):
    metadata = described("MadeReranking", "Reranking", "mrr_at_10")
    candidates: ClassVar = {f"q{i}": [f"d{place}" for place in range(len(DOCUMENTS))] for i in range(len(QUERIES))}


def scored(model: Any, task: Any) -> dict[str, Any]:
    """The scores of a task, which mteb keeps in the folder `cache`."""
    (result,) = mteb.evaluate(model, task, cache=mteb.ResultCache("cache"), show_progress_bar=False).task_results
    meta = model.mteb_model_meta
    assert Path("cache", "results", meta.name.replace("/", "__"), meta.revision, f"{result.task_name}.json").is_file()
    found: dict[str, Any] = result.scores["test"][0]
    return found


def correlations(encode: Any) -> list[float]:
    """Spearman's and Pearson's, of the cosines of the pairs' vectors with what the pairs were given."""
    first, second = encode(FIRST), encode(SECOND)
    cosines = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return [float(measure(cosines, GIVEN)[0]) for measure in (spearmanr, pearsonr)]


def mean_reciprocal_rank(scores: Any) -> float:
    """Of scores `(queries, documents)`."""
    ranks = [1 + int((row > row[answer]).sum()) for row, answer in zip(scores, ANSWERS, strict=True)]
    return float(np.mean([1 / rank for rank in ranks]))


model = StcompileModel(encoder, threads=1)
meta = model.mteb_model_meta
assert meta.name == f"stcompile/{Path(encoder).name}"
assert meta.revision.startswith(f"{loaded.fingerprint}.")
assert (meta.embed_dim, meta.max_tokens, meta.framework) == (16, loaded.max_seq_length, ["ONNX"])
assert (meta.similarity_fn_name.value, meta.use_instructions) == (loaded.similarity_fn_name, True)

# Neither queries nor documents: no prompt, and the model's default route.
found = scored(model, Similarity())
expected = correlations(loaded.encode)
assert np.allclose([found["cosine_spearman"], found["cosine_pearson"]], expected), (found, expected)
assert np.allclose([found["spearman"], found["pearson"]], expected), (found, expected)
for other in (loaded.encode_query, loaded.encode_document):
    assert not np.allclose(correlations(other), expected, atol=1e-3)

best = mean_reciprocal_rank(loaded.similarity(loaded.encode_query(QUERIES), loaded.encode_document(DOCUMENTS)))
for task in (Search(), Reranking()):
    assert np.isclose(scored(model, task)["mrr_at_10"], best), (task.metadata.name, best)
ways = [loaded.encode, loaded.encode_query, loaded.encode_document]
others = [(one, two) for one in ways for two in ways if (one, two) != (loaded.encode_query, loaded.encode_document)]
for one, two in others:
    assert not np.isclose(mean_reciprocal_rank(loaded.similarity(one(QUERIES), two(DOCUMENTS))), best), (one, two)

judge = StcompileReranker(reranker)
scores = judge.model.predict([(query, text) for query in QUERIES for text in DOCUMENTS])
best = mean_reciprocal_rank(scores.reshape(len(QUERIES), len(DOCUMENTS)))
assert np.isclose(scored(judge, Reranking())["mrr_at_10"], best)
assert judge.mteb_model_meta.is_cross_encoder
try:
    StcompileModel(reranker)
except InputError as error:
    assert "this takes an encoder or a hybrid encoder, and got a reranker" in str(error)
else:
    raise AssertionError("a reranker makes no embeddings")
print("right")
