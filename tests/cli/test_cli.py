"""The command line, verb by verb: what it prints, its exit codes, and what a failure leaves behind."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import stcompile
from stcompile.artifact import claimed, write_manifest
from stcompile.artifact.manifest import MANIFEST_NAME, Manifest
from stcompile.artifact.target import OF_GRAPHS, TARGETS
from stcompile.cli import app as cli
from stcompile.cli import encode
from stcompile.compiler import export
from stcompile.compiler.parity import verify
from stcompile.runtime import batching
from stcompile.runtime.encoder import Encoder
from tests.conftest import MODELS, Compiled, _run_here, load_case

_VERBS = ("export", "verify", "encode", "inspect", "targets")
_CASE = load_case("postprocessing")
_MODEL = str(_CASE.model)
_BOTH = ("sentence_embedding", "token_embeddings")
_FEW = "The weather is lovely today.\nhello\n你好\n\n"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence of a failure: nothing else may be on stderr, but the steps that were announced."""
        lines = [line for line in self.err.splitlines() if not line.endswith(" ...")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("stcompile: ")
        return lines[0].removeprefix("stcompile: ")


Run = Callable[..., Done]


@pytest.fixture
def run(traced_once: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`stcompile ARGUMENTS`, in this process: importing torch takes longer than most of what is tested.

    Parity is judged in it too, but for the commands that a user starts.
    """
    monkeypatch.setattr(verify, "run_shipped", _run_here)
    # the test runner's own handler stays
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: object, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["stcompile", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def artifact(compiled: Compiled) -> Path:
    return compiled(_CASE.name, outputs=_BOTH)


@pytest.fixture(scope="session")
def int8(compiled: Compiled) -> Path:
    return compiled(_CASE.name, "onnx-int8")


@pytest.fixture
def few(tmp_path: Path) -> str:
    """A file of few texts: parity on the built-in ones takes seconds."""
    (tmp_path / "few.txt").write_text(_FEW, encoding="utf-8")
    return str(tmp_path / "few.txt")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder to break."""
    return Path(shutil.copytree(_MODEL, tmp_path / "model"))


@pytest.fixture
def previous(tmp_path: Path, manifest: Manifest) -> Path:
    """What stands for an earlier export, alone in its folder."""
    folder = tmp_path / "published" / "artifact"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"earlier")
    write_manifest(folder, manifest)
    return folder


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _python(*arguments: object, stdin: str = "", cwd: Path | None = None) -> Done:
    """`python -m stcompile ARGUMENTS`, as a user starts it."""
    command = [sys.executable, "-m", "stcompile", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, encoding="utf-8", cwd=cwd, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_version_as_a_user_asks_for_it() -> None:
    assert _python("--version") == Done(0, f"{stcompile.__version__}\n", "")


@pytest.mark.parametrize("verb", [None, *_VERBS])
def test_help_names_the_exit_codes(verb: str | None, run: Run) -> None:
    done = run(*([] if verb is None else [verb]), "--help")
    assert (done.code, done.err) == (0, "")
    assert "0 done, 1 parity failed, 2 bad input or usage, 70 a bug, 130 interrupted" in " ".join(done.out.split())
    assert verb is not None or all(f"  {name} " in done.out for name in _VERBS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["compile"], "compile"),
        (["export"], "model"),
        (["export", "a", "b"], "b"),
        (["verify"], "artifact"),
        (["encode", "artifact", "--batch-size", "many"], "--batch-size"),
        (["targets", "--yaml"], "--yaml"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], named: str, run: Run) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage: " in done.err
    assert named in done.err.splitlines()[-1]


def test_targets_for_a_machine(run: Run) -> None:
    done = run("targets", "--json")
    rows = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert [row["name"] for row in rows] == [*TARGETS, *OF_GRAPHS]
    assert all(row["min_cosine"] > 0 and row["purpose"] for row in rows)
    # What needs a CPU that is not everywhere.
    assert all(row["refusals"] == [] for row in rows if row["name"] != "openvino-bf16")


def test_targets_for_a_person(run: Run) -> None:
    done = run("targets")
    assert (done.code, done.err) == (0, "")
    assert all(name in done.out for name in (*TARGETS, *OF_GRAPHS))


# inspect


def test_inspect_a_model(run: Run) -> None:
    found = json.loads(run("inspect", MODELS / "full_stack", "--json").out)
    assert (found["kind"], found["compiles"], found["unsupported"]) == ("model", True, [])
    assert [row["type"] for row in found["modules"]][:2] == ["Transformer", "Pooling"]
    shown = run("inspect", MODELS / "full_stack")
    assert (shown.code, shown.err) == (0, "")
    assert all(row["type"] in shown.out for row in found["modules"])
    assert "Everything in it can be compiled." in shown.out


@pytest.fixture
def unsupported(model: Path) -> Path:
    """A model with three things that cannot be compiled."""
    modules = json.loads((model / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_CNN", "type": "sentence_transformers.models.CNN"})
    (model / "modules.json").write_text(json.dumps(modules))
    settings = json.loads((model / "config_sentence_transformers.json").read_text())
    settings |= {"similarity_fn_name": "hamming", "default_prompt_name": "nowhere"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return model


_REASONS = ("CNN", "'hamming'", "'nowhere'")


def test_inspect_tells_everything_that_cannot_be_compiled(unsupported: Path, run: Run) -> None:
    for_machines, for_people = run("inspect", unsupported, "--json"), run("inspect", unsupported)
    found = json.loads(for_machines.out)
    assert (for_machines.code, for_people.code, found["compiles"]) == (2, 2, False)
    assert len(found["unsupported"]) == 3
    for reason in _REASONS:
        assert any(reason in line for line in found["unsupported"])
        assert reason in for_people.out


def test_export_tells_everything_that_cannot_be_compiled(unsupported: Path, previous: Path, run: Run) -> None:
    before = _tree(previous.parent)
    done = run("export", unsupported, "-o", previous)
    lines = done.err.splitlines()[-4:]
    assert (done.code, lines[0]) == (2, "stcompile: model cannot be compiled: ")
    assert all(any(reason in line for line in lines[1:]) for reason in _REASONS)
    assert _tree(previous.parent) == before


def test_inspect_an_artifact(artifact: Path, run: Run) -> None:
    found = json.loads(run("inspect", artifact, "--json").out)
    manifest, report = found["manifest"], found["report"]
    assert (found["kind"], manifest["target"], manifest["dim"]) == ("artifact", "onnx-fp32", 32)
    assert found["size"] == sum(path.stat().st_size for path in artifact.iterdir() if path.name != MANIFEST_NAME)
    assert report["parity"]["min_cosine"] > 0.999999
    shown = run("inspect", artifact)
    assert (shown.code, shown.err) == (0, "")
    for word in ("postprocessing as onnx-fp32", "model.onnx", "tokenizer.json", "fuse-attention", "mean cosine"):
        assert word in shown.out


@pytest.mark.parametrize("content", [None, {}, {MANIFEST_NAME: "{"}, {"modules.json": "[]"}], ids=str)
def test_inspect_neither_a_model_nor_an_artifact(content: dict[str, str] | None, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "folder"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    done = run("inspect", folder)
    assert (done.code, done.out) == (2, "")
    assert done.sentence


# export and verify


@pytest.mark.processes
def test_export_as_a_user_starts_it(few: str, tmp_path: Path) -> None:
    done = _python("export", _MODEL, "--texts", few, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["artifact"], report["target"]) == ("postprocessing-onnx-int8", "onnx-int8")
    assert report["parity"]["passed"]
    assert stcompile.load(tmp_path / report["artifact"]).encode("hello").shape == (32,)
    assert {path.name for path in tmp_path.iterdir()} == {"few.txt", report["artifact"]}
    # the steps, and no noise of the libraries
    assert all(line.endswith(" ...") for line in done.err.splitlines())


class _AskedError(stcompile.StcompileError):
    """Raised in place of the work, when what was asked for is known."""


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["--texts", "t.jsonl", "--texts-field", "body"], {"texts": ["mine"]}),
        (["--texts", "t.csv", "--field", "body"], {"texts": ["mine"]}),
        (["--calibration", "t.csv", "--calibration-field", "body"], {}),
        (["-t", "static", "--pca-dims", "all"], {"pca_dims": None}),
        (["-t", "static", "--pca-dims", "64"], {"pca_dims": 64}),
        (["--eval", "p.csv", "--eval-fields", "left,right,gold"], {"evaluation": [("a", "b", 1.0), ("c", "d", 2.0)]}),
        (["--eval", "p.jsonl", "--eval-fields", "left,right,gold"], {"evaluation": [("a", "b", 1.0), ("c", "d", 2.0)]}),
    ],
)
def test_export_asks_for_what_the_options_say(
    arguments: list[str], asked: dict[str, Any], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.jsonl").write_text('{"body": "mine"}\n')
    (tmp_path / "t.csv").write_text("id,body\n1,mine\n")
    (tmp_path / "p.csv").write_text("left,gold,right\na,1,b\nc,2,d\n")
    (tmp_path / "p.jsonl").write_text('{"left":"a","right":"b","gold":1}\n{"left":"c","right":"d","gold":2}\n')
    found: dict[str, Any] = {}

    def run_export(_: object, __: object, options: object, ___: object) -> None:
        found.update(vars(options))
        raise _AskedError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "run_export", run_export)
    assert run("export", _MODEL, *arguments).sentence == "enough"
    assert {name: found[name] for name in asked} == asked


def test_a_path_may_begin_at_home(artifact: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(artifact, tmp_path / "artifact")
    (tmp_path / "few.txt").write_text(_FEW, encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert stcompile.load("~/artifact").encode("hello").shape == (32,)
    assert run("inspect", "~/artifact").code == 0
    assert run("encode", "~/artifact", "~/few.txt", "-o", "~/v.npy").code == 0
    assert np.load(tmp_path / "v.npy").shape == (4, 32)
    done = run("export", _MODEL, "-t", "onnx-fp32", "-o", "~/made", "--texts", "~/few.txt")
    assert done.code == 0, done.err
    assert run("verify", "~/made", "--against", _MODEL, "--texts", "~/few.txt").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"artifact", "few.txt", "v.npy", "made"}


def test_what_cannot_be_fused_names_the_model(run: Run, tmp_path: Path) -> None:
    done = run("export", MODELS / "bow_binary", "-t", "onnx-bf16", "-o", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert done.sentence.startswith("bow_binary cannot be compiled: no encoder layer can be fused")


def test_an_export_outside_the_tolerance_publishes_nothing(few: str, previous: Path, run: Run) -> None:
    before = _tree(previous.parent)
    done = run("export", _MODEL, "-t", "onnx-int8", "-o", previous, "--texts", few, "--min-cosine", "0.99999999")
    assert (done.code, done.out) == (1, "")
    assert "min_cosine is" in done.sentence
    assert "Nothing was published" in done.sentence
    assert _tree(previous.parent) == before


def _too_late(*_: object, **__: object) -> None:
    raise stcompile.StcompileError("this is too late")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (shutil.rmtree, "there is no model folder at"),
        (lambda model: (model / "model.safetensors").unlink(), "no weights"),
        (lambda model: _truncate(model / "model.safetensors"), "weights"),
        (lambda model: (model / "model.safetensors").write_bytes(b""), "weights"),
        (lambda model: _truncate(model / "modules.json"), "modules.json is not valid JSON"),
        (lambda model: _truncate(model / "config.json"), "no readable config.json"),
        (lambda model: _truncate(model / "sentence_bert_config.json"), "sentence_bert_config.json is not valid JSON"),
        (lambda model: _truncate(model / "1_Pooling/config.json"), "config.json is not valid JSON"),
        (lambda model: _truncate(model / "tokenizer.json"), "tokenizer"),
        (lambda model: (model / "config.json").unlink(), "no config.json"),
    ],
)
def test_a_half_written_model_is_one_sentence(
    break_it: Callable[[Path], object], named: str, model: Path, previous: Path, run: Run
) -> None:
    break_it(model)
    before = _tree(previous.parent)
    done = run("export", model, "-t", "onnx-fp32", "-o", previous)
    assert (done.code, done.out) == (2, "")
    assert named in done.sentence
    assert _tree(previous.parent) == before


def test_a_model_without_its_tokenizer_is_half_written(model: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()
    monkeypatch.setattr(export, "trace", _too_late)
    done = run("export", model)
    assert done.code == 2
    assert "tokenizer" in done.sentence


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([_MODEL, "-t", "onnx-int4"], "did you mean onnx-int8"),
        ([_MODEL, "--provider", "tpu"], "'tpu': choose one of cpu, cuda"),
        ([_MODEL, "--outputs", "pooled"], "outputs must be sentence_embedding"),
        ([_MODEL, "--min-cosine", "2"], "between 0 and 1"),
        ([_MODEL, "--pca-dims", "none"], "--pca-dims none is no number of dimensions"),
        ([_MODEL, "--pca-dims", "0"], "--pca-dims 0 is no number of dimensions"),
        ([_MODEL, "--pca-dims", "all"], "pca_dims is about distillation"),
        ([_MODEL, "--eval", "pairs.csv", "--eval-fields", "a,b"], "--eval-fields names 2 columns"),
        ([_MODEL, "--texts", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["no-org/no-model"], "the hub did not deliver"),
        ([f"{_MODEL}/config.json"], "is a file"),
    ],
)
def test_export_names_what_it_cannot_take(arguments: list[str], named: str, previous: Path, run: Run) -> None:
    before = _tree(previous.parent)
    done = run("export", *arguments, "-o", previous)
    assert (done.code, done.out) == (2, "")
    assert named in done.sentence
    assert _tree(previous.parent) == before


def test_a_destination_that_is_a_file_stays_it(few: str, run: Run) -> None:
    done = run("export", _MODEL, "-t", "onnx-fp32", "-o", few, "--texts", few)
    assert (done.code, done.out) == (2, "")
    assert "is a file: choose a folder" in done.sentence
    assert Path(few).read_text(encoding="utf-8") == _FEW


@pytest.mark.parametrize("destination", ["few.txt", "few.txt/artifact", "."])
def test_a_bad_destination_is_refused_first(
    destination: str, few: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "load_stack", _too_late)
    done = run("export", _MODEL, "-o", Path(few).parent / destination)
    assert done.code == 2
    assert "too late" not in done.sentence


def test_somebodys_folder_with_a_manifest_is_refused_first(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web app has a manifest.json too; the folder that is named by default is no exception."""
    monkeypatch.setattr(export, "load_stack", _too_late)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"{_CASE.name}-onnx-fp32"
    folder.mkdir()
    (folder / "index.html").write_text("<html>")
    (folder / MANIFEST_NAME).write_text('{"name": "app", "start_url": "index.html"}')
    before = _tree(tmp_path)
    for options in ([], ["-o", folder]):
        done = run("export", _MODEL, "-t", "onnx-fp32", *options)
        assert (done.code, done.out) == (2, "")
        assert "is not empty and not an stcompile artifact" in done.sentence
        assert _tree(tmp_path) == before


def test_a_second_export_to_one_destination_says_so(previous: Path, run: Run) -> None:
    before = _tree(previous.parent)
    with claimed(previous):
        done = run("export", _MODEL, "-t", "onnx-fp32", "-o", previous)
    assert (done.code, done.out) == (2, "")
    assert "another export is writing to" in done.sentence
    assert _tree(previous.parent) == before


def test_the_folder_a_shell_is_in_is_exported_to(
    previous: Path, few: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(previous)
    done = run("export", _MODEL, "-t", "onnx-fp32", "-o", ".", "--texts", few)
    assert done.code == 0
    assert Path.cwd() == previous
    assert stcompile.load(".").encode("hello").shape == (32,)


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: str(number.name))
def test_an_interrupted_export_leaves_what_was_there(number: signal.Signals, previous: Path) -> None:
    before = _tree(previous.parent)
    command = [sys.executable, "-m", "stcompile", "export", str(MODELS / "static"), "-o", str(previous)]
    # a background job of a shell ignores SIGINT, and hands that down
    script = f"import signal, os; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv({command[0]!r}, {command!r})"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        # the last step: everything has been staged, and the parity check runs in a process of its own
        assert any(line.startswith("Proving") for line in process.stderr)
        assert len(list(previous.parent.iterdir())) == 2
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert _tree(previous.parent) == before
    assert [path.name for path in previous.parent.iterdir()] == [previous.name]


def test_an_interruption_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(encode, "texts_of", interrupt)
    done = run("encode", "artifact")
    assert done.code == 130
    assert done.sentence == "interrupted; nothing was published"


def test_verify_within_the_tolerance(int8: Path, few: str, run: Run) -> None:
    done = run("verify", int8, "--against", _MODEL, "--texts", few)
    assert done.code == 0
    assert "onnx-int8 against sentence-transformers: passed" in done.out


def test_verify_outside_the_tolerance(int8: Path, few: str, run: Run) -> None:
    done = run("verify", int8, "--against", _MODEL, "--texts", few, "--min-cosine", "0.99999999", "--json")
    report = json.loads(done.out)
    assert (done.code, report["passed"]) == (1, False)
    assert all(failure in done.sentence for failure in report["failures"])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--against", MODELS / "pool_concat_all"], "it was compiled from another model"),
        (["--against", MODELS / "nowhere"], "there is no model folder"),
        (["--against", _MODEL, "--device", "tpu"], "unknown device 'tpu'"),
        (["--against", _MODEL, "--min-cosine", "0"], "between 0 and 1"),
    ],
)
def test_verify_names_what_it_cannot_compare(arguments: list[object], named: str, int8: Path, run: Run) -> None:
    done = run("verify", int8, *arguments)
    assert (done.code, done.out) == (2, "")
    assert named in done.sentence


def test_verify_a_corrupt_artifact(int8: Path, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(int8, tmp_path / "artifact"))
    _truncate(folder / "model.onnx")
    done = run("verify", folder, "--against", _MODEL)
    assert done.code == 2
    assert "model.onnx" in done.sentence


# encode


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        ([], {}),
        (["--normalize", "--truncate-dim", "7"], {"normalize_embeddings": True, "truncate_dim": 7}),
        (["--precision", "ubinary"], {"precision": "ubinary"}),
        (["--prompt", "x: ", "--batch-size", "2", "--threads", "1"], {"prompt": "x: "}),
        (["--prompt-name", "query", "--field", "body"], {"prompt_name": "query"}),
    ],
)
@pytest.mark.parametrize("to", ["v.npy", "v.jsonl", "-"])
def test_encode_is_the_encoder(
    to: str, options: list[str], keywords: dict[str, Any], artifact: Path, tmp_path: Path, run: Run
) -> None:
    texts = _CASE.texts
    lines = [json.dumps({"text": text, "body": text}) for text in texts]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    destination = to if to == "-" else str(tmp_path / to)
    done = run("encode", artifact, tmp_path / "texts.jsonl", "-o", destination, *options)
    assert (done.code, done.err) == (0, "")
    expected = stcompile.load(artifact).encode(texts, **keywords)
    if to == "v.npy":
        found = np.load(destination)
        assert found.dtype == expected.dtype
    else:
        written = done.out if to == "-" else Path(destination).read_text(encoding="utf-8")
        rows = [json.loads(line) for line in written.split("\n")[:-1]]
        assert [row["text"] for row in rows] == texts
        found = np.array([row["embedding"] for row in rows], expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 if expected.dtype == np.float32 else 0)


def test_vectors_do_not_go_over_their_texts(artifact: Path, tmp_path: Path, run: Run) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "hello", "label": 1}\n')
    (tmp_path / "link.jsonl").symlink_to(texts)
    for output in (texts, tmp_path / "link.jsonl"):
        done = run("encode", artifact, texts, "-o", output)
        assert (done.code, done.out) == (2, "")
        assert "holds the texts: choose another place" in done.sentence
    assert texts.read_text() == '{"text": "hello", "label": 1}\n'


def test_vectors_do_not_go_into_the_artifact(artifact: Path, few: str, run: Run) -> None:
    done = run("encode", artifact, few, "-o", artifact / "vectors.npy")
    assert (done.code, done.out) == (2, "")
    assert "is in the artifact, which holds its own files alone" in done.sentence
    stcompile.load(artifact)


def test_an_error_that_is_not_standard_outputs_is_not_told_as_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(export, "load_stack", fail)
    done = run("export", _MODEL, "-o", "out")
    assert (done.code, done.sentence) == (2, "Input/output error")


def test_encode_standard_input_as_a_user_starts_it(artifact: Path) -> None:
    done = _python("encode", artifact, stdin=_FEW)
    assert (done.code, done.err) == (0, "")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["text"] for row in rows] == _FEW.split("\n")[:-1]
    hello = _CASE.expected()[_CASE.texts.index("hello")]
    np.testing.assert_allclose(rows[1]["embedding"], hello, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "stdin", "named"),
    [
        (["-o", "v.csv"], "hello", "name it .npy or .jsonl"),
        (["-o", "nowhere/v.npy"], "hello", "nowhere/v.npy cannot be written"),
        (["nowhere.txt"], "", "nowhere.txt cannot be read"),
        ([], "", "holds no text"),
        (["--prompt-name", "nope"], "hello", "unknown prompt 'nope'"),
        (["--precision", "int8"], "hello", "at least two"),
        (["--precision", "int4"], "hello", "unknown precision 'int4'"),
        (["--threads", "0"], "hello", "threads"),
        (["--batch-size", "0"], "hello", "batch_size"),
        (["--truncate-dim", "0"], "hello", "truncate_dim"),
        (["--device", "tpu"], "hello", "unknown device 'tpu'"),
        (["--field", "body"], '{"text": "hello"}', "field 'body'"),
    ],
)
def test_encode_names_what_it_cannot_take(
    arguments: list[str], stdin: str, named: str, artifact: Path, run: Run
) -> None:
    done = run("encode", artifact, *arguments, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert named in done.sentence


@pytest.mark.parametrize("to", ["v.npy", "v.jsonl", "-"])
def test_encode_writes_while_it_reads(
    to: str, artifact: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds a window of texts, not all of them: seen by how far the reader is ahead of the writer."""
    monkeypatch.setattr(batching, "WINDOW", 100)
    count, ahead, read = 1000, [], 0
    real: Any = Encoder.encode_iter

    def counted(self: Encoder, inputs: Any, **options: Any) -> Iterator[Any]:
        def reading() -> Iterator[str]:
            nonlocal read
            for text in inputs:
                read += 1
                yield text

        for done, vector in enumerate(real(self, reading(), **options)):
            ahead.append(read - done)
            yield vector

    monkeypatch.setattr(Encoder, "encode_iter", counted)
    (tmp_path / "many.txt").write_text("".join(f"text {index % 7}\n" for index in range(count)))
    done = run("encode", artifact, tmp_path / "many.txt", "-o", to if to == "-" else tmp_path / to, "--threads", 1)
    assert (done.code, done.err) == (0, "")
    assert len(ahead) == count
    assert max(ahead) <= 100
    if to == "v.npy":
        assert np.load(tmp_path / to).shape == (count, 32)
    else:
        written = done.out if to == "-" else (tmp_path / to).read_text()
        assert written.count("\n") == count


@pytest.mark.parametrize("to", ["v.npy", "v.jsonl"])
def test_a_bad_line_late_leaves_the_earlier_file(to: str, artifact: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "hello"}\n' * 200 + "oops\n")
    (tmp_path / to).write_bytes(b"earlier")
    done = run("encode", artifact, tmp_path / "texts.jsonl", "-o", tmp_path / to)
    assert done.code == 2
    assert "line 201 of" in done.sentence
    assert (tmp_path / to).read_bytes() == b"earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"texts.jsonl", to}


def test_a_bad_line_late_comes_after_the_vectors_before_it(artifact: Path, run: Run) -> None:
    done = run("encode", artifact, stdin='{"text": "hello"}\n' * 200 + "oops\n")
    assert (done.code, done.out.count("\n")) == (2, 200)
    assert "line 201 of" in done.sentence


def test_an_interrupted_encode_leaves_the_earlier_file(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(b"earlier")
    arguments = [sys.executable, "-m", "stcompile", "encode", str(artifact), "-", "-o", str(tmp_path / "v.npy")]
    # a background job of a shell ignores SIGINT, and hands that down
    script = "import signal, os; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv"
    command = [sys.executable, "-c", f"{script}({sys.executable!r}, {arguments!r})"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"hello\n" * 5000)
        process.stdin.flush()
        # the first window is written, and it waits for more
        while len(list(tmp_path.iterdir())) == 1 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().decode()
    assert (process.returncode, rest) == (130, "stcompile: interrupted; nothing was published\n")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("v.npy", b"earlier")]


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here")
def test_cuda_that_is_not_there_is_no_quiet_cpu_run(artifact: Path, run: Run) -> None:
    done = run("encode", artifact, "--device", "cuda", stdin="hello")
    assert (done.code, done.out) == (2, "")
    assert "cuda:0 was asked for" in done.sentence


@pytest.mark.parametrize("name", ["nowhere", "few.txt", "."])
def test_encode_with_what_is_no_artifact(name: str, few: str, run: Run) -> None:
    done = run("encode", Path(few).parent / name, stdin="hello")
    assert (done.code, done.out) == (2, "")
    assert "artifact" in done.sentence


def test_a_reader_that_goes_away_is_no_error(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("hello\n" * 3000)
    command = [sys.executable, "-m", "stcompile", "encode", str(artifact), str(tmp_path / "many.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith('{"text": "hello"')
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["targets", "--json"], ["targets"]])
def test_a_full_disk_behind_standard_output_is_one_sentence(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "stcompile", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert Done(done.returncode, "", done.stderr).sentence
    assert done.returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_programs_read_is_utf8_whatever_the_locale(encoding: str, artifact: Path) -> None:
    command = [sys.executable, "-m", "stcompile", "encode", str(artifact)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, input="größer 日本\n".encode(), capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode())["text"] == "größer 日本"


def test_a_table_in_a_locale_without_its_letters(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "größer.txt").write_text("hello\n", encoding="utf-8")
    words = ["encode", str(artifact), "--input", str(tmp_path / "größer.txt"), "-o", str(tmp_path / "größer")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "stcompile", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert r"gr\xf6\xdfer" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="a shell that closes streams")
@pytest.mark.parametrize(
    ("closed", "to_file", "code"),
    # Closed messages are lost, closed standard input is empty, and what standard output was to get is an error.
    [(">&-", True, 0), ("2>&-", True, 0), (">&- 2>&-", True, 0), (">&-", False, 2), ("<&-", True, 2)],
)
def test_streams_that_are_closed(closed: str, to_file: bool, code: int, artifact: Path, tmp_path: Path) -> None:
    texts = "-" if closed.startswith("<") else "texts.txt"
    (tmp_path / "texts.txt").write_text("hello\n")
    words = [sys.executable, "-m", "stcompile", "encode", str(artifact), texts, *(["-o", "v.npy"] if to_file else [])]
    done = subprocess.run(["sh", "-c", f"{shlex.join(words)} {closed}"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "v.npy").exists() == (code == 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["encode", "nowhere"], ["nothing"], ["encode", "nowhere", "--nothing"]])
def test_messages_that_cannot_be_written_change_no_exit_code(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "stcompile", *words], stderr=full, check=False)
    assert done.returncode == 2


@pytest.mark.parametrize("verb", ["inspect", "encode", "export"])
def test_a_name_that_is_too_long_is_one_sentence(verb: str, tmp_path: Path, run: Run) -> None:
    done = run(verb, tmp_path / ("a" * 300), stdin="hello")
    assert done.code == 2
    assert done.sentence
