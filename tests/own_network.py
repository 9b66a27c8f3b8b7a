"""Model folders whose network is code of their own: a table of tokens, and a `forward` that a test writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.conftest import MODELS

CONFIG = """
from transformers import PretrainedConfig

class OwnConfig(PretrainedConfig):
    model_type = "own"
    def __init__(self, vocab_size=341, hidden_size=8, **rest):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**rest)
"""

NETWORK = """
import torch
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from .configuration_own import OwnConfig

class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.table = nn.Embedding(config.vocab_size, config.hidden_size)
        self.types = nn.Embedding(2, config.hidden_size)
        self.adapters = nn.Parameter(torch.zeros(4, config.hidden_size))
        self.post_init()

    def _init_weights(self, module):
        pass

    def answer(self, ids, added):
        return BaseModelOutput(last_hidden_state=torch.tanh(self.table(ids) + added))

    {forward}
"""

CONFIGURATION = {
    "model_type": "own",
    "architectures": ["OwnModel"],
    "auto_map": {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"},
    "vocab_size": 341,
    "hidden_size": 8,
}


def own_network(folder: Path, forward: str, row: dict[str, Any] | None = None, **config: Any) -> Path:
    """A Transformer and a mean pooling.

    Args:
        folder: where to write it; its name must be its own, since transformers keeps code by it.
        forward: the network's method, e.g. `def forward(self, input_ids, attention_mask, **kwargs): ...`.
        row: more keys of the Transformer's row in modules.json.
        config: more keys of config.json.
    """
    import torch
    from safetensors.torch import save_file

    shutil.copytree(MODELS / "pool_mean", folder)
    (folder / "configuration_own.py").write_text(CONFIG, encoding="utf-8")
    lines = "\n    ".join(forward.strip("\n").splitlines())
    (folder / "modeling_own.py").write_text(NETWORK.replace("{forward}", lines), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({**CONFIGURATION, **config}), encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(rows, 8, generator=generator)
        for name, rows in (("table", 341), ("types", 2), ("adapters", 4))
    }
    state = {"table.weight": weights["table"], "types.weight": weights["types"], "adapters": weights["adapters"]}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    edit(folder / "1_Pooling/config.json", lambda old: {**old, "embedding_dimension": 8})
    edit(folder / "modules.json", lambda rows: [{**rows[0], **(row or {})}, *rows[1:]])
    return folder


def edit(path: Path, change: Any) -> None:
    """Rewrites a JSON file."""
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
