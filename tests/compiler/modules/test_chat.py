"""Chat templates: the format that is guessed, and the templates that are refused by name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st

from stcompile.artifact.manifest import ChatTemplate
from stcompile.compiler.modules import Transformer
from stcompile.compiler.modules.chat import _MOST_LINES
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import UnsupportedError
from tests.conftest import MODELS, transformer_of

CONSTANT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
IS_STRING = (
    "{% for m in messages %}{% if m['content'] is string %}flat {{ m['content'] }}"
    "{% else %}typed {{ m['content'][0]['text'] }}{% endif %}<|im_end|>{% endfor %}"
)
LOOP = (
    "{% for m in messages %}{% if m['content'] is string %}flat {{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'text' %}typed {{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>{% endfor %}"
)
DATED = "{{ strftime_now('%d %b %Y') }}\n" + CONSTANT

# build(template, format) -> a copy of the golden folder; a format of None leaves the key out
Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def build(template: str | dict[str, str] | None, form: str | None = "flat") -> Path:
        folder = tmp_path / "model"
        shutil.copytree(MODELS / "chat_template_saved_by_st", folder)
        (folder / "chat_template.jinja").unlink()
        if isinstance(template, str):
            (folder / "chat_template.jinja").write_text(template)
        elif template is not None:
            path = folder / "tokenizer_config.json"
            named = [{"name": name, "template": text} for name, text in template.items()]
            path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": named}))
        path = folder / "sentence_bert_config.json"
        config = json.loads(path.read_text())
        message = config["modality_config"]["message"]
        del message["format"]
        if form is not None:
            message["format"] = form
        path.write_text(json.dumps(config))
        return folder

    return build


def reduced(folder: Path) -> ChatTemplate:
    chat = transformer_of(load_stack(folder)).chat
    assert chat is not None
    return chat.reduce()


def refusal(folder: Path) -> str:
    with pytest.raises(UnsupportedError) as caught:
        reduced(folder)
    return str(caught.value)


@pytest.mark.parametrize("form", [None, "auto", "flat", "structured"])
@pytest.mark.parametrize("template", [IS_STRING, LOOP, {"default": IS_STRING}], ids=["is-string", "loop", "named"])
def test_the_format_is_guessed_like_sentence_transformers(
    build: Build, template: str | dict[str, str], form: str | None
) -> None:
    folder = build(template, form)
    theirs = SentenceTransformer(str(folder), device="cpu")
    ours = transformer_of(load_stack(folder))
    chat = ours.chat
    assert chat is not None
    marker = {"flat": "flat hello", "structured": "typed hello"}[theirs[0].input_formatter.message_format]
    assert chat.render("hello", "").startswith(marker)
    for prompt in (None, "query: "):
        expected = theirs.preprocess(["hello", "new york city"], prompt=prompt)
        assert ours.tokenize(["hello", "new york city"], prompt)["input_ids"].tolist() == (
            expected["input_ids"].tolist()
        )


@pytest.mark.parametrize(
    "template", [CONSTANT, IS_STRING, LOOP, {"default": IS_STRING}], ids=["constant", "is-string", "loop", "named"]
)
def test_the_inferred_modalities_equal_those_of_sentence_transformers(
    build: Build, template: str | dict[str, str]
) -> None:
    folder = build(template)
    assert Transformer(folder).modality_config == st.Transformer(str(folder)).modality_config


def test_a_template_that_refuses_the_system_role_is_refused_by_name(build: Build) -> None:
    guard = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    folder = build(guard + CONSTANT)
    reason = refusal(folder)
    assert "fails to render a prompt as a system message (System role not supported)" in reason
    assert "prompts would be impossible: " in reason
    chat = transformer_of(load_stack(folder)).chat
    assert chat is not None
    assert "hello" in chat.render("hello", "")


@pytest.mark.parametrize(
    ("template", "detail"),
    [
        ("{{ raise_exception('never') }}", "never"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[0].content.a.b }}", "has no attribute 'a'"),
        ("{{ messages[0].content + 1 }}", "can only concatenate str"),
        ({"other": CONSTANT}, "no default specified"),
        (None, "tokenizer.chat_template is not set"),
    ],
    ids=["raises", "syntax", "undefined", "type", "no-default", "missing"],
)
def test_a_template_that_fails_is_refused_by_name(
    build: Build, template: str | dict[str, str] | None, detail: str
) -> None:
    reason = refusal(build(template))
    assert "its chat template fails to render a text as a user message (" in reason
    assert detail in reason


@pytest.mark.parametrize("template", [DATED, {"default": DATED}], ids=["single", "named"])
def test_a_template_that_writes_the_date_is_refused_by_name(build: Build, template: str | dict[str, str]) -> None:
    assert "writes the current date (strftime_now)" in refusal(build(template))


def test_a_template_that_renders_differently_every_time_is_refused_by_name(build: Build) -> None:
    template = "{{ range(90000) | random }}{{ range(90000) | random }}" + CONSTANT
    assert "differently from one time to the next" in refusal(build(template))


ENDLESS = {
    "nested": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "three deep": "{% for i in range(999) %}{% for j in range(999) %}{% for k in range(9999) %}x{% endfor %}"
    "{% endfor %}{% endfor %}",
    "over text": "{% set x = 'a' * 99999 %}{% for i in x %}{% for j in x %}{% endfor %}{% endfor %}",
    "a macro": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "a filter": "{% for i in range(99999) %}{{ range(99999) | map('string') | join }}{% endfor %}",
    "with a prompt alone": "{% if messages | length > 1 %}{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% endfor %}{% endfor %}{% endif %}",
}


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_an_end_is_refused_by_name(
    build: Build, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sys.gettrace()
    monkeypatch.setattr("stcompile.compiler.modules.chat._MOST_LINES", 1_000_000)
    assert "its chat template takes more than 1,000,000 steps to render a short text" in refusal(build(template + LOOP))
    assert sys.gettrace() is before


def test_the_longest_templates_in_use_are_far_below_the_bound(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template of 30,000 characters, which is more than tool-calling models have."""
    monkeypatch.setattr("stcompile.compiler.modules.chat._MOST_LINES", _MOST_LINES // 4)
    unused = "{% if tools %}{{ tools | tojson }}{% for t in tools %}{{ t.name }}{% endfor %}{% endif %}"
    assert reduced(build(unused * 330 + CONSTANT)).suffix == "<|im_end|>\n"


def test_only_the_template_that_is_rendered_counts(build: Build) -> None:
    assert reduced(build({"default": CONSTANT, "tool_use": DATED})).suffix == "<|im_end|>\n"


def test_a_template_that_asks_for_the_task_is_refused_by_name(build: Build) -> None:
    folder = build(CONSTANT + "{% if task == 'query' %}[Q]{% endif %}")
    reference = SentenceTransformer(str(folder), device="cpu")
    plain, query = (reference.preprocess(["one"], task=task)["input_ids"].shape[1] for task in (None, "query"))
    assert plain < query
    assert "asks which task a text is encoded for" in refusal(folder)


def test_a_variable_of_its_own_is_no_question(build: Build) -> None:
    assert reduced(build("{% set task = 'x' %}{# task #}your task is " + CONSTANT)).prefix.startswith("your task is ")
