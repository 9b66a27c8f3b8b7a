"""Adapters, each in an environment of its own beside the newest release of what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from stcompile.errors import InputError
from stcompile.integrations._opened import DENSE, SCORES, named, opened
from tests.apart import run_apart
from tests.conftest import Compiled
from tests.versions.table import pins

SCRIPTS = Path(__file__).parent / "scripts"

# What is installed, and the golden models whose artifacts the script gets.
ADAPTERS = {
    "langchain": (("langchain-core",), ("prompt_default_name", "reranker_bert")),
    "llama_index": (("llama-index-core",), ("prompt_default_name", "reranker_bert")),
    "haystack": (("haystack-ai",), ("prompt_default_name", "reranker_bert")),
    "chroma": (("chromadb",), ("prompt_default_name", "wide_bert")),
    "lancedb": (("lancedb",), ("prompt_default_name", "reranker_bert")),
    "mteb": (("mteb", f"torch=={pins('constraints.txt')['torch']}"), ("router_first_static_query", "reranker_bert")),
    "qdrant": (("qdrant-client",), ("normalize", "sparse_splade", "sparse_splade_prompts")),
}


@pytest.mark.clients
@pytest.mark.parametrize("name", ADAPTERS)
def test_used_as_its_documentation_does(name: str, compiled: Compiled, tmp_path: Path) -> None:
    packages, cases = ADAPTERS[name]
    arguments = [str(compiled(case)) for case in cases]
    run_apart(SCRIPTS / f"{name}.py", packages, arguments, tmp_path, ours=True)


def test_what_an_adapter_is_given(compiled: Compiled) -> None:
    folder = compiled("reranker_bert")
    loaded = opened(folder, SCORES, threads=1)
    assert opened(loaded, SCORES) is loaded
    assert named(loaded) == named(folder) == str(folder)
    with pytest.raises(InputError, match="threads cannot change what is loaded"):
        opened(loaded, SCORES, threads=2)
    with pytest.raises(InputError, match="this takes an encoder or a hybrid encoder, and got a reranker"):
        opened(loaded, DENSE)
    with pytest.raises(InputError, match="ranks by one score a pair, and the reranker gives 3"):
        opened(compiled("reranker_bert_classes"), SCORES)


def test_every_adapter_is_tried() -> None:
    files = {file.stem for file in (SCRIPTS.parents[2] / "stcompile" / "integrations").glob("[!_]*.py")}
    assert files == set(ADAPTERS)
