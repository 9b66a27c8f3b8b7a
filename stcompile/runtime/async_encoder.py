"""`AsyncEncoder`: one encoder for many concurrent callers of an event loop, whose texts share runs of the graph."""

from __future__ import annotations

from typing import Any, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import ENCODER, HYBRID
from stcompile.errors import InputError
from stcompile.runtime.collector import Collector, CollectorOptions, Usage
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.inputs import Sentences, listed
from stcompile.runtime.options import DOCUMENT, QUERY, EncodeOptions
from stcompile.runtime.signatures import SharedOptions


class AsyncEncoder(Collector):
    """Encodes for callers of one event loop; their texts are collected and run together.

        async with AsyncEncoder(stcompile.load(folder)) as encoder:
            vector = await encoder.encode("a text")

    Arguments, errors and what callers may rely on are of `Collector`.

    Attributes:
        encoder: what encodes; it stays open.
    """

    kinds = (ENCODER, HYBRID)
    takes = "an Encoder"

    def __init__(self, encoder: Encoder, **options: Unpack[CollectorOptions]) -> None:
        if not hasattr(encoder, "encode"):
            raise InputError(f"AsyncEncoder collects the texts of an Encoder, got {type(encoder).__name__}")
        super().__init__(encoder, **options)
        self.encoder = encoder

    async def encode(
        self, sentences: Sentences, *, usage: Usage | None = None, **options: Unpack[SharedOptions]
    ) -> NDArray[np.float32]:
        """What `Encoder.encode` gives for the same texts.

        Args:
            sentences: one text or a list of texts, as there.
            usage: what this call had is added to it.
            options: `prompt_name`, `prompt`, `normalize_embeddings`, `truncate_dim` and `task`, as there.

        Returns:
            float32 `(n, dim)`, for a single text `(dim,)`.

        Raises:
            InputError: as there, and for other options; no other caller notices.
            StcompileError: it is closed, or belongs to another event loop.
        """
        return await self._encoded(sentences, options, None, usage)

    async def encode_query(
        self, sentences: Sentences, *, usage: Usage | None = None, **options: Unpack[SharedOptions]
    ) -> NDArray[np.float32]:
        """As `encode`, with the meaning of `Encoder.encode_query`."""
        return await self._encoded(sentences, options, QUERY, usage)

    async def encode_document(
        self, sentences: Sentences, *, usage: Usage | None = None, **options: Unpack[SharedOptions]
    ) -> NDArray[np.float32]:
        """As `encode`, with the meaning of `Encoder.encode_document`."""
        return await self._encoded(sentences, options, DOCUMENT, usage)

    async def _encoded(
        self, sentences: Sentences, options: SharedOptions, role: str | None, usage: Usage | None
    ) -> NDArray[np.float32]:
        texts, single = listed(sentences)
        unknown = sorted(options.keys() - SharedOptions.__annotations__.keys())
        if unknown:
            raise InputError(f"texts of several callers share a run: {', '.join(unknown)} cannot be chosen for one")
        asked = EncodeOptions(**cast("dict[str, Any]", options), show_progress_bar=False)
        settled = asked.settled(self.encoder.artifact.manifest, self.encoder.device, role)
        vectors = await self._ask(texts, settled, usage)
        return vectors[0] if single else vectors  # type: ignore[no-any-return] # what the encoder gave

    def _computed(self, texts: list[Any], options: EncodeOptions) -> Any:
        return self._worker.encode(texts, **vars(options))
