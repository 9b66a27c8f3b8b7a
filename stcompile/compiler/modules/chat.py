"""Chat templates reduced to constant text around the message, proved by rendering probes.

sentence-transformers 5.4+ turns every text into a one-message conversation when the folder asks for it
(module-stack spec, section 5.5). A template that only wraps the message needs no template engine at run time;
one that does more (trims, escapes, branches on the content, tells the date) is refused.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from jinja2 import meta
from transformers.utils.chat_template_utils import _compile_jinja_template

from stcompile.artifact.manifest import ChatTemplate
from stcompile.errors import UnsupportedError, one_line
from stcompile.runtime.text.base import Text

_PROBES = ("", " ", "x", "  spaced  ", "two\nlines\n", "<b>&amp;</b> {{ braces }}", "é中🙂", "a" * 300)
_SYSTEM, _USER, _DOCUMENT = "\ue000system\ue000", "\ue001user\ue001", "\ue002document\ue002"

# How sentence-transformers guesses whether a chat template wants typed content (`InputFormatter._infer_format`).
_STRUCTURED_SIGNS = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")
_FLAT_MODELS = ("apertus", "deepseek_v3", "gpt_oss", "seed_oss")

_REMEDY = (
    "if the model was trained on plain text, remove `message` from modality_config in sentence_bert_config.json, or "
    "the chat template where there is no modality_config"
)

# Lines of Python that one rendering may take, some seconds' worth. Translating a template into Python takes about a
# hundred a character, the first time, and rendering it some hundred; two nested loops over jinja2's largest range would
# take ten billion.
_MOST_LINES = 20_000_000

_NOT_CONSTANT = f"its chat template does more than put constant text around the message: {_REMEDY}"


def guess_format(tokenizer: Any, model_type: str) -> str:
    """The format of a message that names none: `flat` or `structured`."""
    template = getattr(tokenizer, "chat_template", None)
    if model_type in _FLAT_MODELS:
        return "flat"
    # sentence-transformers does not look into a dictionary of named templates.
    if not isinstance(template, str) or not template or any(sign in template for sign in _STRUCTURED_SIGNS):
        return "structured"
    return "flat"


class ChatRenderer:
    """Renders one text or pair of texts, with or without a prompt, the way sentence-transformers does.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        structured: whether the content is a list with one typed item instead of the text itself.
        options: arguments of the template, such as `add_generation_prompt`.
        pairs: whether it is given pairs, each a message of the role `query` and one of `document`.
    """

    def __init__(self, tokenizer: Any, structured: bool, options: dict[str, Any], *, pairs: bool = False) -> None:
        self.pairs = pairs
        self._tokenizer = tokenizer
        self._structured = structured
        self._restore = bool(options.get("restore_suffix", True))
        self._options = {name: value for name, value in options.items() if name != "restore_suffix"}

    def render(self, text: Text, prompt: str) -> str:
        """The conversation as one string; texts where it is for texts, pairs where it is for pairs.

        Raises:
            UnsupportedError: the template fails, or there is none.
        """
        messages = [{"role": "system", "content": self._content(prompt)}] if prompt else []
        parts = {"user": text} if isinstance(text, str) else {"query": text[0], "document": text[1]}
        messages += [{"role": role, "content": self._content(part)} for role, part in parts.items()]
        try:
            with _bounded():
                rendered: str = self._tokenizer.apply_chat_template(messages, tokenize=False, **self._options)
        except _EndlessError as error:
            reason = f"its chat template takes more than {_MOST_LINES:,} steps to render a short text"
            raise _unsupported(f"{reason}: take its loops out, or {_REMEDY}") from error
        except Exception as error:  # jinja2's TemplateError, transformers' ValueError, or what an expression meets
            detail = one_line(error)
            if prompt:
                reason = (
                    f"its chat template fails to render a prompt as a system message ({detail}), which is how "
                    "sentence-transformers passes every prompt, so prompts would be impossible: make the template "
                    "accept the system role"
                )
            else:
                what = "a pair as a query and a document" if self.pairs else "a text as a user message"
                reason = f"its chat template fails to render {what} ({detail}): repair the template"
            raise _unsupported(f"{reason}, or {_REMEDY}") from error
        return rendered

    def tail_ids(self) -> tuple[int, ...]:
        """The template's constant last token ids: the common tail of two different messages."""
        if not self._restore:
            return ()
        first, second = (self._ids(self.render(self._twice(filler), "")) for filler in ("0", "1 2 3 4"))
        count = 0
        while count < min(len(first), len(second)) and first[-1 - count] == second[-1 - count]:
            count += 1
        return tuple(first[len(first) - count :]) if 0 < count < min(len(first), len(second)) else ()

    def reduce(self) -> ChatTemplate:
        """The template as constant strings.

        Raises:
            UnsupportedError: the template fails, changes with time, or does more than wrap the message.
        """
        marked: Text = (_USER, _DOCUMENT) if self.pairs else _USER
        first = self.render(marked, "")
        self._refuse_changing(first, marked)
        prefix, rest = self._split(first, _USER)
        plain_end = self._ends(rest)
        system_prefix, rest = self._split(self.render(marked, _SYSTEM), _SYSTEM)
        system_suffix, rest = self._split(rest, _USER)
        middle, suffix = end = self._ends(rest)
        for probe, other in zip(_PROBES, _PROBES[::-1], strict=True):
            text: Text = (probe, other) if self.pairs else probe
            body = probe + (middle or "") + (other if self.pairs else "") + suffix
            plain, with_system = self.render(text, ""), self.render(text, "system " + probe)
            if (
                plain_end != end
                or plain != prefix + body
                or with_system != system_prefix + "system " + probe + system_suffix + body
            ):
                raise _unsupported(_NOT_CONSTANT)
        return ChatTemplate(prefix, system_prefix, system_suffix, suffix, self.tail_ids(), middle)

    def _ends(self, rest: str) -> tuple[str | None, str]:
        """What stands between a query and its document, and what follows; of what follows the first text."""
        return self._split(rest, _DOCUMENT) if self.pairs else (None, rest)

    def _twice(self, text: str) -> Text:
        return (text, text) if self.pairs else text

    def _refuse_changing(self, first: str, marked: Text) -> None:
        # What is rendered here is frozen into the artifact. Two renders a moment apart show the same date, so the
        # source that transformers would choose among several is searched for transformers' only clock as well.
        options = self._options
        source = self._tokenizer.get_chat_template(options.get("chat_template"), options.get("tools"))
        if "strftime_now" in str(source):
            reason = "its chat template writes the current date (strftime_now), and an artifact would keep today's"
            raise _unsupported(f"{reason}: write a fixed date into the template, or {_REMEDY}")
        if "task" in _variables(str(source)):
            reason = "its chat template asks which task a text is encoded for, and an artifact holds one template"
            raise _unsupported(f"{reason}: make it constant, or {_REMEDY}")
        if self.render(marked, "") != first:
            reason = "its chat template renders the same text differently from one time to the next"
            raise _unsupported(f"{reason}: make the template constant, or {_REMEDY}")

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._structured else text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @staticmethod
    def _split(rendered: str, marker: str) -> tuple[str, str]:
        before, found, after = rendered.partition(marker)
        if not found or marker in after:
            raise _unsupported(_NOT_CONSTANT)
        return before, after


def _variables(source: str) -> set[str]:
    """What a template wants to be told."""
    return meta.find_undeclared_variables(_compile_jinja_template(source).environment.parse(source))


class _EndlessError(Exception):
    """A rendering that was stopped."""


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Counts what is run, since a template's loops cannot be told from outside that their time is up."""
    lines, before = 0, sys.gettrace()

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += 1
        if lines > _MOST_LINES:
            raise _EndlessError
        return count

    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)


def _unsupported(reason: str) -> UnsupportedError:
    return UnsupportedError("this model", reason)
