"""How near a graph that is kept as it is comes to the model that it was made of, where that lies beside it."""

from __future__ import annotations

import dataclasses

from stcompile.artifact import Artifact
from stcompile.compiler.metrics import distance
from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.parity.reference import open_reference
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import StcompileError
from stcompile.runtime.loading import load

# Enough for a mean; whoever wants a verdict exports a target that is judged against the model.
_TEXTS = 64


def beside_weights(source: ModelSource, artifact: Artifact) -> str:
    """A sentence on it, or on why nobody can tell.

    Args:
        source: the model, whose graph is kept.
        artifact: what it was compiled to.
    """
    model = dataclasses.replace(source, adopt=False, file=None)
    try:
        with model.as_it_is() as (folder, _):
            graphs = model.graphs(folder)
            if graphs == source.graphs(folder):
                return _ALONE
            judge = open_reference(model)
    except StcompileError:  # neither weights nor a graph in float32
        return _ALONE
    texts = probe_texts()[:: len(probe_texts()) // _TEXTS]
    dim = artifact.manifest.dim
    with load(artifact.folder, check_integrity=False) as encoder:
        found = encoder.encode(texts, prompt="", truncate_dim=dim)
    apart = distance(judge.encode(texts, prompt="", task=None, dim=dim, batch_size=1), found)
    mean, smallest = apart.cosine.mean(), apart.cosine.min()
    which = next(iter(graphs.values()), "the model's own weights in torch")
    return f"beside {which}: mean cosine {mean:.4f}, smallest {smallest:.4f}, over {len(texts)} texts"


_ALONE = "no weights, and no graph in float32, are beside the graph: how near it is to the model nobody can tell"
