#!/usr/bin/env bash
# pyarrow: a text of a numpy array of texts is cut at its first NUL letter, without a word.
#
# Seen:      2026-11-28, pyarrow 26.0.1, numpy 2.4.6
# Input:     numpy.array(["a\0b", "cd"]), of numpy's fixed-width texts, and the same as an array of objects.
# Expected:  pyarrow.array() keeps "a\0b", as numpy itself does (numpy drops NULs at the end alone).
# Observed:  of the fixed-width array it gives "a", of the array of objects "a\0b". datasets hands such arrays to pyarrow
#            when a function returns the columns of a batch in the numpy format: there the texts are cut as well.
# stcompile: gives texts back as objects (bulk/batch.py), and takes no id with a NUL into numpy's files (bulk/writers/npy.py).
# Output:
#   pyarrow 26.0.1
#   numpy 2.4.6
#   numpy: ['a\x00b', 'cd']
#   pyarrow, fixed width: ['a', 'cd']
#   pyarrow, objects: ['a\x00b', 'cd']
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" pyarrow==26.0.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pyarrow as pa

for name in ("pyarrow", "numpy"):
    print(name, version(name))
texts = np.array(["a\0b", "cd"])
found = [texts.tolist(), pa.array(texts).to_pylist(), pa.array(texts.astype(object)).to_pylist()]
for name, values in zip(("numpy", "pyarrow, fixed width", "pyarrow, objects"), found):
    print(f"{name}: {values}")
whole = ["a\0b", "cd"]
sys.exit(0 if found == [whole, ["a", "cd"], whole] else "CHANGED: not as described in this script")
PYTHON
