"""CLIPModel: a Transformer under the name it has had in folders."""

from __future__ import annotations

import dataclasses

from stcompile.artifact.manifest import SENTENCE
from stcompile.compiler.kinds import transformer
from stcompile.compiler.kinds.base import Config

# What a CLIPModel of the releases before 5.4 means (spec section 17).
CLIP_CONFIG = {
    "modality_config": {
        "text": {"method": "get_text_features", "method_output_name": "pooler_output"},
        "image": {"method": "get_image_features", "method_output_name": "pooler_output"},
    },
    "module_output_name": SENTENCE,
}


def _normalized(config: Config) -> Config:
    return transformer.with_new_names({**CLIP_CONFIG, **config})


KIND = dataclasses.replace(
    transformer.KIND,
    name="CLIPModel",
    file="clip_model",
    further_paths=(),
    builder="transformer:Transformer",
    normalized=_normalized,
)
