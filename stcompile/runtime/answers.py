"""What an artifact makes of some texts, whichever kind it is."""

from __future__ import annotations

from typing import Any

from stcompile.runtime.hybrid_encoder import HybridEncoder
from stcompile.runtime.loaded import Loaded
from stcompile.runtime.reranker import Reranker


def answered(loaded: Loaded, texts: list[Any], options: dict[str, Any], part: str = "") -> Any:
    """What its own method gives with some options: of a hybrid encoder a part of that, where one is named."""
    if isinstance(loaded, HybridEncoder) and part:
        return getattr(loaded.encode_hybrid(texts, outputs=[part], **options), part)
    ask = getattr(loaded, "predict" if isinstance(loaded, Reranker) else "encode")
    return ask(texts, **options)
