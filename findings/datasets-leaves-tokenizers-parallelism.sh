#!/usr/bin/env bash
# datasets: after map(num_proc=2) the process hands TOKENIZERS_PARALLELISM=false to every program that it starts.
#
# Seen:      2026-11-28, datasets 5.2.0
# Input:     a dataset of four rows, mapped with num_proc=2; then a subprocess that prints its environment.
# Expected:  the environment after the call is the one before it.
# Observed:  os.environ shows no TOKENIZERS_PARALLELISM, before or after, but a subprocess has it as "false": os.environ
#            was replaced by a copy whose writes and removals no longer reach the process's own environment. Tokenizers
#            in programs started later run on one thread.
# stcompile: its tests put the environment back after they call datasets.
# Output:
#   datasets 5.2.0
#   in this process: None -> None
#   in a program it starts: None -> false
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" datasets==5.2.0
cat > "$folder/script.py" <<'PYTHON'
import os
import subprocess
import sys
from importlib.metadata import version

import datasets

NAME = "TOKENIZERS_PARALLELISM"


def seen():
    """The variable here, and in a program that is started now."""
    code = f"import os; print(os.environ.get({NAME!r}))"
    below = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return str(os.environ.get(NAME)), below


def same(row):
    return row


if __name__ == "__main__":
    os.environ.pop(NAME, None)
    print("datasets", version("datasets"))
    datasets.disable_progress_bars()
    before = seen()
    datasets.Dataset.from_dict({"text": ["a", "b", "c", "d"]}).map(same, num_proc=2)
    after = seen()
    for where, old, new in zip(("this process", "a program it starts"), before, after):
        print(f"in {where}: {old} -> {new}")
    is_so = before == ("None", "None") and after == ("None", "false")
    sys.exit(0 if is_so else "CHANGED: not as described in this script")
PYTHON
HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" "$folder/venv/bin/python" "$folder/script.py"
