"""MTEB: `StcompileModel` for its tasks of texts, `StcompileReranker` for those that rank again."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType
from numpy.typing import NDArray

from stcompile.artifact.manifest import MANIFEST_NAME, OPENVINO
from stcompile.integrations._opened import DENSE, SCORES, opened

# By their values: from a name, mteb makes only the first two.
_SCORING = {
    "cosine": ScoringFunction.COSINE,
    "dot": ScoringFunction.DOT_PRODUCT,
    "euclidean": ScoringFunction.EUCLIDEAN,
    "manhattan": ScoringFunction.MANHATTAN,
}


class StcompileModel(AbsEncoder):
    """Queries by `encode_query`, documents by `encode_document`, texts of tasks that have neither by `encode`.

        mteb.evaluate(StcompileModel("minilm-int8"), mteb.get_tasks(tasks=["NFCorpus", "STSBenchmark"]))

    A prompt that the model has for a task or a kind of task goes before those of queries and documents, as mteb does it
    for sentence-transformers.

    Args:
        artifact: an encoder's folder, or what `stcompile.load` gave.
        load_options: as of `stcompile.load`, where it is a folder.

    Attributes:
        model: what was loaded.
        mteb_model_meta: what mteb writes beside results, and finds them by.

    Raises:
        InputError: it is no encoder of dense vectors.
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    def __init__(self, artifact: Any, **load_options: Any) -> None:
        self.model = opened(artifact, DENSE, **load_options)
        self.model_prompts = self.model.prompts
        self.mteb_model_meta = _meta(
            self.model,
            embed_dim=self.model.get_embedding_dimension(),
            similarity_fn_name=_SCORING[self.model.similarity_fn_name],
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> NDArray[Any]:
        """A vector of each text.

        Args:
            inputs: batches, each with its texts as `text`.
            task_metadata: of the task.
            hf_split: of the task.
            hf_subset: of the task.
            prompt_type: whether they are queries, documents, or neither.
            kwargs: as of `Encoder.encode`; `batch_size`, which mteb always has, sizes only what it hands over.

        Returns:
            float32 `(n, dim)`, or of another `precision` as `Encoder.encode`.
        """
        kwargs.pop("batch_size", None)
        methods = {PromptType.query: self.model.encode_query, PromptType.document: self.model.encode_document}
        encode = self.model.encode if prompt_type is None else methods[prompt_type]
        texts = [text for batch in inputs for text in batch["text"]]
        return encode(texts, prompt_name=self.get_prompt_name(task_metadata, prompt_type), **kwargs)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]:
        """`(n, m)` of `(n, dim)` and `(m, dim)`, by the model's own measure."""
        return self.model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]:
        """`(n,)` of `(n, dim)` and `(n, dim)`, by the model's own measure."""
        return self.model.similarity_pairwise(embeddings1, embeddings2)


class StcompileReranker:
    """Scores pairs of a query and a document, as mteb's cross-encoders do.

        mteb.evaluate(StcompileReranker("ms-marco-int8"), mteb.get_tasks(tasks=["AskUbuntuDupQuestions"]))

    Args:
        artifact: a reranker's folder, or what `stcompile.load` gave.
        load_options: as of `stcompile.load`, where it is a folder.

    Attributes:
        model: what was loaded.
        mteb_model_meta: what mteb writes beside results, and finds them by.

    Raises:
        InputError: it is no reranker, or gives a pair several scores.
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    def __init__(self, artifact: Any, **load_options: Any) -> None:
        self.model = opened(artifact, SCORES, **load_options)
        self.mteb_model_meta = _meta(self.model, model_type=["cross-encoder"])

    def predict(
        self,
        inputs1: Any,
        inputs2: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> NDArray[np.float32]:
        """A score of each pair.

        Args:
            inputs1: batches of queries, each with its texts as `text`.
            inputs2: batches of documents, as many.
            task_metadata, hf_split, hf_subset, prompt_type, kwargs: they change nothing.

        Returns:
            float32 `(n,)`.
        """
        # Batch by batch: of some tasks there are millions of pairs.
        scores = [
            self.model.predict(list(zip(queries["text"], documents["text"], strict=True)), show_progress_bar=False)
            for queries, documents in zip(inputs1, inputs2, strict=True)
        ]
        return np.concatenate([np.empty(0, np.float32), *scores])


def _meta(loaded: Any, **besides: Any) -> ModelMeta:
    """What mteb is told of an artifact; what it cannot know of a folder is left open."""
    folder, manifest = loaded.artifact.folder.resolve(), loaded.artifact.manifest
    # mteb takes an earlier result of the same name and revision for its own, so a revision names the very files.
    files = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()[:8]
    told = {
        "name": f"stcompile/{loaded.artifact.name.replace('/', '__')}",
        "revision": ".".join(filter(None, (loaded.fingerprint, files))),
        "max_tokens": loaded.max_seq_length,
        "framework": ["OpenVINO" if manifest.engine.name == OPENVINO else "ONNX"],
        "use_instructions": any(loaded.prompts.values()),
    }
    return ModelMeta.create_empty(overwrites={**told, **besides})
