"""Clients of others, as their own documentation uses them, against a server of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.apart import run_apart
from tests.conftest import load_case
from tests.server.conftest import CASES, Address

HERE = Path(__file__).parent

# A package with what it is asked for, and the script that uses it: each is installed apart from all others.
APART = {
    "langchain": ("langchain-openai",),
    "llama_index": ("llama-index-embeddings-openai-like",),
    "cohere": ("cohere",),
}


def test_the_openai_package(server: Address) -> None:
    openai = pytest.importorskip("openai")
    case = load_case(CASES["embedder"])
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none is needed", max_retries=0)
    found = client.embeddings.create(model="embedder", input=case.texts)
    np.testing.assert_allclose([one.embedding for one in found.data], case.expected(), atol=5e-6)
    assert found.usage.total_tokens > 0
    assert [one.id for one in client.models.list()] == [*CASES]
    with pytest.raises(openai.NotFoundError, match="there is no model 'no'"):
        client.embeddings.create(model="no", input="a")
    with pytest.raises(openai.UnprocessableEntityError, match="token ids are not taken"):
        client.embeddings.create(model="embedder", input=[1, 2, 3])


def test_hugging_faces_inference_client(server: Address) -> None:
    hub: Any = pytest.importorskip("huggingface_hub")
    case = load_case(CASES["embedder"])
    client = hub.InferenceClient(model=server.url)
    found = client.feature_extraction(case.texts[0], normalize=False)
    np.testing.assert_allclose(found, case.expected()[:1], atol=5e-6)
    scores = client.sentence_similarity("a dog", other_sentences=["a dog", "a cat"])
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert scores[1] < scores[0]


@pytest.mark.clients
@pytest.mark.parametrize("name", APART)
def test_packages_by_themselves(name: str, server: Address, tmp_path: Path) -> None:
    """Each script is one of `clients/`."""
    run_apart(HERE / "clients" / f"{name}.py", APART[name], [server.url], tmp_path, ours=False)
