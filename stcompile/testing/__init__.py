"""Parity as an assertion, for test suites of applications: what fails shows the texts that are furthest apart.

With pytest, the fixture `stcompile_parity` is there wherever stcompile is installed, and takes its bounds from
`[tool.stcompile]` of the project's pyproject.toml:

    def test_our_encoder(stcompile_parity):
        stcompile_parity("artifacts/minilm-int8", against="models/all-MiniLM-L6-v2")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stcompile.compiler.parity.evidence import Verification
    from stcompile.compiler.parity.thresholds import Thresholds

__all__ = ["assert_parity"]

_WORST = 5


def assert_parity(
    artifact: str | Path,
    against: Any = None,
    *,
    baseline: str | Path | None = None,
    texts: Sequence[str] | None = None,
    thresholds: Thresholds | None = None,
    device: str = "cpu",
    **bounds: Any,
) -> Verification:
    """Asserts that an artifact makes what its model makes, or what an earlier artifact made.

    Args:
        artifact: the artifact's folder.
        against: the model in sentence-transformers: folder, hub id, live object, or a `ModelSource` of one.
        baseline: an artifact in the place of a model; needs no torch.
        texts: what to encode; None takes the project's probe texts.
        thresholds: bounds in the place of the target's.
        device: where the artifact runs.
        bounds: some by name (`min_cosine`, `mean_cosine`, `max_abs_error`, `batch_invariance`, `neighbour_overlap`), in
            the place of `thresholds`; everything else is of the model, as of `stcompile.verify_artifact`.

    Returns:
        the verdict with what it rests on, for further assertions.

    Raises:
        AssertionError: it is not within its bounds; says which, and shows the worst texts.
        InputError: neither a model nor a baseline is named, or both are; others as of `stcompile.verify_artifact`.
    """
    import dataclasses  # noqa: PLC0415 - pytest loads this file in every session, so that it imports nothing

    from stcompile.compiler.parity.thresholds import Thresholds  # noqa: PLC0415 - the same
    from stcompile.errors import InputError  # noqa: PLC0415 - the same

    __tracebackhide__ = True
    if (against is None) == (baseline is None):
        raise InputError("assert_parity compares with one thing: pass against=MODEL or baseline=ARTIFACT")
    names = {field.name for field in dataclasses.fields(Thresholds)}
    asked = Thresholds(**{name: bounds.pop(name) for name in names & bounds.keys()})
    asked = asked.over(thresholds or Thresholds())
    if baseline is not None:
        from stcompile.compiler.parity.baseline import drift  # noqa: PLC0415 - imports the engine

        found = drift(artifact, baseline, texts=texts, thresholds=asked, device=device, **bounds)
    else:
        from stcompile.compiler.parity.verify import verification  # noqa: PLC0415 - imports torch

        found = verification(artifact, against, texts=texts, thresholds=asked, device=device, **bounds)
    if not found.passed:
        raise AssertionError(_said(found))
    return found


def _said(found: Verification) -> str:
    from stcompile.compiler.parity.probes import shortened  # noqa: PLC0415 - as above

    worst = [
        f"  {'' if one.cosine is None else f'cosine {one.cosine:.6f}, '}error {one.error:.2e}, {one.run}: "
        f"{shortened(one.text)!r}"
        for one in found.evidence.worst(_WORST)
    ]
    return "\n".join(
        [
            f"{found.artifact} ({found.parity.target}) against {found.against} is not within tolerance:",
            *(f"  {failure}" for failure in found.parity.failures),
            f"The worst of {found.parity.num_texts} texts:",
            *worst,
        ]
    )
