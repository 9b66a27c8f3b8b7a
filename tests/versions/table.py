"""Which versions are tried: the one place that lists them. `noxfile.py` runs them, `report.py` tells what came of it.

A column has the newest release of each minor version, from the oldest that pyproject.toml declares to the newest there
is. The oldest releases themselves are pinned in constraints-oldest.txt and constraints-oldest-compile.txt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

Row = dict[str, str]
Columns = Mapping[str, Sequence[str]]

PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# Every row of the longest column runs on every Python; the others change beside it, each as often as the next.
RUNTIME: Columns = {
    "onnxruntime": (
        *("1.23.2", "1.24.4", "1.25.1", "1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0"),
        *("1.31.1", "1.32.0"),
    ),
    "openvino": ("2026.3.1", "2026.4.1"),
    "tokenizers": ("0.20.3", "0.21.4", "0.22.2", "0.23.3"),
    "numpy": ("1.26.4", "2.0.2", "2.1.3", "2.2.6", "2.3.5", "2.4.6", "2.5.5"),
    "nltk": ("3.9.4", "3.10.4"),
}

# What pip has no wheel of (`nox -s wheels` asks it): the same versions run on the other Pythons.
WITHOUT_WHEEL: Mapping[str, Columns] = {
    "3.11": {"numpy": ("2.5.5",)},
    "3.12": {},
    "3.13": {"numpy": ("1.26.4", "2.0.2")},
    "3.14": {"onnxruntime": ("1.23.2",), "tokenizers": ("0.20.3",), "numpy": ("1.26.4", "2.0.2", "2.1.3", "2.2.6")},
}

# On this one old engines run beside new releases of everything else, on the others beside old ones.
CROSSED = "3.12"
ENGINES = ("onnxruntime", "openvino")

# Where the few rows of CI start, so that they still have every version of every package.
SHIFT = 2

# torch is the release that constraints.txt pins; transformers asks for its huggingface-hub, tokenizers, safetensors.
COMPILER: Columns = {
    "transformers": (
        *("4.57.6", "5.0.0", "5.1.0", "5.2.0", "5.3.0", "5.4.0", "5.5.4", "5.6.2", "5.7.0", "5.8.1", "5.9.0"),
        *("5.10.4", "5.11.0", "5.12.1", "5.13.1", "5.14.1", "5.15.1", "5.16.1", "5.17.0", "5.18.0", "5.19.0"),
        *("5.20.2", "5.21.1", "5.22.2", "5.23.0", "5.24.0"),
    ),
    "sentence-transformers": ("5.4.1", "5.5.1", "5.6.1", "5.7.0", "6.0.1", "6.1.0", "6.2.0"),
    "onnx": ("1.19.1", "1.20.1", "1.21.0", "1.22.0", "1.23.2"),
    "onnx-ir": ("0.1.16", "0.2.1", "1.0.0", "1.1.0"),
    "onnxscript": ("0.6.2", "0.7.2"),
    "ml-dtypes": ("0.5.4", "0.6.0"),
}

# Each beside what constraints.txt pins, which has the one between them. 2.15.0 could not be had when these ran.
TORCHES = ("2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.14.1")


def pins(file: str) -> Row:
    """The releases that a file of constraints pins, by the names of their packages in lower case and with hyphens."""
    found = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def runtime_rows(python: str) -> list[Row]:
    """What the runtime is tried with on a Python, one release of each package a row."""
    columns = _with_wheels(python)
    if python == CROSSED:
        columns = {name: versions if name in ENGINES else versions[::-1] for name, versions in columns.items()}
    return _spread(columns)


def few_runtime_rows(python: str) -> list[Row]:
    """Of those, what CI runs: every engine's release on one of the Pythons, and the newest on all."""
    rows, engines = runtime_rows(python), RUNTIME[ENGINES[0]]
    place = PYTHONS.index(python)
    return [row for row in rows if row is rows[-1] or (engines.index(row[ENGINES[0]]) + SHIFT) % len(PYTHONS) == place]


def newest_runtime(python: str) -> list[Row]:
    """The newest release of everything that a Python has a wheel of: what pip installs there."""
    return [{package: versions[-1] for package, versions in _with_wheels(python).items()}]


def compiler_rows() -> list[Row]:
    """What the compiler is tried with."""
    return _spread(COMPILER)


def torch_rows() -> list[Row]:
    """Other releases of torch. Each is gigabytes where pip is offered a build with CUDA: CI runs none of them."""
    return [{"torch": version} for version in TORCHES]


def few_compiler_rows() -> list[Row]:
    """Of those, what CI runs: the first transformers 5, and the newest. The oldest of all is a 4."""
    rows = compiler_rows()
    return [rows[1], rows[-1]]


def _with_wheels(python: str) -> dict[str, list[str]]:
    lacking = WITHOUT_WHEEL[python]
    return {
        package: [version for version in versions if version not in lacking.get(package, ())]
        for package, versions in RUNTIME.items()
    }


def _spread(columns: Columns) -> list[Row]:
    """As many rows as the longest column has; the versions of a shorter one are each in several that follow."""
    length = max(map(len, columns.values()))
    return [
        {name: versions[place * len(versions) // length] for name, versions in columns.items()}
        for place in range(length)
    ]
