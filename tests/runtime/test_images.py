"""Images through the runtime: what may be passed, in which order results come, and what is refused."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import stcompile
from stcompile.errors import InputError, MissingExtraError
from stcompile.runtime import pictures
from tests.conftest import PICTURES, Compiled

CASE = "clip_text"

# The same numbers in batches of other sizes, and of float32 sums in another order.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def encoder(compiled: Compiled) -> stcompile.Encoder:
    return stcompile.Encoder.load(compiled(CASE), threads=2)


@pytest.fixture(scope="module")
def paths() -> list[str]:
    return sorted(map(str, PICTURES.glob("*.png")))


@pytest.fixture
def images(paths: list[str]) -> list[Any]:
    return [Image.open(path) for path in paths]


def test_what_it_reads_is_told(encoder: stcompile.Encoder, compiled: Compiled) -> None:
    assert encoder.modalities == ("text", "image")
    assert stcompile.load(compiled("pool_cls")).modalities == ("text",)


def test_texts_and_images_of_one_call_come_in_its_order(encoder: stcompile.Encoder, images: list[Any]) -> None:
    """And each has the vector it has in a call of its own; a prompt is nothing to an image."""
    texts = ["hello world", "a fox", "", "hello world"]
    mixed = [images[0], texts[0], images[1], {"text": texts[1]}, images[0], texts[2], {"image": images[2]}, texts[3]]
    found = encoder.encode(mixed, prompt="title: ", normalize_embeddings=True, truncate_dim=12)
    alone = encoder.encode(images[:3], normalize_embeddings=True, truncate_dim=12)
    read = encoder.encode(texts, prompt="title: ", normalize_embeddings=True, truncate_dim=12)
    expected = [alone[0], read[0], alone[1], read[1], alone[0], read[2], alone[2], read[3]]
    assert found.shape == (8, 12)
    assert np.abs(found - np.stack(expected)).max() <= ROUNDING


def test_one_image_by_itself_gives_one_vector(encoder: stcompile.Encoder, images: list[Any], paths: list[str]) -> None:
    image = images[0].convert("RGB")
    expected = encoder.encode([image])[0]
    array = np.asarray(image)
    for given in (image, {"image": image}, array, np.moveaxis(array, -1, 0), {"image": paths[0]}):
        assert np.abs(encoder.encode(given) - expected).max() <= ROUNDING
    torch = pytest.importorskip("torch")
    assert np.abs(encoder.encode(torch.from_numpy(array.copy())) - expected).max() <= ROUNDING


def test_a_text_that_names_a_file_is_its_image_and_in_a_dict_a_text(
    encoder: stcompile.Encoder, paths: list[str]
) -> None:
    """As sentence-transformers tells them."""
    image, text = encoder.encode([paths[0], {"text": paths[0]}])
    assert np.abs(image - encoder.encode({"image": paths[0]})).max() <= ROUNDING
    assert not np.allclose(image, text)
    assert not np.allclose(encoder.encode("no such file.png"), image)


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_batches_of_any_size_and_a_stream_give_the_same(
    batch_size: int | None, encoder: stcompile.Encoder, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stcompile.runtime import encoder as module

    monkeypatch.setattr(module, "_IMAGES", 5)
    items = [item for path in paths for item in (path, f"about {Path(path).stem}")]
    expected = encoder.encode(items)
    assert np.abs(encoder.encode(items, batch_size=batch_size) - expected).max() <= ROUNDING
    streamed = list(encoder.encode_iter(iter(items), batch_size=batch_size))
    assert np.abs(np.stack(streamed) - expected).max() <= ROUNDING


def test_many_images_run_side_by_side(encoder: stcompile.Encoder, paths: list[str]) -> None:
    expected = encoder.encode(paths)
    few = encoder.single_threaded().encode([Image.open(path).convert("RGB") for path in paths] * 4, batch_size=2)
    many = encoder.encode([Image.open(path).convert("RGB") for path in paths] * 4, batch_size=2)
    assert many.shape == (4 * len(paths), expected.shape[1])
    assert np.abs(many - few).max() <= ROUNDING


def test_one_image_passed_twice_runs_once(compiled: Compiled, images: list[Any], paths: list[str]) -> None:
    encoder = stcompile.load(compiled(CASE), threads=1)
    found = encoder.encode([images[0], images[1], images[0], paths[2], paths[2], "text", "text"])
    assert (encoder.counted.images, encoder.counted.texts) == (3, 1)
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[3], found[4])


def test_integers_take_their_ranges_from_texts_and_images_together(
    encoder: stcompile.Encoder, paths: list[str]
) -> None:
    items = [paths[0], "hello world", paths[1], "a fox"]
    floats = encoder.encode(items)
    found = encoder.encode(items, precision="uint8")
    step = (floats.max(axis=0) - floats.min(axis=0)) / 255
    assert np.abs(found * step + floats.min(axis=0) - floats).max() <= 1.01 * step.max()
    assert encoder.encode(items, precision="binary").shape == (4, 3)


def test_queries_documents_and_similarity(encoder: stcompile.Encoder, images: list[Any]) -> None:
    vectors = encoder.encode_document(images)
    assert np.abs(vectors - encoder.encode(images)).max() <= ROUNDING
    scores = encoder.similarity(encoder.encode_query(["a picture"]), vectors)
    assert scores.shape == (1, len(images))
    assert np.abs(scores).max() <= 1 + ROUNDING


def test_an_encoder_is_pickled_and_closed_with_its_images(compiled: Compiled, images: list[Any]) -> None:
    with stcompile.Encoder.load(compiled(CASE)) as encoder:
        expected = encoder.encode(images)
        again = pickle.loads(pickle.dumps(encoder))
        assert np.abs(again.encode(images) - expected).max() <= ROUNDING
    with pytest.raises(stcompile.StcompileError, match="the encoder is closed"):
        encoder.encode(images)


def test_callers_of_one_loop_share_runs_of_texts_and_images(
    encoder: stcompile.Encoder, images: list[Any], paths: list[str]
) -> None:
    expected = encoder.encode([images[0], "a fox", paths[1]])

    async def ask() -> Any:
        async with stcompile.AsyncEncoder(encoder) as shared:
            calls = (
                shared.encode(images[0]),
                shared.encode(["a fox", {"image": paths[1]}]),
                shared.encode(["a", {"image": "none"}]),
            )
            return await asyncio.gather(*calls, return_exceptions=True)

    image, both, failed = asyncio.run(ask())
    assert np.abs(image - expected[0]).max() <= ROUNDING
    assert np.abs(both - expected[1:]).max() <= ROUNDING
    assert isinstance(failed, InputError)
    assert "item 1 (none) cannot be read" in str(failed)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("https://example.com/cat.png", "item 1 is the address of an image, and the runtime reads nothing from a net"),
        ({"image": "http://example.com/cat"}, "item 1 is the address of an image"),
        ({"image": 3}, "item 1 is called an image and is int"),
        ({"image": np.zeros((4, 4))}, "item 1 is called an image and is ndarray of 2 axes"),
        ({"image": "a", "text": "b"}, "item 1 is dict, not text"),
        (np.zeros((4, 4)), "item 1 is ndarray, not text"),
        (np.zeros((2, 4, 4, 3)), "item 1 is ndarray, not text"),
        (np.zeros((5, 6, 2)), "item 1 cannot be read as an image"),
        (("a", np.zeros((4, 4, 3))), "item 1 is a pair whose second text is ndarray, not text"),
    ],
    ids=str,
)
def test_what_is_neither_text_nor_image_is_refused_by_its_place(
    item: Any, reason: str, encoder: stcompile.Encoder
) -> None:
    with pytest.raises(InputError, match=f"^{reason}"):
        encoder.encode(["a text", item])


def test_a_stream_gives_what_came_before_an_image_that_is_none(encoder: stcompile.Encoder, paths: list[str]) -> None:
    stream: Iterator[Any] = encoder.encode_iter([paths[0], {"image": 3}])
    assert next(stream).shape == (20,)
    with pytest.raises(InputError, match="item 1 is called an image"):
        next(stream)
    with pytest.raises(InputError, match="encode_iter takes many texts"):
        encoder.encode_iter(np.zeros((4, 4, 3)))


def test_an_artifact_of_texts_takes_no_image(compiled: Compiled, images: list[Any], paths: list[str]) -> None:
    encoder = stcompile.load(compiled("pool_cls"))
    for item in (images[0], {"image": images[0]}, np.zeros((4, 4, 3))):
        with pytest.raises(InputError, match="this artifact reads texts alone"):
            encoder.encode([item])
    assert encoder.encode([paths[0]]).shape == (1, 32)


def test_without_pillow_images_are_refused_with_what_installs_it(
    encoder: stcompile.Encoder, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"Encoding images needs PIL.*pip install 'stcompile\[images\]'"):
        encoder.encode([paths[0]])
    assert encoder.encode(["a text"]).shape == (1, 20)
    assert pictures.is_image(Image.new("RGB", (1, 1))) is False


def test_texts_alone_import_no_pillow(compiled: Compiled, paths: list[str]) -> None:
    """And images no torch, transformers or onnx."""
    code = (
        "import sys, stcompile\n"
        f"encoder = stcompile.load({str(compiled(CASE))!r})\n"
        "encoder.encode(['a text'])\n"
        "assert 'PIL' not in sys.modules\n"
        f"encoder.encode([{paths[0]!r}])\n"
        "assert not {'torch', 'transformers', 'onnx', 'sentence_transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_encodes_a_folder_of_images(compiled: Compiled, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from stcompile.cli.app import app

    artifact, encoder = str(compiled(CASE)), stcompile.load(compiled(CASE))
    run = CliRunner().invoke(app, ["encode", artifact, "--images", str(PICTURES)])
    assert run.exit_code == 0, run.output
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row["image"] for row in rows] == sorted(map(str, PICTURES.glob("*.png")))
    assert np.abs(np.array(rows[0]["embedding"]) - encoder.encode(rows[0]["image"])).max() <= ROUNDING
    named = tmp_path / "paths.txt"
    named.write_text("\n".join(row["image"] for row in rows[:2]), encoding="utf-8")
    run = CliRunner().invoke(app, ["encode", artifact, "--images", str(named), "-o", str(tmp_path / "a.npy")])
    assert run.exit_code == 0, run.output
    assert np.load(tmp_path / "a.npy").shape == (2, 20)
    for arguments, reason in (
        (["--images", str(tmp_path)], "holds no image"),
        (["texts.txt", "--images", str(PICTURES)], "stands in the place of TEXTS"),
    ):
        refused = CliRunner().invoke(app, ["encode", artifact, *arguments])
        assert reason in str(refused.exception or refused.output)
    refused = CliRunner().invoke(app, ["encode", str(compiled("pool_cls")), "--images", str(PICTURES)])
    assert "has no image tower" in str(refused.exception or refused.output)
