"""Dense, and the activations it may name."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.artifact.manifest import TOKENS
from stcompile.compiler.kinds.base import Config, ModuleType, keep
from stcompile.compiler.kinds.values import not_feature_names, not_positive

_ACTIVATION_HOMES = ("torch.nn", "torch.nn.modules.activation", "torch.nn.modules.linear")
ACTIVATION_NAMES = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU"),
    *("LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "Sigmoid", "SiLU"),
    *("Softmax", "Softmin", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
)

# Those that are of several numbers together. A folder stores no axis, and torch guesses one by how many there are.
_OVER_AN_AXIS = ("LogSoftmax", "Softmax", "Softmin")

# PyLate's own class, of which its folders hold the same files.
PYLATES = "pylate.models.Dense.Dense"


def is_activation(path: object) -> bool:
    """Whether it is the dotted path of an activation of torch.nn."""
    home, _, name = str(path).rpartition(".")
    return home in _ACTIVATION_HOMES and name in ACTIVATION_NAMES


def _problems(config: Config) -> Iterator[str]:
    yield from not_feature_names(config)
    yield from not_positive(config, "in_features", "out_features")
    path = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not is_activation(path):
        instead = (
            "it does something else than a function of each number: leave it out, or compute it in a module of its own"
            if str(path).startswith("torch.nn.")
            else "sentence-transformers would silently use Tanh: name the activation the model was trained with"
        )
        yield f"its activation {path!r} is none that stcompile has ({', '.join(ACTIVATION_NAMES)}); {instead}"
    if config.get("module_input_name") == TOKENS:
        yield from token_problems(config)


def token_problems(config: Config) -> Iterator[str]:
    """What is wrong with a Dense of token embeddings, beside what is wrong with any."""
    path = str(config.get("activation_function"))
    if is_activation(path) and path.rpartition(".")[2] in _OVER_AN_AXIS:
        yield (
            f"its activation {path!r} is over {TOKENS}, where sentence-transformers computes it across the texts of a "
            "batch, since a folder stores no axis: move it behind the pooling, or compute it in a module of its own"
        )


KIND = ModuleType(
    "Dense",
    "dense",
    further_paths=(PYLATES,),
    normalized=keep(
        *("in_features", "out_features", "bias", "activation_function"),
        *("module_input_name", "module_output_name", "use_residual"),
    ),
    problems=_problems,
)
