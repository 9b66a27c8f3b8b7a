"""What is fuzzed: each target makes something hostile of a real input and hands it to stcompile, as a user would."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

import stcompile
from reliability.fuzz.changes import Provider, changed_bytes, changed_json, changed_text, one_of
from stcompile.artifact.manifest import MANIFEST_NAME, _digest
from stcompile.cli import render
from stcompile.cli.textfiles import texts_of
from stcompile.compiler.inspection import inspect
from stcompile.errors import StcompileError, UnsupportedError

GOLDEN = Path(__file__).parents[2] / "golden"
ARTIFACTS, MODELS = GOLDEN / "artifacts", GOLDEN / "models"

# How an input ended.
WORKED, REFUSED = "worked", "refused"

_LONGEST_SENTENCE = 2100


class Target(ABC):
    """One kind of hostile input.

    Args:
        home: an empty folder for what it is made of.
    """

    # What is tried, for the table.
    about: str

    def __init__(self, home: Path) -> None:
        self.home = home

    @abstractmethod
    def attempt(self, data: Provider) -> None:
        """Uses one such input. Raises StcompileError where it is refused, anything else where it should not have."""


def outcome_of(target: Target, data: Provider) -> str:
    """How one input ended; whatever is no clear refusal is raised."""
    try:
        target.attempt(data)
    except StcompileError as error:
        for sentence in error.reasons if isinstance(error, UnsupportedError) else (str(error),):
            assert sentence, "a refusal without a reason"
            assert "Traceback" not in sentence, "a traceback in a sentence"
            assert len(sentence) < _LONGEST_SENTENCE, f"a refusal of {len(sentence)} characters"
        return REFUSED
    return WORKED


def resigned(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> None:
    """Writes a manifest anew that fits the folder's files, as somebody would who wants it to be believed."""
    body = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    body.pop("digest", None)
    for entry in body["files"]:
        content = (folder / entry["path"]).read_bytes()
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    body = change(body)
    try:
        digest = _digest(body)
    except ValueError:
        digest = ""
    (folder / MANIFEST_NAME).write_text(json.dumps({**body, "digest": digest}), encoding="utf-8")


def check_encodes(folder: Path) -> None:
    """Opens an artifact and encodes: a result a text."""
    with stcompile.load(folder, threads=1) as loaded:
        if isinstance(loaded, stcompile.Reranker):
            made = loaded.predict([("hello world", "the quick brown fox"), ("", "x")])
        else:
            made = loaded.encode_query(["hello world", "the quick brown fox"])
        assert len(made) == 2


def check_is_shown(folder: Path) -> None:
    """Inspects a folder, and prints what was found."""
    found = inspect(folder)
    json.dumps(found, allow_nan=False)
    Console(file=io.StringIO()).print(render.inspection(found))


class OfArtifact(Target):
    """A file of an artifact, changed; its hash and the manifest's are right again."""

    artifacts: tuple[str, ...]
    file: str

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        folders = [Path(shutil.copytree(ARTIFACTS / name, home / name.replace("/", "-"))) for name in self.artifacts]
        self._contents = [(folder, (folder / self.file).read_bytes()) for folder in folders]

    def attempt(self, data: Provider) -> None:
        folder, content = one_of(self._contents, data)
        self.written(folder, content, data)
        self.used(folder)

    def written(self, folder: Path, content: bytes, data: Provider) -> None:
        """Puts the changed file there, and a manifest that fits it."""
        (folder / self.file).write_bytes(self.changed(content, data))
        resigned(folder)

    def changed(self, content: bytes, data: Provider) -> bytes:
        """The file's content, changed."""
        return json.dumps(changed_json(json.loads(content), data)).encode("utf-8")

    def used(self, folder: Path) -> None:
        """What a user does with it."""
        check_encodes(folder)


class Manifests(OfArtifact):
    """Every schema's, with one to four places changed."""

    about = "`manifest.json` of each schema, its digest right again: load, encode"
    file = MANIFEST_NAME
    artifacts = (
        *("v1/pool_mean_with_prompt-onnx-fp32", "v2/router_first_static_query-onnx-fp32"),
        *("v2/wordemb_wordweights_lstm-onnx-fp16", "v2/bow_dense_normalize-onnx-fp32", "v3/full_stack-onnx-int8"),
        *("v5/full_stack-onnx-int8", "v6/reranker_bert-onnx-int8", "v6/sparse_csr-onnx-int8"),
        *("v7/multi_vector_fixed-onnx-int8", "v8/bge_m3-onnx-int8", "v8/clip_text-onnx-int8"),
        "v9/full_stack-onnx-int8",
    )

    def written(self, folder: Path, content: bytes, data: Provider) -> None:
        (folder / self.file).write_bytes(content)
        resigned(folder, lambda body: changed_json(body, data))


class Reports(OfArtifact):
    about = "`report.json`, its hash right again: inspect, and the table that is printed"
    artifacts = ("v4/full_stack-onnx-int8", "v6/reranker_bert-onnx-int8", "v8/bge_m3-onnx-int8")
    file = "report.json"

    def used(self, folder: Path) -> None:
        check_is_shown(folder)


class SelfTests(OfArtifact):
    about = "`self_test.json`, its hash right again: load with a self-test"
    artifacts = ("v9/full_stack-onnx-int8",)
    file = "self_test.json"

    def used(self, folder: Path) -> None:
        stcompile.load(folder, threads=1, self_test=True).close()


class Tokenizers(OfArtifact):
    about = "`tokenizer.json` of an artifact, its hash right again: load, encode"
    artifacts = ("v5/full_stack-onnx-int8", "v4/backbone_qwen3_lasttoken-onnx-fp16", "v2/static_normalize-onnx-fp16")
    file = "tokenizer.json"


class Words(OfArtifact):
    about = "`words.json` of an artifact of a word model, its hash right again: load, encode"
    artifacts = ("v2/wordemb_wordweights_lstm-onnx-fp16", "v2/bow_dense_normalize-onnx-fp32")
    file = "words.json"


class Texts(Target):
    """Texts of any characters, lone surrogates among them."""

    about = "texts of any characters: each has a vector, the same in a batch as alone"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        names = ("v5/full_stack-onnx-int8", "v2/wordemb_lstm_bi-onnx-fp32", "v2/static_normalize-onnx-fp16")
        self._encoders = [stcompile.load(ARTIFACTS / name, threads=1) for name in names]

    def attempt(self, data: Provider) -> None:
        encoder = one_of(self._encoders, data)
        texts = [data.ConsumeUnicode(data.ConsumeIntInRange(0, 64)) for _ in range(data.ConsumeIntInRange(1, 4))]
        texts[0] = texts[0] * data.ConsumeIntInRange(1, 300)
        together = encoder.encode(texts)
        alone = np.stack([encoder.encode(text) for text in texts])
        # A mean over no token is no number, as in sentence-transformers.
        assert np.allclose(together, alone, rtol=0, atol=1e-4, equal_nan=True), "a text has another vector in a batch"


class Pairs(Target):
    about = "what a reranker is called with: pairs, texts, numbers, nothing, in lists of any depth"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._reranker = stcompile.load(ARTIFACTS / "v6" / "reranker_bert-onnx-int8", threads=1)

    def attempt(self, data: Provider) -> None:
        given = changed_json([["hello world", "the quick brown fox"], ["a", "b"], "c", ["", ""]], data)
        found = self._reranker.predict(given)
        assert np.isfinite(found).all()


class Images(Target):
    about = "pictures of every format with bytes changed: encode"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._encoder = stcompile.load(ARTIFACTS / "v8" / "clip_text-onnx-int8", threads=1)
        drawn = Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 31, 3)).astype(np.uint8))
        self._contents = {}
        for name in ("png", "jpeg", "gif", "bmp", "tiff", "webp"):
            content = io.BytesIO()
            drawn.save(content, name)
            self._contents[name] = content.getvalue()

    def attempt(self, data: Provider) -> None:
        name = one_of([*self._contents], data)
        path = self.home / f"picture.{name}"
        path.write_bytes(changed_bytes(self._contents[name], data))
        assert np.isfinite(self._encoder.encode([{"image": str(path)}])).all()


class Models(Target):
    """Folders as people download them, with one JSON file of one of them changed: inspect, without torch."""

    about = "JSON files of model folders (`modules.json`, every configuration and tokenizer): inspect"
    names = (
        *("full_stack", "router_dense_heads", "legacy_pooling_multi", "wordemb_cnn", "reranker_qwen3"),
        *("sparse_splade_v5", "multi_vector_stanford", "bge_m3", "clip_text", "model2vec_folder"),
    )

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        folders = [Path(shutil.copytree(MODELS / name, home / name)) for name in self.names]
        self._files = [
            (folder, path, path.read_bytes())
            for folder in folders
            for path in sorted(folder.rglob("*.json"))
            if path.stat().st_size
        ]

    def attempt(self, data: Provider) -> None:
        folder, path, content = one_of(self._files, data)
        path.write_bytes(
            changed_bytes(content, data)
            if not data.ConsumeIntInRange(0, 7)
            else json.dumps(changed_json(json.loads(content), data)).encode("utf-8")
        )
        try:
            self.used(folder)
        finally:
            path.write_bytes(content)

    def used(self, folder: Path) -> None:
        """What a user does with it."""
        check_is_shown(folder)


class BuiltModels(Models):
    about = "the same files: the module stack built in torch, weights and tokenizer with it"

    def used(self, folder: Path) -> None:
        stcompile.load_stack(str(folder))


class Weights(Target):
    about = "`model.safetensors` with bytes of its header or anywhere changed: the module stack built in torch"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._folder = Path(shutil.copytree(MODELS / "full_stack", home / "model"))
        self._path = self._folder / "model.safetensors"
        self._content = self._path.read_bytes()
        self._header = int.from_bytes(self._content[:8], "little") + 8

    def attempt(self, data: Provider) -> None:
        if data.ConsumeIntInRange(0, 3):
            header = changed_bytes(self._content[: self._header], data)
            self._path.write_bytes(header + self._content[self._header :])
        else:
            self._path.write_bytes(changed_bytes(self._content, data))
        stcompile.load_stack(str(self._folder))


class Tables(Target):
    about = "files of texts (lines, JSONL, CSV, TSV) with bytes changed: what `stcompile encode` reads"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._contents = {
            "txt": "hello world\nthe quick brown fox\n\n",
            "jsonl": '{"text": "hello", "id": 1}\n{"text": "world", "id": 2}\n"a text"\n',
            "csv": 'id,text\n1,"hello, world"\n2,"two\nlines"\n',
            "tsv": "id\ttext\n1\thello\n2\tworld\n",
        }

    def attempt(self, data: Provider) -> None:
        ending = one_of([*self._contents], data)
        path = self.home / f"texts.{ending}"
        text = self._contents[ending]
        for _ in range(data.ConsumeIntInRange(0, 3)):
            text = changed_text(text, data)
        path.write_bytes(changed_bytes(text.encode("utf-8", "surrogatepass"), data))
        assert all(isinstance(found, str) for found in texts_of(str(path), "text"))


class Graphs(OfArtifact):
    about = "`model.onnx` with bytes changed, its hash right again: load, encode"
    artifacts = ("v5/full_stack-onnx-int8", "v2/static_normalize-onnx-fp16")
    file = "model.onnx"

    def changed(self, content: bytes, data: Provider) -> bytes:
        return changed_bytes(content, data)


TARGETS: dict[str, type[Target]] = {
    "manifest": Manifests,
    "report": Reports,
    "self-test": SelfTests,
    "artifact-tokenizer": Tokenizers,
    "artifact-words": Words,
    "graph": Graphs,
    "texts": Texts,
    "pairs": Pairs,
    "images": Images,
    "tables": Tables,
    "model-files": Models,
    "built-models": BuiltModels,
    "weights": Weights,
}
