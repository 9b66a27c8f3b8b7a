"""The folder that transformers.js reads (@huggingface/transformers, tried with 4.3): docs/elsewhere.md.

config.json  tokenizer.json  tokenizer_config.json  onnx/model*.onnx

fastembed reads it, too, where texts have a limit of length.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from stcompile.artifact.manifest import ENCODER, NO_PADDING, SENTENCE, TOKENS, GraphSpec
from stcompile.compiler.layouts.base import Shape, refused
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import UnsupportedError

# Of a target's precision: what transformers.js calls it, and the end of the file's name that goes with it. In a browser
# it looks for q8 unless it is told otherwise.
_DTYPES = {"int8": ("q8", "_quantized"), "int4": ("q4", "_q4"), "fp16": ("fp16", "_fp16")}
_WHOLE = ("fp32", "")

ADDS: dict[str, str] = {}
TOKENIZER = "{}"

# Its only other name belongs to models of several graphs.
_FILE = "tokenizer.json"


def reasons_against(shape: Shape, source: ModelSource) -> list[str]:
    """See `Layout`."""
    target, text = shape.target, shape.text
    makes_more = shape.kind == ENCODER and not {SENTENCE, TOKENS}.issuperset(shape.outputs)
    depends_on_padding = shape.padding == NO_PADDING and text.kind == "transformer"
    found = [
        (target.is_openvino, f"target {target.name} is OpenVINO's, and it runs ONNX"),
        (shape.kind != ENCODER, f"this is a {shape.kind}, and it is for encoders of one vector a text"),
        (shape.graphs > 1, f"this model has {shape.graphs} graphs, and it reads one"),
        (shape.routes > shape.graphs, f"this model reads texts in {shape.routes} ways, and it reads them in one"),
        (makes_more, "what the graph makes besides vectors is finished behind it"),
        (shape.packed, "packed graphs run on GPUs alone"),
        (shape.truncates, "vectors are cut behind the graph (truncate_dim), and it would give whole ones"),
        (shape.has_default_prompt, "plain encode puts the default prompt in front, and it would not"),
        ("prompt_length" in shape.inputs, "pooling leaves the prompt out, and it does not tell how long that is"),
        (text.kind not in ("transformer", "static"), "texts are split by rules of the model's own, and it has none"),
        (text.chat is not None, "the model has a chat template, and it would leave that out"),
        (text.truncation_side != "right", "texts are cut on the left, and it cuts on the right alone"),
        (
            text.split_special_tokens,
            "special tokens in a text are read as they are spelled, and it reads tokens",
        ),
        (text.min_seq_length > 1, f"texts are padded to {text.min_seq_length} positions, and it pads to the longest"),
        (depends_on_padding, "vectors depend on padding, and it pads texts that share a batch"),
    ]
    return [refused("transformers.js", reason) for holds, reason in found if holds]


def arrange(folder: Path, graph: GraphSpec, shape: Shape, source: ModelSource) -> GraphSpec:
    """See `Layout`.

    `model_type` and `tokenizer_class` choose classes of transformers.js, not the network, which is in the graph: those
    of BERT add nothing to what the graph takes, but token types where it takes them.
    """
    if graph.external_data is not None:
        raise UnsupportedError(
            shape.name,
            "its weights are more than 2 GB, for which layout transformers.js has no file: choose a smaller precision, "
            "or export it without the layout",
        )
    text = shape.text
    assert text.tokenizer == _FILE
    dtype, suffix = _DTYPES.get(shape.target.precision, _WHOLE)
    place = f"onnx/model{suffix}.onnx"
    (folder / "onnx").mkdir()
    (folder / graph.file).rename(folder / place)
    takes_types = "token_type_ids" in shape.inputs
    tokenizer: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer" if takes_types else "PreTrainedTokenizer",
        "padding_side": text.padding_side,
        "truncation_side": text.truncation_side,
    }
    if text.max_seq_length is not None:
        tokenizer["model_max_length"] = text.max_seq_length
    pad = Tokenizer.from_file(str(folder / text.tokenizer)).id_to_token(text.pad_id)
    if pad is not None:
        tokenizer["pad_token"] = pad
    _write(folder / "tokenizer_config.json", tokenizer)
    # Without its name everybody would have to say which file there is.
    own = {"dtype": dtype}
    _write(
        folder / "config.json", {"model_type": "bert", "architectures": ["BertModel"], "transformers.js_config": own}
    )
    return dataclasses.replace(graph, file=place)


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
