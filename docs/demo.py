"""The end of `make demo`: three sentences through a compiled artifact, without torch."""

from __future__ import annotations

import sys

import stcompile

SENTENCES = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
)


def main(artifact: str) -> None:
    encoder = stcompile.load(artifact)
    embeddings = encoder.encode(SENTENCES)
    similarities = encoder.similarity(embeddings, embeddings)
    lines = [f"embeddings: {embeddings.shape} {embeddings.dtype}", "similarity matrix:"]
    for sentence, row in zip(SENTENCES, similarities, strict=True):
        lines.append("  " + "  ".join(f"{value:6.3f}" for value in row) + f"   {sentence}")
    lines.append(f"torch imported: {'torch' in sys.modules}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
