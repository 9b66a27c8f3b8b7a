"""Scripts that use a package in an environment of its own, for the tests of the tier `clients`."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What the runtime needs, beside the package that is used: ours is taken from the working tree.
RUNTIME = ("onnxruntime", "tokenizers", "numpy")

_QUIET = {"HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "False", "HAYSTACK_TELEMETRY_ENABLED": "False"}


def run_apart(
    script: Path, packages: tuple[str, ...], arguments: list[str], folder: Path, *, ours: bool, without: str = ""
) -> None:
    """Installs packages into a new environment, runs a script there, and expects it to end with the line `right`.

    Args:
        script: what is run.
        packages: as pip takes them.
        arguments: of the script.
        folder: an empty one, for the environment.
        ours: whether the script imports stcompile.
        without: a package to remove again, which is required and used by nothing here.
    """
    venv.create(folder / "env", with_pip=True)
    python = str(folder / "env" / "bin" / "python")
    wanted = [*packages, *(RUNTIME if ours else ())]
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr[-2000:]
    if without:
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", without], capture_output=True, check=True)
    environment = {**os.environ, **_QUIET}
    if ours:
        environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [python, "-P", str(script), *arguments],  # a script may have the name of its package
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "right"
