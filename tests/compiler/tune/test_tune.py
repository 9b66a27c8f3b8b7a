"""`stcompile tune`: what it recommends, and what is left of it."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import stcompile
from stcompile.artifact import write_manifest
from stcompile.artifact.manifest import MANIFEST_NAME, Manifest
from stcompile.artifact.target import TARGETS
from stcompile.cli import app as cli
from stcompile.cli import console, render
from stcompile.cli.frontier import check_plot, frontier, plot_frontier
from stcompile.compiler.metrics import distance
from stcompile.compiler.request import ExportOptions
from stcompile.compiler.stack.source import ModelSource
from stcompile.compiler.timing import Spread, Timing
from stcompile.compiler.tune import tuning as tune_module
from stcompile.compiler.tune.tuning import (
    BASELINE,
    SPEARMAN,
    Measurement,
    TunedTarget,
    TuneReport,
    recommend,
    tune_model,
)
from stcompile.errors import ArtifactError, InputError, MissingExtraError, TargetError
from tests.conftest import MODELS, Quick, load_case

MODEL = MODELS / "pool_mean"
TEXTS = [text for text in load_case("pool_mean").texts if isinstance(text, str)]

Command = Callable[..., int]


def measured(speed: float, drop: float, *, invariant: bool = True) -> Measurement:
    """What a target may have been measured as, of ten texts."""
    times = Spread(speed, speed, speed)
    seconds = Timing((0.1 / speed,), (0.1 / speed,))
    return Measurement(1000, invariant, 1 - 2 * drop, 1 - drop, drop, 100 * speed, 90 * speed, times, seconds, {})


EXACT = measured(1.0, 0.0)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the candidates are compiled."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def fast(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of golden cases in a fraction of their time."""
    _make_fast(quick, monkeypatch)


def _make_fast(quick: Quick, patch: pytest.MonkeyPatch) -> None:
    def export(source: ModelSource, destination: Path, options: ExportOptions, _: object) -> object:
        asked = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        changed = {name: value for name, value in asked.items() if value != getattr(ExportOptions(), name)}
        return quick(Path(source.model).name, changed.pop("target", "onnx-int8"), destination, **changed)

    patch.setattr(tune_module, "run_export", export)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """`stcompile tune ARGUMENTS`, as a user starts it, to its exit code."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["stcompile", "tune", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return call


# the rule


@pytest.mark.parametrize(
    ("others", "winner", "said"),
    [
        ({"fast": measured(2.0, 0.001)}, "fast", "is the fastest of the 2 targets"),
        ({"fast": measured(2.0, 0.01)}, BASELINE, "is the only target that is batch-invariant and loses at most 0.5%"),
        ({"slow": measured(0.5, 0.0)}, BASELINE, "is the fastest of the 2 targets"),
        ({"fast": measured(2.0, 0.001), "faster": measured(3.0, 0.01)}, "fast", "2.00 times onnx-fp32"),
        ({"fast": measured(2.0, 0.001), "dynamic": measured(3.0, 0.001, invariant=False)}, "fast", "loss of 0.100%"),
        ({"fast": measured(2.0, 0.003), "near": measured(1.96, 0.001)}, "near", "is as fast as fast, to within 3%"),
        ({"fast": measured(2.0, 0.003), "slower": measured(1.9, 0.001)}, "fast", "is the fastest of the 3 targets"),
        ({"as near": measured(1.99, 0.001), "fast": measured(2.0, 0.001)}, "fast", "is the fastest of the 3 targets"),
        ({"better": measured(1.0, -0.01)}, "better", "and the most accurate of the 2 targets"),
        ({"at the limit": measured(2.0, 0.005)}, "at the limit", "200 texts/s"),
        ({}, BASELINE, "100 texts/s"),
    ],
)
def test_the_fastest_within_the_drop_is_recommended(others: dict[str, Measurement], winner: str, said: str) -> None:
    found = recommend({BASELINE: EXACT, **others}, 0.005)
    assert found.winner == winner
    assert found.why.startswith(f"{winner} is ")
    assert said in found.why
    assert set(found.reasons) == {BASELINE, *others} - {winner}


def test_every_other_target_is_told_why_not() -> None:
    rows = {
        BASELINE: EXACT,
        "best": measured(2.0, 0.001),
        "tied": measured(2.02, 0.002),
        "lossy": measured(3.0, 0.02),
        "dynamic": measured(3.0, 0.001, invariant=False),
        "both": measured(3.0, 0.02, invariant=False),
    }
    found = recommend(rows, 0.005)
    assert found.winner == "best"
    assert found.reasons == {
        BASELINE: "slower: 100 texts/s, not 200",
        "tied": "as fast as best, to within 3%, and no more accurate",
        "lossy": "outside the drop: loses 2.000%, more than 0.5%",
        "dynamic": "not batch-invariant: a text's vector depends on what else is in its batch",
        "both": "not batch-invariant: a text's vector depends on what else is in its batch; "
        "outside the drop: loses 2.000%, more than 0.5%",
    }


def test_nothing_within_the_drop_is_an_error() -> None:
    with pytest.raises(InputError, match=r"no target is within the drop, not even onnx-fp32.* leave them out"):
        recommend({BASELINE: measured(1.0, 2.0)}, 0.005)


# a tuning


@pytest.fixture(scope="module")
def tuned(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuneReport]:
    """A tiny model, tuned once."""
    base = tmp_path_factory.mktemp("tune")
    told: list[str] = []

    def step(text: str) -> AbstractContextManager[Callable[[str], None]]:
        told.append(text)
        return nullcontext(told.append)

    with pytest.MonkeyPatch.context() as patch:
        _make_fast(quick, patch)
        patch.setattr(tempfile, "tempdir", str(base))
        report = tune_model(
            MODEL,
            base / "best",
            texts=TEXTS,
            targets=["onnx-int8", "onnx-int8-dynamic"],
            rounds=1,
            max_drop=0.01,
            threads=1,
            step=step,
        )
    assert "Target 2 of 3: onnx-int8" in told
    assert f"Timing 3 targets on {len(TEXTS)} texts" in told
    assert "round 1 of 1" in told
    return base / "best", report


def test_the_winner_alone_is_kept_and_encodes(tuned: tuple[Path, TuneReport]) -> None:
    folder, report = tuned
    encoder = stcompile.load(folder)
    assert encoder.artifact.manifest.target == report.winner
    assert encoder.encode(["hello"]).shape[0] == 1
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_every_target_is_a_row_with_its_reason(tuned: tuple[Path, TuneReport]) -> None:
    _, report = tuned
    assert {row.target for row in report.targets} == {BASELINE, "onnx-int8", "onnx-int8-dynamic"}
    assert [bool(row.reason) for row in report.targets] == [False, True, True]
    assert report.targets[0].target == report.winner
    found = {row.target: row.measured for row in report.targets}
    exact, int8, dynamic = found[BASELINE], found["onnx-int8"], found["onnx-int8-dynamic"]
    assert exact is not None
    assert int8 is not None
    assert dynamic is not None
    assert (exact.drop, exact.min_cosine, exact.ratio) == (0, 1, Spread(1, 1, 1))
    assert 0.98 < int8.min_cosine <= int8.mean_cosine < 1
    assert int8.drop == pytest.approx(1 - int8.mean_cosine, abs=1e-6)
    assert int8.size < exact.size
    assert (exact.batch_invariant, int8.batch_invariant, dynamic.batch_invariant) == (True, True, False)
    assert int8.texts_per_second == pytest.approx(len(TEXTS) / int8.seconds.wall[0], rel=1e-5)
    assert int8.parity["target"] == "onnx-int8"
    assert int8.parity["passed"]


def test_the_report_tells_what_it_holds_for(tuned: tuple[Path, TuneReport]) -> None:
    found = json.loads(json.dumps(tuned[1].to_dict()))
    assert (found["settings"]["texts"], found["settings"]["threads"]) == (len(TEXTS), 1)
    assert (found["settings"]["measure"], found["settings"]["max_drop"]) == ("mean_cosine", 0.01)
    assert {"cpu", "cpu_flags", "cpus_available", "os", "python", "versions"} <= set(found["machine"])
    assert found["machine"]["versions"]["stcompile"] == stcompile.__version__


def test_a_sample_is_even(fast: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Seen(tune_module._Loss):
        def __init__(self, baseline: Any, texts: list[str], pairs: Any) -> None:
            seen.extend(texts)
            super().__init__(baseline, texts, pairs)

    monkeypatch.setattr(tune_module, "_Loss", Seen)
    texts = [f"text {number}" for number in range(10)]
    tune_model(MODEL, tmp_path / "best", texts=texts, limit=4, targets=[BASELINE], rounds=1)
    assert seen == ["text 0", "text 3", "text 6", "text 9"]


def test_what_the_machine_refuses_is_a_row_unless_it_was_named(
    fast: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stcompile.artifact.target.computes_bfloat16", lambda: False)
    names = ["static", "openvino-bf16", BASELINE]
    monkeypatch.setattr(tune_module, "TARGETS", {name: TARGETS[name] for name in names})
    report = tune_model(MODEL, tmp_path / "best", texts=TEXTS[:2], rounds=1)
    assert [(row.target, row.measured is None) for row in report.targets] == [
        (BASELINE, False),
        ("openvino-bf16", True),
    ]
    assert report.targets[1].reason.startswith("refused here: this CPU does not compute in bfloat16")
    with pytest.raises(TargetError, match="cannot run openvino-bf16: this CPU"):
        tune_model(MODEL, tmp_path / "best", targets=["openvino-bf16"])


def test_a_candidate_that_fails_is_a_row_with_its_reason(fast: None, tmp_path: Path) -> None:
    report = tune_model(MODELS / "bow_binary", tmp_path / "best", texts=["cat", "dog"], targets=["onnx-int8"], rounds=1)
    assert report.winner == BASELINE
    assert report.targets[1].measured is None
    assert "nothing that onnx-int8 makes smaller" in report.targets[1].reason


def test_a_budget_that_cannot_be_met_is_a_row(fast: None, tmp_path: Path) -> None:
    names = ["onnx-int4-weights"]
    report = tune_model(MODEL, tmp_path / "best", texts=TEXTS, targets=names, rounds=1, max_drop=1e-9)
    assert report.winner == BASELINE
    assert report.targets[1].reason


def test_the_drop_on_scored_pairs(fast: None, quick: Quick, tmp_path: Path) -> None:
    rows = stcompile.load(quick("pool_mean", BASELINE).folder).encode(TEXTS)
    scores = distance(rows[:-1], rows[1:]).cosine.tolist()
    pairs = list(zip(TEXTS[:-1], TEXTS[1:], scores, strict=True))
    options: dict[str, Any] = {"texts": TEXTS, "targets": ["onnx-int8-dynamic"], "rounds": 1}
    report = tune_model(MODEL, tmp_path / "best", evaluation=pairs, **options)
    assert (report.settings["measure"], report.settings["pairs"]) == (SPEARMAN, len(pairs))
    item = next(row.measured for row in report.targets if row.target == "onnx-int8-dynamic")
    assert item is not None
    assert 0 <= item.drop < 0.5
    assert item.drop != pytest.approx(1 - item.mean_cosine, abs=1e-7)
    backwards = [(first, second, -score) for first, second, score in pairs]
    with pytest.raises(InputError, match=r"Spearman -1.00.* score grows with how alike"):
        tune_model(MODEL, tmp_path / "other", evaluation=backwards, **options)
    assert not (tmp_path / "other").exists()


# what is refused, and what is left


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"targets": ["onnx-int9"]}, TargetError, "did you mean"),
        ({"targets": ["static"]}, InputError, "export it by itself"),
        ({"texts": []}, InputError, "no text to measure on"),
        ({"texts": "text"}, InputError, "must be a list of strings"),
        ({"max_drop": 0.0}, InputError, "max_drop is a share"),
        ({"max_drop": float("nan")}, InputError, "max_drop is a share"),
        ({"rounds": 0}, InputError, "rounds must be at least 1"),
        ({"limit": 0}, InputError, "limit must be at least 1"),
        ({"threads": 0}, InputError, "threads must be at least 1"),
        ({"evaluation": [("a", "b", 1.0)]}, InputError, "at least two"),
        ({"calibration": []}, InputError, "no text to calibrate on"),
        ({"calibration": ["a"], "targets": ["onnx-fp16"]}, InputError, "none of the targets is calibrated"),
    ],
)
def test_a_bad_argument_is_refused_before_any_work(
    options: dict[str, Any], error: type[Exception], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "run_export", lambda *_, **__: pytest.fail("compiled"))
    with pytest.raises(error, match=reason):
        tune_model(MODEL, tmp_path / "best", **options)
    assert not any(tmp_path.iterdir())


def test_a_bad_destination_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_module, "run_export", lambda *_, **__: pytest.fail("compiled"))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="choose another destination"):
        tune_model(MODEL, tmp_path)


@pytest.mark.parametrize(
    "place", ["stcompile.compiler.tune.tuning.interleave", "stcompile.compiler.tune.tuning.shutil.copyfile"]
)
def test_an_interruption_leaves_what_was_there(
    place: str, fast: None, scratch: Path, tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    previous = tmp_path / "best"
    previous.mkdir()
    write_manifest(previous, manifest)
    monkeypatch.setattr(place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune_model(MODEL, previous, texts=TEXTS[:2], targets=[BASELINE], rounds=1)
    assert not any(scratch.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "scratch"]
    assert [path.name for path in previous.iterdir()] == [MANIFEST_NAME]


# the command


@pytest.mark.processes
def test_the_command_leaves_winner_report_and_picture(
    tmp_path: Path, scratch: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, output = tmp_path / "texts.csv", tmp_path / "best"
    texts.write_text("body,n\nhello there,1\nanother text,2\n", encoding="utf-8")
    assert command(MODEL, "--texts", texts, "--field", "body", "--targets", BASELINE, "--rounds", 1, "-o", output) == 0
    printed = capsys.readouterr().out
    assert "Recommended: onnx-fp32 is the only target" in printed
    assert "best-frontier.png" in printed
    report = json.loads((tmp_path / "best-tune.json").read_text(encoding="utf-8"))
    assert (report["winner"], report["artifact"], report["settings"]["texts"]) == (BASELINE, str(output), 2)
    assert Path(report["plot"]).read_bytes().startswith(b"\x89PNG")
    assert stcompile.load(output).encode(["hello"]).shape[0] == 1
    left = {"best", "best-tune.json", "best-frontier.png", "scratch", "texts.csv"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert not any(scratch.iterdir())


@pytest.mark.parametrize("name", ["best-tune.json", "best-frontier.png"])
@pytest.mark.parametrize("content", ["{}", "mine", '["a"]', '{"winner": "me"}'])
def test_somebodys_file_beside_the_winner_is_not_overwritten(
    name: str,
    content: str,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tune_module, "run_export", lambda *_, **__: pytest.fail("compiled"))
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert command(MODEL, "-o", tmp_path / "best") == 2
    assert f"{name} is no" in capsys.readouterr().err
    assert (tmp_path / name).read_text(encoding="utf-8") == content


def test_what_an_earlier_tuning_left_is_replaced(fast: None, tmp_path: Path, command: Command) -> None:
    for _ in range(2):
        assert command(MODEL, "--targets", BASELINE, "--rounds", 1, "--limit", 3, "-o", tmp_path / "best") == 0


def test_the_command_for_a_machine(
    fast: None, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "pictures" / "frontier.svg"
    arguments = ["--targets", BASELINE, "--rounds", "1", "--limit", "3", "-o", tmp_path / "best", "--plot", plot]
    assert command(MODEL, *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "best-tune.json").read_text(encoding="utf-8"))
    assert "<svg" in plot.read_text(encoding="utf-8")
    assert [path.name for path in plot.parent.iterdir()] == ["frontier.svg"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--targets", "onnx-int9"], "did you mean"),
        (["--max-drop", "0"], "is no share"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["--texts", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--eval", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--plot", "frontier.txt"], "name it .png, .svg or .pdf"),
        (["--plot", "/dev/null/frontier.png"], "choose another place for the plot"),
        (["-o", "."], "not empty and not an stcompile artifact"),
        (["-o", "/dev/null/best"], "/dev/null"),
    ],
)
def test_the_command_names_what_it_cannot_take(
    arguments: list[str],
    named: str,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tune_module, "run_export", lambda *_, **__: pytest.fail("compiled"))
    (tmp_path / "mine").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert command(MODEL, *arguments) == console.BAD_INPUT
    done = capsys.readouterr()
    assert done.out == ""
    assert named in done.err
    assert len(done.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# the picture


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_without_matplotlib_the_picture_is_left_out(
    no_matplotlib: None, fast: None, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(MODEL, "--targets", BASELINE, "--rounds", "1", "--limit", "2", "-o", tmp_path / "best") == 0
    assert "no picture: Drawing the frontier needs matplotlib" in capsys.readouterr().out
    assert json.loads((tmp_path / "best-tune.json").read_text(encoding="utf-8"))["plot"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"best", "best-tune.json"}


def test_without_matplotlib_a_picture_that_is_asked_for_is_refused_first(
    no_matplotlib: None, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(MODEL, "-o", tmp_path / "best", "--plot", tmp_path / "frontier.png") == console.BAD_INPUT
    assert "pip install 'stcompile[plot]'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
    with pytest.raises(MissingExtraError):
        check_plot(tmp_path / "frontier.png")


def _report(rows: dict[str, Measurement], **settings: object) -> TuneReport:
    known = {"measure": "mean_cosine", "pairs": None, "texts": 10, "rounds": 1, "threads": 1, "max_drop": 0.005}
    targets = tuple(TunedTarget(name, "", item) for name, item in rows.items())
    return TuneReport(BASELINE, "because", targets, {**known, **settings}, {"cpu": "a CPU"})


_ROWS = {
    BASELINE: EXACT,
    "onnx-int8": measured(2.0, 0.001),
    "onnx-int8-weights": measured(1.0, 0.0001),
    "onnx-int8-dynamic": measured(3.0, 0.01, invariant=False),
}


@pytest.mark.parametrize("settings", [{}, {"measure": SPEARMAN, "pairs": 20}], ids=["cosine", "spearman"])
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_by_its_ending(ending: str, settings: dict[str, object], tmp_path: Path) -> None:
    picture = tmp_path / f"frontier.{ending}"
    plot_frontier(_report({**_ROWS, "better": measured(1.5, -0.001)}, **settings), picture)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert picture.read_bytes().startswith(begins[ending])
    assert [path.name for path in tmp_path.iterdir()] == [picture.name]


def test_the_frontier_is_what_nothing_beats() -> None:
    exact, near, worse, lossy = EXACT, measured(2.0, 0.001), measured(1.5, 0.002), measured(3.0, 0.01)
    assert frontier([lossy, worse, near, exact]) == [exact, near, lossy]
    assert frontier([measured(0.9, 0.0), exact]) == [exact]


def test_the_table_has_every_measured_target_and_every_reason() -> None:
    report = _report(_ROWS)
    refused = TunedTarget("openvino-bf16", "refused here: no [bfloat16]", None)
    found = TuneReport(report.winner, report.why, (*report.targets, refused), report.settings, report.machine)
    with console.out.capture() as capture:
        console.out.print(render.tuning(found.to_dict()))
    shown = capture.get()
    assert "Recommended: because." in shown
    assert "openvino-bf16: refused here: no [bfloat16]" in shown
    assert all(name in shown for name in _ROWS)
