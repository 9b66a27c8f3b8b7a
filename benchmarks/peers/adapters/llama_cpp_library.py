"""llama.cpp's own library through its C interface: flash attention, the model's pooling inside, calls of few tokens.

It takes the token ids that everybody else here computes with: its own tokenizer splits some texts otherwise. Every text
of a call looks at every other one there and masks it, so that many short calls are faster than few long ones.
"""

import ctypes
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .batches import by_tokens, unpadded_tokenizer

# The fastest number of tokens a call: 512 lose a tenth to a fifth, and with AMX 64 lose half of the short texts' speed.
TOKENS = 128
TEXTS = 64

_POOLING_OF_THE_MODEL, _FLASH_ATTENTION, _CPU = -1, 1, 0


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """A GGUF in Q8_0 by llama.cpp's own converter, which takes the pooling from modules.json.

    Of other networks than BERT without a vocabulary, which is not read here: it knows those of published models alone.
    """
    folder = Path(destination)
    folder.mkdir(parents=True)
    shutil.copy(Path(source) / "tokenizer.json", folder)
    script = next(Path(sys.prefix).glob("sources/llama_cpp_python-*/vendor/llama.cpp/convert_hf_to_gguf.py"))
    sys.path.insert(0, str(script.parent))
    _accept(json.loads((Path(source) / "config.json").read_text(encoding="utf-8")))
    sys.argv = [str(script), source, "--outfile", str(folder / "model.gguf"), "--outtype", "q8_0"]
    runpy.run_path(str(script), run_name="__main__")


def _accept(config: dict[str, Any]) -> None:
    """Has the converter take what it would not, or would make a file of that cannot be loaded."""
    if config["model_type"] == "bert":
        return
    from conversion import base, load_all_models

    def no_vocabulary(self: Any) -> None:
        self._set_vocab_none()
        self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])

    load_all_models()
    kinds = [base.TextModel]
    for kind in kinds:
        kind.set_vocab = no_vocabulary
        kinds += kind.__subclasses__()
    read = base.ModelBase.load_hparams

    def named(folder: Path, *options: Any, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = read(folder, *options, **more)
        if "norm_eps" in found:
            # Published ModernBERTs have both names.
            found = {"layer_norm_eps": found["norm_eps"], **found}
        if config["model_type"].startswith("gemma"):
            # Rows of the table that no token of the tokenizer has are left out.
            tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            found["vocab_size"] = len(tokens["model"]["vocab"]) + len(tokens["added_tokens"])
        return found

    base.ModelBase.load_hparams = staticmethod(named)


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    longest, dim = options["max_seq_length"], options["dim"]
    tokenizer = unpadded_tokenizer(model, longest)
    library = _library()
    context = _context(library, Path(model) / "model.gguf", threads, max(TOKENS, longest))
    numbers = np.arange(TEXTS, dtype=np.int32)
    ones = np.ones(max(TOKENS, longest), dtype=np.int32)

    def encode(texts: list[str]) -> Any:
        rows = [np.array(encoding.ids, np.int32) for encoding in tokenizer.encode_batch_fast(texts)]
        lengths = [len(row) for row in rows]
        found = np.empty((len(rows), dim), np.float32)
        for places in by_tokens(lengths, TOKENS, TEXTS):
            counts = [lengths[place] for place in places]
            tokens = np.concatenate([rows[place] for place in places])
            positions = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
            # Of each token a pointer to the numbers of the texts that it is part of, here one.
            texts_of = numbers.ctypes.data + np.repeat(numbers[: len(places)], counts).astype(np.uintp) * 4
            batch = _Batch(
                n_tokens=len(tokens),
                token=tokens.ctypes.data,
                pos=positions.ctypes.data,
                n_seq_id=ones.ctypes.data,
                seq_id=texts_of.ctypes.data,
            )
            if memory := library.llama_get_memory(context):
                library.llama_memory_clear(memory, False)
            # What has no memory, as BERT, it hands to llama_encode by itself.
            if code := library.llama_decode(context, batch):
                raise RuntimeError(f"llama_decode answered {code}")
            for number, place in enumerate(places):
                vector = library.llama_get_embeddings_seq(context, number)
                found[place] = np.ctypeslib.as_array(vector, (dim,))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return encode


_UINT, _INT, _FLOAT, _BOOL = ctypes.c_uint32, ctypes.c_int32, ctypes.c_float, ctypes.c_bool
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t


def _fields(*kinds: tuple[Any, str]) -> list[tuple[str, Any]]:
    return [(name, kind) for kind, names in kinds for name in names.split()]


# The structures of include/llama.h at exactly `LIBRARY`'s version: they change from one to the next.
LIBRARY = "libllama.v0.5.0.so"


class _Batch(ctypes.Structure):
    _fields_ = _fields((_INT, "n_tokens"), (_POINTER, "token embd pos n_seq_id seq_id logits"))


class _ModelParameters(ctypes.Structure):
    _fields_ = _fields(
        (_POINTER, "devices tensor_buft_overrides"),
        (_INT, "n_gpu_layers split_mode load_mode lazy_mode main_gpu"),
        (_POINTER, "tensor_split progress_callback progress_callback_user_data kv_overrides"),
        (_BOOL, "vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp"),
    )


class _ContextParameters(ctypes.Structure):
    _fields_ = _fields(
        (_UINT, "n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq"),
        (_INT, "n_threads n_threads_batch"),
        (_INT, "ctx_type rope_scaling_type pooling_type attention_type flash_attn_type"),
        (_FLOAT, "rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow"),
        (_UINT, "yarn_orig_ctx"),
        (_FLOAT, "defrag_thold"),
        (_POINTER, "cb_eval cb_eval_user_data"),
        (_INT, "type_k type_v"),
        (_POINTER, "abort_callback abort_callback_data"),
        (_BOOL, "embeddings offload_kqv no_perf op_offload swa_full kv_unified"),
        (_POINTER, "samplers"),
        (_SIZE, "n_samplers"),
        (_POINTER, "ctx_other"),
    )


def _library() -> Any:
    """The library, with the kernels of this very CPU, which lie beside it."""
    folder = next(Path(sys.prefix).glob("node_modules/@node-llama-cpp/*/bins/*"))
    library = ctypes.CDLL(str(folder / LIBRARY))
    for name, result, *taken in (
        ("ggml_backend_load_all_from_path", None, ctypes.c_char_p),
        ("ggml_backend_dev_by_type", _POINTER, _INT),
        ("ggml_backend_dev_backend_reg", _POINTER, _POINTER),
        ("ggml_backend_reg_get_proc_address", _POINTER, _POINTER, ctypes.c_char_p),
        ("ggml_threadpool_params_init", None, ctypes.c_char_p, _INT),
        ("llama_model_default_params", _ModelParameters),
        ("llama_model_load_from_file", _POINTER, ctypes.c_char_p, _ModelParameters),
        ("llama_context_default_params", _ContextParameters),
        ("llama_init_from_model", _POINTER, _POINTER, _ContextParameters),
        ("llama_attach_threadpool", None, _POINTER, _POINTER, _POINTER),
        ("llama_decode", _INT, _POINTER, _Batch),
        ("llama_get_memory", _POINTER, _POINTER),
        ("llama_memory_clear", None, _POINTER, _BOOL),
        ("llama_get_embeddings_seq", ctypes.POINTER(_FLOAT), _POINTER, _INT),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, taken
    library.ggml_backend_load_all_from_path(str(folder).encode())
    return library


def _context(library: Any, path: Path, threads: int, tokens: int) -> int:
    model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
    if model is None:
        raise RuntimeError(f"llama.cpp cannot load {path}")
    settings = library.llama_context_default_params()
    settings.n_batch = settings.n_ubatch = tokens
    settings.n_seq_max = TEXTS
    settings.n_threads = settings.n_threads_batch = threads
    settings.pooling_type, settings.flash_attn_type = _POOLING_OF_THE_MODEL, _FLASH_ATTENTION
    settings.embeddings = settings.kv_unified = True
    context: int | None = library.llama_init_from_model(model, settings)
    if context is None:
        raise RuntimeError("llama.cpp cannot make a context")
    _keep_threads(library, context, threads)
    return context


def _keep_threads(library: Any, context: int, threads: int) -> None:
    """Threads that stay, as llama.cpp's own programs have them; otherwise each call starts its own."""
    kernels = library.ggml_backend_dev_backend_reg(library.ggml_backend_dev_by_type(_CPU))
    address = library.ggml_backend_reg_get_proc_address(kernels, b"ggml_threadpool_new")
    settings = ctypes.create_string_buffer(4096)  # larger than the structure, which only the library looks into
    library.ggml_threadpool_params_init(settings, threads)
    pool = ctypes.CFUNCTYPE(_POINTER, ctypes.c_char_p)(address)(settings)
    library.llama_attach_threadpool(context, pool, pool)
