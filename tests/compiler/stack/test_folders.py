"""Reading model folders: every generation, and every way in which one can be wrong."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import InputError, ModelFolderError, UnsupportedError
from tests.conftest import MODELS, transformer_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A private copy of Transformer, two poolings, Dense, LayerNorm, Dropout, Dense, Normalize."""
    return Path(shutil.copytree(MODELS / "full_stack", tmp_path / "model"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(content)), encoding="utf-8")


def test_every_reason_is_given_at_once(folder: Path) -> None:
    edit(folder / "modules.json", lambda rows: [*rows, {"path": "", "type": "sentence_transformers.models.WKPooling"}])
    edit(folder / "1_Pooling/config.json", lambda config: {**config, "pooling_mode": "median"})
    edit(folder / "2_Dense/config.json", lambda config: {**config, "activation_function": "os.system"})
    edit(folder / "config_sentence_transformers.json", lambda config: {**config, "similarity_fn_name": "maxsim"})
    with pytest.raises(UnsupportedError) as caught:
        load_stack(folder)
    text = str(caught.value)
    assert all(word in text for word in ("WKPooling", "median", "os.system", "maxsim"))
    assert len(caught.value.reasons) == 4


def test_a_stack_whose_widths_do_not_fit_is_refused(folder: Path) -> None:
    edit(folder / "modules.json", lambda rows: [row for row in rows if row["path"] != "2_Dense"])
    with pytest.raises(UnsupportedError, match=r"LayerNorm\) takes 40 values but is given 64"):
        load_stack(folder)


def test_a_stack_without_pooling_is_refused(folder: Path) -> None:
    edit(folder / "modules.json", lambda rows: rows[:1])
    with pytest.raises(UnsupportedError, match="add a Pooling"):
        load_stack(folder)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: (root / "model.safetensors").unlink(), "has no weights"),
        (lambda root: (root / "model.safetensors").write_bytes(b"\x00" * 64), "cannot be loaded"),
        (lambda root: (root / "config.json").unlink(), "has no config.json"),
        (lambda root: (root / "modules.json").write_text("[{"), "is not valid JSON"),
        (lambda root: (root / "modules.json").write_text("{}"), "must be a list of modules"),
        (lambda root: (root / "2_Dense/model.safetensors").unlink(), "has neither model.safetensors"),
        (lambda root: (root / "2_Dense/model.safetensors").write_bytes(b"junk"), "cannot be read"),
        (lambda root: (root / "tokenizer.json").write_text("{"), "tokenizer"),
        (lambda root: (root / "2_Dense/config.json").write_text('{"in_features": NaN}'), "not valid JSON"),
    ],
)
def test_a_half_written_folder_is_one_clear_error(folder: Path, damage: Callable[[Path], Any], sentence: str) -> None:
    damage(folder)
    with pytest.raises(ModelFolderError, match=sentence):
        load_stack(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit(folder / "2_Dense/config.json", lambda config: {**config, "bias": False})
    with pytest.raises(ModelFolderError, match="do not fit its configuration"):
        load_stack(folder)


def test_weights_that_are_missing_from_the_checkpoint_are_noticed(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    state = load_file(str(path))
    path.unlink()
    kept = {name: tensor for name, tensor in state.items() if "layer.1.output.dense" not in name}
    save_file(kept, str(path), metadata={"format": "pt"})
    with pytest.raises(ModelFolderError, match=r"lack encoder\.layer\.1\.output\.dense"):
        load_stack(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / "sharded_weights", tmp_path / "model")
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(ModelFolderError, match=shard.name):
        describe(folder)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "C:\\x", "a/../../b"])
def test_a_module_path_cannot_leave_the_folder(folder: Path, path: str) -> None:
    edit(folder / "modules.json", lambda rows: [*rows[:-1], {**rows[-1], "path": path}])
    with pytest.raises(ModelFolderError, match="outside the folder"):
        describe(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder / "9_Normalize").symlink_to(tmp_path / "outside")
    edit(folder / "modules.json", lambda rows: [*rows[:-1], {**rows[-1], "path": "9_Normalize"}])
    with pytest.raises(ModelFolderError, match="outside the folder"):
        describe(folder)


@pytest.mark.parametrize("name", ["loop", "1_Pooling", "model.safetensors", "tokenizer.json"])
def test_a_link_to_itself_is_one_sentence(folder: Path, name: str) -> None:
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(name)
    with pytest.raises(ModelFolderError, match=f"holds a link that leads back to itself \\({name}\\)"):
        load_stack(folder)


@pytest.fixture
def outside(folder: Path) -> Path:
    """Files like the model's own, beside its folder."""
    there = Path(shutil.copytree(folder, folder.with_name("outside")))
    shutil.copy(there / "tokenizer.json", there / "tokenizer.1.0.json")
    shutil.copy(there / "config.json", there / "config.4.0.0.json")
    (there / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    return there


# The keys by which transformers' releases open a file that a configuration names: the first four were seen to.
POINTERS: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("tokenizer_config.json", "fast_tokenizer_files", lambda there: ["../outside/tokenizer.1.0.json"]),
    ("tokenizer_config.json", "fast_tokenizer_files", lambda there: [str(there / "tokenizer.1.0.json")]),
    ("special_tokens_map.json", "tokenizer_file", lambda there: str(there / "tokenizer.json")),
    ("tokenizer_config.json", "gguf_file", lambda there: str(there / "vocab.txt")),
    ("tokenizer_config.json", "tokenizer_file", lambda there: str(there / "tokenizer.json")),
    ("tokenizer_config.json", "vocab_file", lambda there: str(there / "vocab.txt")),
    ("tokenizer_config.json", "vocab", lambda there: str(there / "vocab.txt")),
    ("tokenizer_config.json", "init_inputs", lambda there: [str(there / "vocab.txt")]),
    ("config.json", "configuration_files", lambda there: ["../outside/config.4.0.0.json"]),
    ("config.json", "transformers_weights", lambda there: "../outside/model.safetensors"),
    ("processor_config.json", "tokenizer_file", lambda there: str(there / "tokenizer.json")),
]


@pytest.mark.parametrize(("file", "key", "value"), POINTERS, ids=[f"{file}-{key}" for file, key, _ in POINTERS])
def test_what_transformers_would_open_outside_is_refused(
    folder: Path, outside: Path, file: str, key: str, value: Callable[[Path], Any]
) -> None:
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    edit(folder / file, lambda config: {**config, key: value(outside)})
    opened: list[str] = []
    with watched(opened), pytest.raises(ModelFolderError, match="which is outside the folder: do not use it"):
        load_stack(folder)
    assert not [path for path in opened if "/outside/" in path]


def test_a_tokenizer_below_the_root_is_contained_too(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "full_stack", folder / "0_Transformer")
    (folder / "0_Transformer/modules.json").unlink()
    rows = [
        {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
        {"path": "0_Transformer/1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    load_stack(folder)
    config = folder / "0_Transformer/tokenizer_config.json"
    edit(config, lambda found: {**found, "fast_tokenizer_files": ["../../tokenizer.1.0.json"]})
    with pytest.raises(ModelFolderError, match="outside the folder"):
        load_stack(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("special_tokens_map_file", "/etc/hostname"),
        ("tokenizer_file", "/home/somebody/.cache/huggingface/transformers/abc"),
        ("name_or_path", "/tmp"),
        ("fast_tokenizer_files", ["tokenizer.json"]),
        ("model_max_length", float("inf")),
    ],
)
def test_paths_of_the_authors_machine_do_no_harm(folder: Path, key: str, value: Any) -> None:
    expected = describe(folder)
    edit(folder / "tokenizer_config.json", lambda config: {**config, key: value})
    assert describe(folder) == expected


_WATCHED: list[list[str]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        for opened in _WATCHED:
            opened.append(str(arguments[0]))


sys.addaudithook(_note)


@contextlib.contextmanager
def watched(opened: list[str]) -> Iterator[None]:
    """Notes every file that Python opens."""
    _WATCHED.append(opened)
    try:
        yield
    finally:
        _WATCHED.remove(opened)


def test_pickles_run_no_code(tmp_path: Path) -> None:
    import torch

    folder = shutil.copytree(MODELS / "legacy_v2_bin_weights", tmp_path / "model")
    marker = tmp_path / "ran"
    torch.save({"linear.weight": Touch(marker)}, folder / "2_Dense/pytorch_model.bin")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load_stack(folder)
    assert not marker.exists()


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["AudioEncoder", "Splade"])
def test_other_kinds_of_models_are_refused(folder: Path, kind: str) -> None:
    edit(folder / "config_sentence_transformers.json", lambda config: {**config, "model_type": kind})
    assert kind in describe(folder).unsupported[0]


def test_code_of_the_folder_does_not_run_by_default(folder: Path) -> None:
    edit(folder / "config.json", lambda config: {**config, "model_type": "unheard", "auto_map": {"AutoConfig": "x.X"}})
    (folder / "x.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsupportedError, match="trust_remote_code"):
        load_stack(folder)


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="there is no model folder"):
        load_stack(tmp_path / "nowhere")


def test_a_limit_beyond_the_positions_is_clamped_with_a_warning(tmp_path: Path, caplog: Any) -> None:
    folder = shutil.copytree(MODELS / "plain_roberta", tmp_path / "model")
    edit(folder / "tokenizer_config.json", lambda config: {**config, "model_max_length": 512})
    stack = load_stack(folder)
    assert transformer_of(stack).max_seq_length == 64
    assert "texts are cut at 64 tokens" in caplog.text


def test_a_live_sentence_transformer_is_read() -> None:
    from sentence_transformers import SentenceTransformer

    live = SentenceTransformer(str(MODELS / "full_stack"), device="cpu")
    stack = load_stack(live)
    assert [type(block).__name__ for block in stack.blocks][:3] == ["Transformer", "Pooling", "Dense"]


def test_a_hub_id_out_of_reach_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelFolderError, match="hub did not deliver"):
        load_stack("nobody/no-such-model")


def test_a_snapshot_of_the_hubs_cache_is_made_of_links(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name/snapshots/abc"
    blobs = tmp_path / "models--org--name/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in (MODELS / "full_stack").rglob("*") if path.is_file())):
        shutil.copy(path, blobs / str(number))
        link = snapshot / path.relative_to(MODELS / "full_stack")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))
    assert load_stack(snapshot).dim == 24
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(MODELS / "full_stack/model.safetensors")
    with pytest.raises(ModelFolderError, match="outside the folder"):
        load_stack(snapshot)


def without_pooler(source: str, folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(MODELS / source, folder)
    path = folder / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(str(path)).items() if "pooler" not in name}
    path.unlink()
    save_file(state, str(path), metadata={"format": "pt"})
    return folder


def test_a_pooler_nobody_needs_may_be_missing(tmp_path: Path) -> None:
    """And is the same every time: a random one would change the fingerprint."""
    folder = without_pooler("pool_mean", tmp_path / "model")
    assert load_stack(folder).fingerprint() == load_stack(folder).fingerprint()


def test_a_pooler_that_is_needed_may_not_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"lack pooler\.dense"):
        load_stack(without_pooler("modality_output_pooler", tmp_path / "model"))


def test_a_limit_beyond_rotary_positions_is_kept(tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / "backbone_qwen3_lasttoken", tmp_path / "model")
    edit(folder / "config.json", lambda config: {**config, "max_position_embeddings": 32})
    edit(folder / "sentence_bert_config.json", lambda config: {**config, "max_seq_length": 64})
    assert transformer_of(load_stack(folder)).max_seq_length == 64


def test_a_limit_below_the_special_tokens_is_refused(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", lambda config: {**config, "max_seq_length": 1})
    with pytest.raises(UnsupportedError, match="less than the 2 special tokens"):
        load_stack(folder)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("model_args", "subfolder"),
        ("model_args", "cache_dir"),
        ("tokenizer_args", "tokenizer_file"),
        ("processor_kwargs", "subfolder"),
        ("config_args", "revision"),
    ],
)
def test_a_folder_cannot_send_transformers_elsewhere(folder: Path, key: str, name: str) -> None:
    edit(folder / "sentence_bert_config.json", lambda config: {**config, key: {name: "../outside"}})
    assert f".{name} is not supported" in describe(folder).unsupported[0]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"hidden_size": "abc"}),
        ("config.json", {"model_type": ["bert"]}),
        ("1_Pooling/config.json", {"pooling_mode": None}),
        ("1_Pooling/config.json", {"pooling_mode": 3}),
        ("config_sentence_transformers.json", {"default_prompt_name": []}),
        ("config_sentence_transformers.json", {"truncate_dim": 0}),
        ("config_sentence_transformers.json", {"truncate_dim": "8"}),
        ("sentence_bert_config.json", {"processing_kwargs": [1]}),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": 5}}),
        ("sentence_bert_config.json", {"modality_config": {"text": {"method": "forward", "method_output_name": "no"}}}),
        ("sentence_bert_config.json", {"module_output_name": 5}),
        ("2_Dense/config.json", {"module_input_name": "nowhere"}),
        ("2_Dense/config.json", {"out_features": 10**15}),
        ("4_Dropout/config.json", {"dropout": "x"}),
    ],
)
def test_a_malformed_value_is_one_clear_error(folder: Path, file: str, change: dict[str, Any]) -> None:
    edit(folder / file, lambda config: {**config, **change})
    with pytest.raises((ModelFolderError, UnsupportedError)):
        load_stack(folder)


def test_a_live_object_that_a_folder_cannot_hold_is_refused() -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense
    from torch import nn

    live = SentenceTransformer(str(MODELS / "pool_mean"), device="cpu")
    live.append(Dense(32, 16, activation_function=nn.LeakyReLU(0.5)))
    with pytest.raises(UnsupportedError, match="than the live object"):
        load_stack(live)


def test_a_live_object_is_left_in_the_mode_it_was_in() -> None:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    for live in (
        SentenceTransformer(str(MODELS / "pool_mean"), device="cpu"),
        CrossEncoder(str(MODELS / "reranker_bert"), device="cpu"),
    ):
        live.train()
        next(live.children()).eval()
        before = [module.training for module in live.modules()]
        load_stack(live)
        assert [module.training for module in live.modules()] == before


def test_a_module_that_cannot_be_saved_is_named() -> None:
    from sentence_transformers import SentenceTransformer
    from torch import nn

    live = SentenceTransformer(str(MODELS / "pool_mean"), device="cpu")
    live.append(nn.Tanh())
    live.append(nn.Dropout())
    with pytest.raises(
        UnsupportedError, match="its module 2, a Tanh, has no save: leave it out, or make it a"
    ) as caught:
        load_stack(live)
    assert len(caught.value.reasons) == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("foo", "there is no option 'foo': there are revision, cache_dir"),
        ("trust_remote", "there is no option 'trust_remote': the nearest are trust_remote_code"),
        ("min_cosin", "there is no option 'min_cosin': the nearest are min_cosine"),
    ],
)
def test_an_option_that_there_is_not_is_named(name: str, says: str, tmp_path: Path) -> None:
    from stcompile.compiler.export import export_model

    options: Any = {name: 1}
    with pytest.raises(InputError, match=says):
        export_model(MODELS / "pool_mean", tmp_path / "artifact", **options)
    if name != "min_cosin":
        with pytest.raises(InputError, match=says):
            load_stack(MODELS / "pool_mean", **options)


def test_what_is_no_model_is_told_what_there_is() -> None:
    with pytest.raises(
        InputError, match="SentenceTransformer, SparseEncoder, MultiVectorEncoder or CrossEncoder, got N"
    ):
        load_stack(None)


def test_a_dense_beside_the_token_embeddings_does_not_change_their_width(tmp_path: Path) -> None:
    from stcompile.compiler.modules import Dense, Pooling, Transformer
    from stcompile.compiler.stack.module_stack import ModuleStack
    from stcompile.compiler.stack.save import save_stack

    beside = Dense(32, 8, module_input_name="token_embeddings", module_output_name="other")
    save_stack(ModuleStack([Transformer(MODELS / "plain_bert"), beside, Pooling(32)]), tmp_path)
    assert load_stack(tmp_path).dim == 32


@pytest.mark.parametrize("name", ["hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl"])
def test_instructor_leaves_out_the_prompt_by_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    shutil.copytree(MODELS / "pool_mean", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    prompt = "Represent the sentence: "
    by_name, by_path = load_stack(name), load_stack(tmp_path / name)
    for given, stack in ((name, by_name), (str(tmp_path / name), by_path)):
        expected = SentenceTransformer(given, device="cpu").encode(["hello world"], prompt=prompt)
        assert abs(stack.encode(["hello world"], prompt) - expected).max() < 1e-6
    assert abs(by_name.encode(["hello world"], prompt) - by_path.encode(["hello world"], prompt)).max() > 1e-3
    assert by_path.notes() == ()
    assert any(name in note and "left out of the pooling" in note for note in by_name.notes())
