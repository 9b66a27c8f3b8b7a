"""Artifacts that are pushed: what the repository holds then, what is never overwritten, and the card."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import stcompile
from stcompile.artifact import open_artifact
from stcompile.artifact.report import read_report
from stcompile.cli.app import app
from stcompile.compiler.hub import push
from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.parity.speed import throughput
from stcompile.errors import ArtifactError, InputError
from stcompile.reports.card import card, is_ours
from tests.conftest import Compiled
from tests.hub.endpoint import TOKEN, Hub, Repository

NAME = "acme/minilm"


def pushed(artifact: Path, **options: Any) -> str:
    opened = open_artifact(artifact)
    content = card(opened, NAME, revision=options.get("revision"), licence="mit", speed=None)
    address, _ = push(opened, NAME, content, is_ours, **options)
    return address


def files_in(hub: Hub, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories[NAME]
    return repository.commits[repository.branches[branch]]


def test_what_is_pushed_is_what_is_loaded(hub: Hub, compiled: Compiled) -> None:
    artifact = compiled("normalize")
    address = pushed(artifact)
    assert address == f"{hub.url}/{NAME}/commit/{hub.repositories[NAME].branches['main']}"
    listed = {"manifest.json", *(entry.path for entry in open_artifact(artifact).manifest.files)}
    assert files_in(hub).keys() == {*listed, "README.md", ".gitattributes"}
    assert all(files_in(hub)[name] == (artifact / name).read_bytes() for name in listed)
    assert (stcompile.load(NAME).encode("a dog") == stcompile.load(artifact).encode("a dog")).all()
    assert pushed(artifact) == address  # nothing new is no commit


def test_another_artifact_takes_its_place(hub: Hub, compiled: Compiled) -> None:
    pushed(compiled("router_two_encoders"))
    assert len([name for name in files_in(hub) if name.endswith(".onnx")]) > 1
    made = hub.repositories[NAME]
    made.commit("main", {**files_in(hub), "notes.txt": b"of people"})
    pushed(compiled("normalize"))
    assert [name for name in files_in(hub) if name.endswith(".onnx")] == ["model.onnx"]
    assert files_in(hub)["notes.txt"] == b"of people"
    assert stcompile.load(NAME).tasks == ()


def test_a_branch_of_its_own(hub: Hub, compiled: Compiled) -> None:
    pushed(compiled("normalize"))
    pushed(compiled("normalize", "onnx-int8"), revision="v2/int8")
    targets = [stcompile.load(NAME, revision=name).artifact.manifest.target for name in (None, "v2/int8")]
    assert targets == ["onnx-fp32", "onnx-int8"]
    content = files_in(hub, "v2/int8")["README.md"].decode()
    assert f'stcompile.load("{NAME}@v2/int8")' in content
    assert f"stcompile serve {NAME}@v2/int8" in content


def test_what_no_artifact_put_there_is_not_overwritten(hub: Hub, compiled: Compiled) -> None:
    made = hub.repositories[NAME] = Repository()
    foreign = {"tokenizer.json": b"{}", "config.json": b"{}"}
    made.commit("main", foreign)
    for revision in (None, "int8"):
        with pytest.raises(ArtifactError, match=rf"{NAME} holds tokenizer\.json, which no artifact put there"):
            pushed(compiled("normalize"), revision=revision)
    assert files_in(hub) == foreign
    assert list(made.branches) == ["main"]


@pytest.mark.parametrize(
    "written", ["# by people", "---\nlibrary_name: stcompile\n---\n# by people, with the head\n", None]
)
def test_a_card_that_people_wrote_or_changed_stays(written: str | None, hub: Hub, compiled: Compiled) -> None:
    if written is None:
        pushed(compiled("normalize"))
        written = files_in(hub)["README.md"].decode().replace("It needs no torch.", "It is mine.")
    made = hub.repositories.setdefault(NAME, Repository())
    before = files_in(hub) if made.branches else {}
    made.commit("main", {**before, "README.md": written.encode()})
    opened = open_artifact(compiled("normalize", "onnx-int8"))
    content = card(opened, NAME, revision=None, licence=None, speed=None)
    _, has_card = push(opened, NAME, content, is_ours)
    assert not has_card
    assert files_in(hub)["README.md"].decode() == written
    assert stcompile.load(NAME).artifact.manifest.target == "onnx-int8"


@pytest.mark.parametrize("damage", ["newer", "broken"])
def test_an_artifact_that_cannot_be_read_is_not_replaced(damage: str, hub: Hub, compiled: Compiled) -> None:
    pushed(compiled("normalize"))
    manifest = json.loads(files_in(hub)["manifest.json"])
    manifest |= {"schema_version": 10_000} if damage == "newer" else {"dim": 3}
    hub.repositories[NAME].commit("main", {**files_in(hub), "manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(ArtifactError, match="holds an artifact that cannot be replaced"):
        pushed(compiled("normalize", "onnx-int8"))


def test_what_was_to_be_private_is_not_pushed_in_public(hub: Hub, compiled: Compiled) -> None:
    pushed(compiled("normalize"))
    before = dict(files_in(hub))
    with pytest.raises(ArtifactError, match="is there, and is public"):
        pushed(compiled("normalize", "onnx-int8"), private=True)
    assert files_in(hub) == before
    del hub.repositories[NAME]
    pushed(compiled("normalize"), private=True)
    assert hub.repositories[NAME].private
    pushed(compiled("normalize", "onnx-int8"), private=True)


@pytest.mark.parametrize("branch", [None, "v2"])
def test_another_push_in_the_meantime_is_not_lost(branch: str | None, hub: Hub, compiled: Compiled) -> None:
    pushed(compiled("normalize"), revision=branch)
    made, name = hub.repositories[NAME], branch or "main"
    # What is read last before the commit.
    hub.after["README.md"] = lambda: made.commit(name, {**files_in(hub, name), "theirs.txt": b"theirs"})
    with pytest.raises(ArtifactError, match="somebody else pushed there in the meantime, push again"):
        pushed(compiled("normalize", "onnx-int8"), revision=branch)
    assert "theirs.txt" in files_in(hub, name)
    assert stcompile.load(NAME, revision=branch).artifact.manifest.target == "onnx-fp32"


def test_who_may_not_write_is_told_how(hub: Hub, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(ArtifactError, match="log in with a token that may write there"):
        pushed(compiled("normalize"))
    assert not hub.repositories


def test_a_repository_has_an_owner(compiled: Compiled) -> None:
    opened = open_artifact(compiled("normalize"))
    with pytest.raises(InputError, match="'minilm' is no repository: name it owner/name"):
        push(opened, "minilm", "", is_ours)


KINDS = [
    ("normalize", {}),
    ("reranker_bert", {}),
    ("sparse_splade", {}),
    ("multi_vector_bert", {}),
    ("bge_m3", {"outputs": ("sentence_embedding", "sparse", "multi_vector")}),
    ("router_two_encoders", {}),
    ("router_no_default", {}),
    ("reranker_bert_classes", {}),
]


@pytest.mark.parametrize(("case", "options"), KINDS)
def test_the_code_of_a_card_runs(case: str, options: dict[str, Any], hub: Hub, compiled: Compiled) -> None:
    pushed(compiled(case, **options))
    content = files_in(hub)["README.md"].decode()
    (code,) = re.findall(r"```python\n(.*?)```", content, re.DOTALL)
    exec(code, {})


@pytest.mark.parametrize(("case", "options"), KINDS)
def test_a_card_has_the_proof_and_the_command(case: str, options: dict[str, Any], compiled: Compiled) -> None:
    opened = open_artifact(compiled(case, **options))
    report = read_report(opened)
    content = card(opened, NAME, revision=None, licence="mit", speed=throughput(opened, probe_texts()[:8], "cpu"))
    head = yaml.safe_load(content.split("---\n")[1])
    assert (head["library_name"], head["license"]) == ("stcompile", "mit")
    assert "base_model" not in head  # a folder's name is none of the hub
    assert f"| min cosine | {report.parity.min_cosine:.6f} |" in content
    for entry in opened.manifest.files:
        assert f"| `{entry.path}` | {entry.size / 1e6:.2f} |" in content
    assert re.search(r"\| this artifact \| \d+ \|", content)
    (command,) = re.findall(r"^(stcompile export .*)$", content, re.MULTILINE)
    assert command.startswith(f"stcompile export {report.source.name} --target {opened.manifest.target}")
    if case == "bge_m3":
        assert " --outputs sentence_embedding,sparse,multi_vector" in command
    assert is_ours(content)
    assert is_ours(content.replace("\n", "\r\n"))
    assert not is_ours(content + "more\n")


def test_the_command_line(hub: Hub, compiled: Compiled, tmp_path: Path) -> None:
    """As a user has it: the endpoint and who he is from the environment."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)

    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stcompile", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    artifact = compiled("normalize")
    dry = ran("push", str(artifact), NAME, "--no-speed", "--dry-run")
    assert dry.returncode == 0
    assert is_ours(dry.stdout)
    assert not hub.repositories
    done = ran("push", str(artifact), NAME, "--no-speed", "--license", "apache-2.0", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["repository"], found["size"]) == (NAME, open_artifact(artifact).size)
    texts = tmp_path / "texts.txt"
    texts.write_text("a dog\n", encoding="utf-8")
    encoded = ran("encode", NAME, str(texts))
    assert encoded.returncode == 0, encoded.stderr
    expected = stcompile.load(artifact).encode("a dog")
    assert np.allclose(json.loads(encoded.stdout)["embedding"], expected, atol=1e-6)
    refused = ran("encode", "acme/nothing", str(texts))
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].startswith("stcompile: there is no artifact acme/nothing")


def test_push_is_a_verb() -> None:
    assert "push" in {command.callback.__name__ for command in app.registered_commands if command.callback}
