"""Image processors of folders: what of them is read, and what is refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import transformers

from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.folder import Folder
from stcompile.compiler.kinds.image_processor import _CLIP, _SIGLIP, ImageSide, image_side_of
from stcompile.compiler.kinds.transformer import KIND

IMAGE = {"method": "get_image_features", "method_output_name": "pooler_output"}


def side_of(folder: Path, settings: Any, **config: Any) -> ImageSide | None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}), encoding="utf-8")
    entry = ModuleEntry(0, KIND, "", {"modality_config": {"image": IMAGE}, **config})
    return image_side_of(Folder(folder), entry)


@pytest.mark.parametrize(
    ("known", "kind"),
    [(_CLIP, transformers.CLIPImageProcessorPil), (_SIGLIP, transformers.SiglipImageProcessorPil)],
)
def test_what_a_folder_leaves_unsaid_is_what_transformers_takes(known: dict[str, Any], kind: Any) -> None:
    made = kind()
    for key, value in known.items():
        theirs = getattr(made, key)
        theirs = {name: size for name, size in dict(theirs).items() if size} if hasattr(theirs, "height") else theirs
        assert (theirs or None) == (value or None), key


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"do_convert_rgb": False}, "do_convert_rgb is false"),
        ({"do_resize": "yes"}, "do_resize is 'yes', not true or false"),
        ({"size": {"shortest_edge": 8, "longest_edge": 20}}, "size is .*, where stcompile knows shortest_edge"),
        ({"size": 0}, "size is 0"),
        ({"resample": 6}, "resample is 6, where Pillow has 0 to 5"),
        ({"crop_size": {"shortest_edge": 8}}, "crop_size is"),
        ({"do_center_crop": False}, "every image keeps a size of its own"),
        ({"do_center_crop": False, "do_resize": False}, "every image keeps a size of its own"),
        ({"rescale_factor": "1/255"}, "rescale_factor is '1/255', not a number"),
        ({"image_mean": [0.5]}, r"image_mean is \[0.5\], not 3 numbers"),
        ({"image_std": [1, 0, 1]}, "image_std divides by zero"),
        ({"do_pad": True}, r"do_pad \(True\) is not supported"),
        ({"do_flip_channel_order": True}, r"do_flip_channel_order \(True\) is not supported"),
    ],
)
def test_what_is_not_reproduced_is_refused_by_name(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    side = side_of(tmp_path, settings)
    assert side is not None
    assert side.processing is None
    (found,) = side.reasons
    assert found.startswith("its image processor's ")
    assert found.endswith("correct it in preprocessor_config.json, or leave the image tower out (--modalities text)")
    assert re.search(reason, found)


def test_another_class_and_other_arguments_are_refused_by_name(tmp_path: Path) -> None:
    side = side_of(tmp_path, {"image_processor_type": "Siglip2ImageProcessor"})
    assert side is not None
    assert "Siglip2ImageProcessor, is not one of CLIPImageProcessor and SiglipImageProcessor" in side.reasons[0]
    side = side_of(tmp_path, {}, processing_kwargs={"image": {"size": 3}})
    assert side is not None
    assert side.reasons[0].startswith("processing_kwargs.image.size is not supported")


def test_the_processor_of_a_processor_comes_first(tmp_path: Path) -> None:
    """As transformers looks for it."""
    nested = {"image_processor": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 4, "width": 6}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested), encoding="utf-8")
    side = side_of(tmp_path, {"size": 9})
    assert side is not None
    assert side.processing is not None
    assert (side.processing.height, side.processing.width, side.processing.mean) == (4, 6, (0.5, 0.5, 0.5))


def test_a_folder_without_a_processor_says_so(tmp_path: Path) -> None:
    entry = ModuleEntry(0, KIND, "", {"modality_config": {"image": IMAGE}})
    side = image_side_of(Folder(tmp_path), entry)
    assert side is not None
    assert "it has no preprocessor_config.json" in side.reasons[0]


def test_networks_that_read_images_with_texts_have_no_tower(tmp_path: Path) -> None:
    assert side_of(tmp_path, {}, modality_config={"image": {**IMAGE, "method": "forward"}}) is None
