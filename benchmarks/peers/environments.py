"""The environments that the contenders run in: each its own, made here, because their pins exclude each other."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks._common import REPOSITORY, last_line, status
from stcompile.errors import InputError

# The release every environment with torch gets: what the others allow, and the project's own constraints pin.
_TORCH = "torch==2.13.0"

_NODE_PLATFORM = "linux-arm64" if platform.machine() == "aarch64" else "linux-x64"


@dataclass(frozen=True)
class Environment:
    """What to install.

    Attributes:
        packages: as pip takes them.
        ours: whether the project's constraints.txt pins the rest.
        without: removed again: required by a package, used by none, and not to be had for every build of torch.
        sources: source distributions whose Python files are unpacked into `sources/` of the environment, never built.
        npm: packages of npm, installed without their scripts into `node_modules/` of the environment.
    """

    packages: tuple[str, ...]
    ours: bool = False
    without: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()


ENVIRONMENTS = {
    "stcompile": Environment((f"{REPOSITORY}[cpu,openvino]",), ours=True),
    "sentence-transformers": Environment(("sentence-transformers==6.2.0", _TORCH)),
    # sentence-transformers 6 and optimum-onnx cannot be installed together: pip takes the newest that can.
    "st-onnx": Environment(("sentence-transformers[onnx]", "onnxruntime==1.32.0", "pyarrow", _TORCH)),
    "st-openvino": Environment(
        ("sentence-transformers[openvino]==6.2.0", "datasets", "huggingface-hub<1.22", _TORCH),
        without=("torchvision",),
    ),
    "onnx-quantizers": Environment(
        ("onnxruntime==1.32.0", "onnx==1.23.2", "onnx-ir==1.1.0", "nncf==3.4.0", "tokenizers", _TORCH)
    ),
    "torchao": Environment(("sentence-transformers==6.2.0", "torchao==0.18.0", _TORCH)),
    "flag-embedding": Environment(("FlagEmbedding==1.4.2", "transformers<5", _TORCH)),
    "pylate": Environment(("pylate==1.6.0", _TORCH)),
    "fastembed": Environment(("fastembed==0.9.1", "onnxruntime==1.32.0")),
    "ctranslate2": Environment(("ctranslate2==4.8.5", "transformers", _TORCH)),
    "openvino-genai": Environment(("openvino-genai==2026.4.1",)),
    "light-embed": Environment(("light-embed==1.0.9", "onnxruntime==1.32.0")),
    "infinity": Environment(("infinity-emb[optimum,server,torch]==0.0.78", "onnxruntime==1.32.0", _TORCH)),
    "transformers-exporters": Environment(
        ("transformers==5.24.0", "onnx==1.23.2", "onnxscript==0.7.2", "onnxruntime==1.32.0", _TORCH)
    ),
    # PyPI has llama.cpp built for AVX2 alone, npm with kernels for each CPU. The converter comes with PyPI's sources.
    "llama-cpp": Environment(
        ("transformers==5.24.0", "gguf==0.19.0", _TORCH),
        sources=("llama-cpp-python==0.3.36",),
        npm=(f"@node-llama-cpp/{_NODE_PLATFORM}@3.22.1",),
    ),
}


@cache  # once a run: ours is installed anew
def python_of(name: str, folder: Path) -> Path:
    """The interpreter of an environment under `folder`, made if it is not there yet.

    Raises:
        InputError: pip could not install it; nothing of it is left.
    """
    wanted, root = ENVIRONMENTS[name], folder / name
    python, done = root / "bin" / "python", root / "installed"
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if wanted.ours:
        install += ["-c", str(REPOSITORY / "constraints.txt")]
    if done.is_file():
        if wanted.ours:  # the tree that is measured is the one that lies here
            _call([*install, "--force-reinstall", "--no-deps", *wanted.packages])
        return python
    status(f"Installing the environment of {name}")
    try:
        _call([sys.executable, "-m", "venv", str(root)])
        _call([*install, *wanted.packages])
        if wanted.without:
            _call([str(python), "-m", "pip", "uninstall", "-q", "-y", *wanted.without])
        for source in wanted.sources:
            _unpack(source, python, root / "sources")
        if wanted.npm:
            _call(["npm", "install", "--prefix", str(root), "--no-save", "--ignore-scripts", "--silent", *wanted.npm])
        done.touch()
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    return python


def _unpack(source: str, python: Path, into: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        name = source.partition("==")[0]
        pip = [str(python), "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, "-d", folder]
        _call([*pip, source])
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as opened:
            opened.extractall(into, [item for item in opened if item.name.endswith(".py")], filter="data")


def _call(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise InputError(f"an environment needs {command[0]}: install it, or leave its contenders out with --only")
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = "\n".join(line for line in done.stderr.splitlines() if "WARNING" not in line)
        raise InputError(
            f"an environment could not be made ({last_line(said)}): see --only to leave its contenders out"
        )
