"""`load`: an artifact's folder to what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stcompile.artifact.manifest import ENCODER, HYBRID, MULTI_VECTOR, RERANKER, SPARSE
from stcompile.runtime.device import CPU
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.hub import located
from stcompile.runtime.hybrid_encoder import HybridEncoder
from stcompile.runtime.loaded import Loaded, fitting_artifact
from stcompile.runtime.multi_vector_encoder import MultiVectorEncoder
from stcompile.runtime.reranker import Reranker
from stcompile.runtime.sparse_encoder import SparseEncoder

_CLASSES: dict[str, type[Loaded]] = {
    ENCODER: Encoder,
    RERANKER: Reranker,
    SPARSE: SparseEncoder,
    MULTI_VECTOR: MultiVectorEncoder,
    HYBRID: HybridEncoder,
}


def load(
    artifact: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    device: str = CPU,
    threads: int | None = None,
    cuda_graphs: bool = False,
    check_integrity: bool = True,
    expect_fingerprint: str | None = None,
    self_test: bool = False,
) -> Any:
    """Opens an artifact as what it is.

    An `Encoder`, `Reranker`, `SparseEncoder`, `MultiVectorEncoder` or `HybridEncoder`. For type
    checkers that is anything; `load` of those classes says what it gives, and opens nothing else.

    Args:
        artifact: the folder that `stcompile export` wrote (`~` is the home folder), or a repository of the hub that
            it was pushed to, `owner/name` or `owner/name@revision`; a folder of that name wins, and a `Path` is always
            one. Needs `stcompile[hub]`.
        revision: of the repository: a branch, a tag or a commit; None takes its main branch.
        cache_dir: where the hub's files are kept; None takes its own place.
        device: `cpu`, `cuda` or `cuda:1`. Asking for a GPU and not getting it is an error, never a CPU run.
        threads: engine threads; None takes the CPUs this process may use (affinity and container quota).
        cuda_graphs: capture small runs on a GPU as CUDA graphs, one for each length and power of two of texts: fewer
            launches, more memory. Not measured yet.
        check_integrity: compare every file with its sha256 first (about 1 s per GB).
        expect_fingerprint: refuse an artifact whose vectors do not compare with those of the one that has this
            `fingerprint`; `*` in the place of one of its parts takes any. None takes every artifact.
        self_test: encode a few inputs that the artifact carries with what the reference made of them, and refuse it
            where they are further apart than was allowed at export: a wrong kernel, engine or machine shows here.
            Takes some hundredths of a second.

    Raises:
        ArtifactError: it is missing, corrupt, tampered with or of a newer schema; it has another fingerprint than is
            expected, or what is asked for is not in it, because it is of schema 8 or older; the hub does not have it,
            or cannot be reached and its cache does not have it.
        ParityError: it failed its self-test.
        ProviderError: the device is not available.
        MissingExtraError: the engine is not installed, or what asks the hub.
        InputError: a number is out of range, graphs are asked for on a CPU, or a revision of a folder.
    """
    found = located(artifact, revision, cache_dir)
    opened = fitting_artifact(found, threads, expect_fingerprint, check_integrity=check_integrity)
    loaded = _CLASSES[opened.manifest.kind](
        opened, device=device, threads=threads, cuda_graphs=cuda_graphs, check_integrity=check_integrity
    )
    return loaded.tested() if self_test else loaded
