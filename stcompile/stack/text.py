"""The text front end of a stack, as an artifact carries it: a `tokenizer.json` and a `TextSpec`."""

from __future__ import annotations

from stcompile.manifest import TextSpec
from stcompile.stack.module_stack import ModuleStack

TOKENIZER_FILE = "tokenizer.json"


def text_front_end(stack: ModuleStack) -> tuple[TextSpec, str]:
    """How strings become the graph's inputs.

    The tokenizer is written as transformers runs it, not as the folder stores it: transformers 5 rebuilds the
    pipelines of the classes it knows (spec section 5.3), and the vectors to be matched come from there.

    Returns:
        the manifest's description, and the text of `tokenizer.json` without padding and truncation.

    Raises:
        UnsupportedError: the chat template does more than wrap the text.
    """
    transformer = stack.transformer
    tokenizer = transformer.tokenizer
    chat = transformer.chat
    spec = TextSpec(
        kind="transformer",
        tokenizer=TOKENIZER_FILE,
        max_seq_length=transformer.max_seq_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        pad_id=int(tokenizer.pad_token_id),
        pad_type_id=int(tokenizer.pad_token_type_id),
        special_ids=tuple(sorted(tokenizer.all_special_ids)),
        chat=None if chat is None else chat.reduce(),
    )
    return spec, transformer.tokenizer_json()
