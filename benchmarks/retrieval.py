"""Retrieve, then rerank: is NDCG@10 of a whole search what it is with sentence-transformers on torch?

Both stages twice over the same task, by sentence-transformers on torch and by artifacts in processes without it: an
encoder, dense or sparse, finds the --top documents of each query, and a reranker puts them into another order. Printed
are NDCG@10 of either stage and the share of the ten best documents that both sides agree on.

Without --encoder that is the real all-MiniLM-L6-v2. Without --reranker there is one of seeded weights, which ranks like
chance: what counts then is that both sides agree. --documents takes a part of the corpus, all answers among it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import stcompile
from benchmarks._common import (
    at_least_one,
    limit_threads,
    machine_facts,
    model_folder,
    parser,
    print_table,
    run,
    status,
    write_json,
)
from benchmarks._quality import CUTOFF, Retrieval, ndcg_of, part_of, read_retrieval
from benchmarks.rerankers import like_ms_marco

# Query and documents to the documents' order, the best first; of a whole task the order of each query.
Rank = Callable[[str, Sequence[str]], Sequence[int]]
Orders = list[list[int]]


def main() -> int:
    arguments = _arguments()
    limit_threads(arguments.threads)
    task = part_of(read_retrieval(arguments.data), arguments.queries, arguments.documents)
    encoder = model_folder(arguments.encoder)
    with tempfile.TemporaryDirectory(prefix="stcompile-retrieval-") as scratch:
        reranker = arguments.reranker or like_ms_marco(Path(scratch) / "seeded")
        made = {}
        for name, model in (("encoder", encoder), ("reranker", reranker)):
            status(f"Compiling {Path(model).name} as {arguments.target}")
            made[name] = stcompile.export_model(model, Path(scratch) / name, arguments.target).folder
        ours = _searched(task, arguments.top, *_ours(made["encoder"], made["reranker"], arguments.threads))
        with stcompile.load(made["encoder"]) as loaded:
            is_sparse = isinstance(loaded, stcompile.SparseEncoder)
        status("The same by sentence-transformers on torch")
        theirs = _searched(task, arguments.top, *_theirs(encoder, reranker, is_sparse))
    results = _results(task, ours, theirs)
    names = {"encoder": Path(encoder).name, "reranker": Path(reranker).name, "target": arguments.target}
    _print(results, names, task, arguments.top)
    settings = {**names, "queries": len(task.queries), "documents": len(task.documents), "top": arguments.top}
    write_json(arguments.json, "retrieval", machine_facts(), settings, results)
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.retrieval --data scifact --reranker MODEL --json retrieval.json")
    made.add_argument("--data", metavar="DIR", type=Path, required=True, help="corpus.jsonl, queries.jsonl, qrels.tsv")
    made.add_argument("--encoder", metavar="MODEL", type=Path, help="folder of an encoder, dense or sparse")
    made.add_argument("--reranker", metavar="MODEL", type=Path, help="folder of a cross-encoder")
    made.add_argument("--target", default="onnx-int8", help="what both are compiled to (default: onnx-int8)")
    made.add_argument("--top", type=at_least_one, default=20, help="documents that are reranked (default: 20)")
    made.add_argument("--queries", type=at_least_one, default=300, help="most queries (default: 300)")
    made.add_argument("--documents", type=at_least_one, default=100_000, help="most documents (default: all)")
    made.add_argument("--threads", type=at_least_one, default=1, help="threads of either side (default: 1)")
    return made.parse_args()


def _searched(task: Retrieval, top: int, encoder: Any, rank: Rank) -> tuple[Orders, Orders]:
    """Of each query the documents that the encoder finds, and the order that the reranker puts them into."""
    status(f"Encoding {len(task.documents)} documents, then reranking {top} for each of {len(task.queries)} queries")
    scores = np.asarray(
        encoder.similarity(encoder.encode_query(task.queries), encoder.encode_document(task.documents)), np.float32
    )
    # Equal scores in the documents' order.
    found = np.argsort(-scores, axis=1, kind="stable")[:, :top].tolist()
    ranked = [
        [order[place] for place in rank(query, [task.documents[place] for place in order])]
        for query, order in zip(task.queries, found, strict=True)
    ]
    return found, ranked


def _ours(encoder: Path, reranker: Path, threads: int) -> tuple[Any, Rank]:
    scorer = stcompile.Reranker.load(reranker, threads=threads)

    def rank(query: str, documents: Sequence[str]) -> list[int]:
        return [int(item["corpus_id"]) for item in scorer.rank(query, documents)]

    return stcompile.load(encoder, threads=threads), rank


def _theirs(encoder: Path, reranker: Path, is_sparse: bool) -> tuple[Any, Rank]:
    import sentence_transformers as st  # noqa: PLC0415 - imports torch: only where it is needed

    kind: Any = st.SparseEncoder if is_sparse else st.SentenceTransformer
    scorer = st.CrossEncoder(str(reranker), device="cpu")

    def rank(query: str, documents: Sequence[str]) -> list[int]:
        return [int(item["corpus_id"]) for item in scorer.rank(query, list(documents))]

    return kind(str(encoder), device="cpu"), rank


def _results(task: Retrieval, ours: tuple[Orders, Orders], theirs: tuple[Orders, Orders]) -> list[dict[str, Any]]:
    stages = zip(("retrieved", "reranked"), ours, theirs, strict=True)
    return [
        {
            "stage": stage,
            "ndcg_torch": round(ndcg_of(reference, task.grades), 3),
            "ndcg_ours": round(ndcg_of(own, task.grades), 3),
            "same_ten": round(
                float(
                    np.mean(
                        [
                            len({*one[:CUTOFF]} & {*other[:CUTOFF]}) / min(CUTOFF, len(one))
                            for one, other in zip(own, reference, strict=True)
                        ]
                    )
                ),
                4,
            ),
        }
        for stage, own, reference in stages
    ]


def _print(results: Sequence[dict[str, Any]], names: dict[str, str], task: Retrieval, top: int) -> None:
    rows = [
        (row["stage"], f"{row['ndcg_torch']:.2f}", f"{row['ndcg_ours']:.2f}", f"{row['same_ten']:.3f}")
        for row in results
    ]
    title = f"{names['encoder']}, then {names['reranker']}, as {names['target']}"
    note = f"{len(task.queries)} queries, {len(task.documents)} documents, the first {top} reranked"
    print_table(title, ("stage", "NDCG@10 torch", "NDCG@10 stcompile", "same ten"), rows, (note,))


if __name__ == "__main__":
    run(main)
