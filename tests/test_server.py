"""Servers of several processes: everybody is answered, and they end without a word."""

from __future__ import annotations

import pytest

from benchmarks.server import SERVERS, serve
from tests.conftest import Quick, load_case

CASE = "pool_mean_with_prompt"


@pytest.mark.servers
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
def test_workers_answer_everybody_and_end(target: str, server: str, quick: Quick) -> None:
    texts = [text for text in load_case(CASE).texts if isinstance(text, str)]
    answers = serve(quick(CASE, target).folder, texts, 400, server=server, workers=3, callers=16)
    assert (answers.answered, answers.failed, answers.wrong) == (400, 0, 0)
    assert answers.complaints == []
    assert answers.exit_code == 0
