"""Pictures to `pixel_values`: number by number what transformers' image processors of Pillow make of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import transformers
from PIL import Image

from stcompile.artifact.image import ImageSpec
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.folder import Folder
from stcompile.compiler.kinds.image_processor import image_side_of
from stcompile.compiler.kinds.transformer import KIND
from stcompile.compiler.pictures import calibration_pictures, probe_pictures
from stcompile.errors import InputError
from stcompile.runtime import pixels
from stcompile.runtime.pictures import Picture, picture_of
from stcompile.runtime.pixels import PixelMaker

CHANCE = np.random.RandomState(0)
COLORS = CHANCE.randint(0, 256, (33, 41, 4)).astype(np.uint8)
RGB = COLORS[..., :3]

TWO_TOWERS = {"modality_config": {"image": {"method": "get_image_features"}}}


def _palette() -> Any:
    image = Image.fromarray(RGB).quantize(9)
    image.info["transparency"] = 2
    return image


def _keyed() -> Any:
    """One color of it is transparent."""
    image = Image.fromarray(RGB)
    image.info["transparency"] = tuple(RGB[0, 0].tolist())
    return image


IMAGES: dict[str, Any] = {
    "RGB": Image.fromarray(RGB),
    "RGBA": Image.fromarray(COLORS),
    "LA": Image.fromarray(COLORS[..., :2], "LA"),
    "L": Image.fromarray(RGB[..., 0]),
    "1": Image.fromarray(RGB[..., 0]).convert("1"),
    "P": _palette(),
    "RGB with a transparent color": _keyed(),
    "CMYK": Image.fromarray(RGB).convert("CMYK"),
    "I;16": Image.fromarray(RGB[..., 0].astype(np.uint16) * 200),
    "F": Image.fromarray(RGB[..., 0] / np.float32(3)),
    "one pixel": Image.fromarray(RGB[:1, :1]),
    "narrow": Image.fromarray(RGB[:, :2]),
    "array": RGB,
    "array, channels first": np.moveaxis(RGB, -1, 0),
    "array, grey": RGB[..., :1],
    "array with alpha": COLORS,
    "array of shares": RGB / np.float32(255),
    "array of shares with alpha": COLORS / 255,
    "array of floats to 255": RGB.astype(np.float64),
    "array of int64": RGB.astype(np.int64),
    "array 3x5x3": RGB[:3, :5],
}

CLIP, SIGLIP = "CLIPImageProcessor", "SiglipImageProcessor"
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": (CLIP, {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}),
    "clip, odd and larger than its pictures": (
        CLIP,
        {"size": {"shortest_edge": 13}, "crop_size": {"height": 20, "width": 17}, "resample": 2},
    ),
    "clip, cut alone": (CLIP, {"do_resize": False, "crop_size": {"height": 21, "width": 30}}),
    "clip, not normalized": (CLIP, {"size": 16, "crop_size": 15, "do_normalize": False}),
    "siglip": (SIGLIP, {"size": {"height": 16, "width": 24}}),
    "siglip, as it is": (
        SIGLIP,
        {"size": [16, 24], "resample": 0, "do_rescale": False, "do_normalize": False},
    ),
    "siglip, other numbers": (
        SIGLIP,
        {"size": {"height": 9, "width": 9}, "resample": 1, "rescale_factor": 0.01, "image_mean": 0.3, "image_std": 0.7},
    ),
}


def spec_of(name: str, folder: Path) -> ImageSpec:
    """The steps of some settings, as a folder's own are read."""
    kind, settings = SETTINGS[name]
    made = getattr(transformers, f"{kind}Pil")(**settings)
    made.save_pretrained(folder)
    side = image_side_of(Folder(folder), ModuleEntry(0, KIND, "", TWO_TOWERS))
    assert side is not None
    assert side.processing is not None, side.reasons
    return side.processing


@pytest.mark.parametrize("settings", SETTINGS)
def test_pixels_are_those_of_transformers_bit_by_bit(settings: str, tmp_path: Path) -> None:
    kind, options = SETTINGS[settings]
    reference, maker = getattr(transformers, f"{kind}Pil")(**options), PixelMaker(spec_of(settings, tmp_path))
    for name, image in IMAGES.items():
        expected = np.asarray(reference([image], return_tensors="np")["pixel_values"], dtype=np.float32)
        found = maker.pixel_values([Picture(image, 0)])
        assert found.dtype == np.float32
        assert np.array_equal(found, expected), name


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif"])
def test_files_are_those_of_transformers_bit_by_bit(ending: str, tmp_path: Path) -> None:
    """Turned by their EXIF data, and what is transparent as it was below."""
    maker = PixelMaker(spec_of("clip", tmp_path))
    exif = Image.Exif()
    exif[0x0112] = 6
    image = IMAGES["P"] if ending == "gif" else IMAGES["RGB" if ending == "jpg" else "RGBA"]
    path = tmp_path / f"image.{ending}"
    image.save(path, exif=exif)
    expected = _of_transformers(str(path))
    for given in (str(path), {"image": str(path)}, {"image": path}):
        picture = picture_of(given, 0)
        assert picture is not None
        assert np.array_equal(maker.pixel_values([picture]), expected)


def test_an_image_within_an_address_is_that_of_transformers(tmp_path: Path) -> None:
    import base64

    content = io.BytesIO()
    Image.fromarray(RGB).save(content, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    picture = picture_of(address, 0)
    assert picture is not None
    found = PixelMaker(spec_of("clip", tmp_path)).pixel_values([picture])
    assert np.array_equal(found, _of_transformers(address))


def _of_transformers(image: str) -> npt.NDArray[np.float32]:
    processor = transformers.CLIPImageProcessorPil(**SETTINGS["clip"][1])
    return np.asarray(processor([processor.fetch_images(image)], return_tensors="np")["pixel_values"], np.float32)


def test_another_filter_is_noticed(tmp_path: Path) -> None:
    """The comparison above can fail: by a filter, a level or a row of pixels."""
    maker = PixelMaker(spec_of("clip", tmp_path))
    reference = transformers.CLIPImageProcessorPil(**{**SETTINGS["clip"][1], "resample": 2})
    expected = reference([IMAGES["RGB"]], return_tensors="np")["pixel_values"]
    assert not np.allclose(maker.pixel_values([Picture(IMAGES["RGB"], 0)]), expected, atol=0.1)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((4, 4, 3), np.nan), "it has numbers that are NaN or infinite"),
        (RGB.astype(np.float32) - 100, "its numbers are -100 to"),
        (RGB / np.float32(100), "its numbers are 0"),
        (RGB[..., :2], r"an array \(33, 41, 2\) of uint8"),
        (np.full((4, 4, 3), "a"), "an array"),
        (RGB[:0], "it has no pixels"),
        (COLORS / 100, "numbers outside 0 to 1 beside transparency"),
        (np.zeros((2, 60_000, 3), np.uint8), "its 60000x2 pixels would be resized to 480000x16: crop it first"),
    ],
)
def test_what_is_no_image_is_refused_by_its_place(
    image: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "_MOST_PIXELS", 1 << 20)
    with pytest.raises(InputError, match=rf"^item 7 cannot be read as an image \({reason}"):
        PixelMaker(spec_of("clip", tmp_path)).pixel_values([Picture(image, 7)])


def test_files_that_are_damaged_or_too_large_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = PixelMaker(spec_of("clip", tmp_path))
    whole, cut, other = (str(tmp_path / f"{name}.png") for name in ("whole", "cut", "other"))
    Image.fromarray(RGB).save(whole)
    Path(cut).write_bytes(Path(whole).read_bytes()[:900])
    Path(other).write_bytes(b"no image")
    for path, reason in ((cut, "truncated"), (other, "cannot identify"), (str(tmp_path / "none.png"), "No such file")):
        with pytest.raises(InputError, match=rf"^item 3 \(.*\.png\) cannot be read as an image \(.*{reason}"):
            maker.pixel_values([Picture(path, 3)])
    with pytest.raises(InputError, match="it is not base64"):
        maker.pixel_values([Picture("data:image/png;base64,a", 3)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="decompression bomb"):
        maker.pixel_values([Picture(whole, 3)])


def test_pictures_are_drawn_alike_and_none_is_judged_that_was_calibrated_on() -> None:
    first, again = calibration_pictures(), calibration_pictures()
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(first, again, strict=True))
    known = {picture.pixels.tobytes() for picture in first}
    assert not known & {picture.pixels.tobytes() for picture in probe_pictures() if not picture.name.startswith("flat")}
    assert len({picture.pixels.shape for picture in first}) > 5
