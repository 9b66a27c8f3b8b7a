"""The linear layers of bge-m3's folders beside its modules: weights of words, and a vector of each token."""

from __future__ import annotations

from stcompile.artifact.manifest import TOKENS, VECTORS, WEIGHTS
from stcompile.compiler.kinds import normalize
from stcompile.compiler.kinds.base import ModuleEntry, ModuleType
from stcompile.compiler.kinds.folder import Folder

# They are in no modules.json: FlagEmbedding looks for both files.
KIND = ModuleType(
    "Dense",
    "dense",
    builder="bge_m3_head:BgeM3Head",
    keywords="ignored",
    shown=lambda config: {key: config[key] for key in ("file", "module_output_name")},
)

_FILES = {
    "sparse_linear.pt": ("torch.nn.modules.activation.ReLU", WEIGHTS),
    "colbert_linear.pt": ("torch.nn.modules.linear.Identity", VECTORS),
}


def heads_of(folder: Folder, first: int) -> list[ModuleEntry]:
    """The modules that these files are, at positions from `first` on; none where one of them is missing."""
    if not all(folder.inside(file).is_file() for file in _FILES):
        return []
    heads = [
        ModuleEntry(
            first + place,
            KIND,
            "",
            {
                "file": file,
                "activation_function": activation,
                "module_input_name": TOKENS,
                "module_output_name": feature,
            },
        )
        for place, (file, (activation, feature)) in enumerate(_FILES.items())
    ]
    return [*heads, ModuleEntry(first + len(heads), normalize.KIND, "", {"module_input_name": VECTORS})]
