#!/usr/bin/env bash
# mteb: a model whose similarity is euclidean is described by a file that mteb cannot read back.
#
# Seen:      2026-11-30, mteb 2.26.24
# Input:     a ModelMeta whose similarity_fn_name is each of mteb's own ScoringFunction members, written as JSON.
# Expected:  each is read back as it was written.
# Observed:  euclidean, manhattan and custom are written by their names and refused on reading, with "Invalid similarity
#            function name": the table that names are looked up in has cosine, dot and MaxSim alone. What reads results
#            later finds the scores and not the model's description.
# stcompile: its wrapper passes members of ScoringFunction, which are kept in the process as they are.
# Output:
#   mteb 2.26.24
#   cosine: read back
#   dot: read back
#   MaxSim: read back
#   euclidean: Invalid similarity function name
#   manhattan: Invalid similarity function name
#   custom: Invalid similarity function name
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet mteb==2.26.24 "$(grep '^torch==' "$root/constraints.txt")"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from mteb.models.model_meta import ModelMeta, ScoringFunction

print("mteb", version("mteb"))
found = {}
for member in ScoringFunction:
    written = ModelMeta.create_empty(
        overwrites={"name": "made/here", "revision": "1", "similarity_fn_name": member}
    ).model_dump_json()
    try:
        same = ModelMeta.model_validate_json(written).similarity_fn_name is member
        found[member.value] = "read back" if same else "read back as another"
    except ValueError as error:
        reason = "Invalid similarity function name"
        found[member.value] = reason if reason in str(error) else f"another error: {error}"
    print(f"{member.value}: {found[member.value]}")
refused = {name for name, what in found.items() if what == "Invalid similarity function name"}
right = {name for name, what in found.items() if what == "read back"}
described = refused == {"euclidean", "manhattan", "custom"} and len(right) == len(found) - 3
sys.exit(0 if described else "CHANGED: not as described in this script")
PYTHON
