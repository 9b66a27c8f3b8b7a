"""Regenerate golden/models and golden/expected, and print what changed: python -m golden.generate [--only GLOB ...]."""

from __future__ import annotations

import argparse
import fnmatch
import logging
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

# Read while the libraries are imported, hence above them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.cases import all_cases
from golden.generate.differences import differences
from golden.generate.record import record, write_inputs
from golden.generate.trim import trim

GOLDEN = Path(__file__).resolve().parent.parent
MODELS = GOLDEN / "models"
EXPECTED = GOLDEN / "expected"


def make(name: str, case: Case) -> list[str]:
    """Build one case aside, record it, put it in the place of the one that was there, and tell what changed."""
    with tempfile.TemporaryDirectory() as scratch:
        model, expected = Path(scratch, "model"), Path(scratch, "expected")
        expected.mkdir()
        builder = FolderBuilder(name, model, Path(scratch))
        torch.manual_seed(builder.seed)
        case.build(builder)
        trim(model)
        record(builder, case.covers, expected)
        changed = []
        for source, target in ((model, MODELS / name), (expected, EXPECTED / name)):
            changed += [f"{target.parent.name}/{name}/{line}" for line in differences(target, source)]
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
    return changed


def drop_strangers(names: set[str]) -> None:
    """Remove the folders of cases that are no longer in the table."""
    for parent in (MODELS, EXPECTED):
        for folder in parent.iterdir():
            if folder.is_dir() and folder.name not in names:
                shutil.rmtree(folder)


def be_quiet() -> None:
    """Silence the warnings that odd folders provoke on purpose."""
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m golden.generate", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="GLOB", help="only the cases whose name matches")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    args = parser.parse_args()

    cases = all_cases()
    chosen = {
        name: case
        for name, case in cases.items()
        if not args.only or any(fnmatch.fnmatch(name, glob) for glob in args.only)
    }
    if not chosen:
        parser.error("no case has such a name")
    if args.list:
        for name, case in chosen.items():
            print(f"{name}: {case.covers}")
        return 0

    be_quiet()
    torch.set_num_threads(1)
    MODELS.mkdir(exist_ok=True)
    EXPECTED.mkdir(exist_ok=True)
    write_inputs(EXPECTED)
    failed, different = 0, 0
    for name, case in chosen.items():
        try:
            changed = make(name, case)
        except Exception:
            failed += 1
            print(f"failed  {name}\n{traceback.format_exc()}", flush=True)
        else:
            print(f"{'changed' if changed else 'same   '} {name}", *changed, sep="\n        ", flush=True)
            different += bool(changed)
    if not args.only:
        drop_strangers(set(cases))
    print(f"{len(chosen) - failed} made, {different} of them changed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
