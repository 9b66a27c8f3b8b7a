"""The pytest plugin: `stcompile_parity`, which is `assert_parity` with the bounds of the project's pyproject.toml."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def stcompile_parity(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """Asserts parity of an artifact with a model (`against=`) or an earlier artifact (`baseline=`).

    As `stcompile.testing.assert_parity`, with the bounds that `[tool.stcompile]` of the nearest pyproject.toml names,
    from pytest's root folder up; a call's own bounds come before them.
    """
    from stcompile.compiler.parity.thresholds import thresholds_in  # noqa: PLC0415 - for who asks for it alone
    from stcompile.testing import assert_parity  # noqa: PLC0415 - the same

    return functools.partial(assert_parity, thresholds=thresholds_in(pytestconfig.rootpath))
