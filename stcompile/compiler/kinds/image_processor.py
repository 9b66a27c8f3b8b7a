"""What a folder's image processor does, as the manifest has it; and what of it is not reproduced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stcompile.artifact.image import CHANNELS, RESAMPLINGS, ImageSpec
from stcompile.compiler.kinds.base import Config, ModuleEntry
from stcompile.compiler.kinds.folder import Folder, join
from stcompile.compiler.kinds.values import is_id, is_number, is_positive, nested

# The method of a network with two towers that makes vectors of images.
IMAGE_METHOD = "get_image_features"

# Where transformers looks for it: in the processor's own file, and before there were such, by itself.
_NESTED, _ALONE = "processor_config.json", "preprocessor_config.json"

_BICUBIC = RESAMPLINGS.index("bicubic")

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)

# What every processor of Pillow does where it is not told otherwise, and what those of CLIP and of SigLIP do then.
_COMMON: Config = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_convert_rgb": True,
    "resample": _BICUBIC,
}
_CLIP: Config = {
    **_COMMON,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "image_mean": _CLIP_MEAN,
    "image_std": _CLIP_STD,
}
_SIGLIP: Config = {
    **_COMMON,
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "crop_size": None,
    "image_mean": _HALF,
    "image_std": _HALF,
}

# The classes whose arithmetic `runtime/pixels.py` has, by the names they had in releases of transformers.
_PROCESSORS = {
    **dict.fromkeys(("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPFeatureExtractor"), _CLIP),
    **dict.fromkeys(("SiglipImageProcessor", "SiglipImageProcessorFast"), _SIGLIP),
}

# Of networks whose folder names no class.
_BY_NETWORK = {"clip": "CLIPImageProcessor", "siglip": "SiglipImageProcessor"}

# What says nothing of pixels, or what the reference does not look at.
_SILENT = frozenset(
    (
        *("image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "_valid_processor_keys"),
        *("return_tensors", "device", "disable_grouping", "input_data_format", "image_seq_length"),
    )
)

_REMEDY = "correct it in {file}, or leave the image tower out (--modalities text)"


@dataclass(frozen=True)
class ImageSide:
    """The image tower of a folder: how pictures reach it, or why it cannot be compiled.

    Attributes:
        processing: None where there are reasons.
        reasons: each with its remedy.
    """

    processing: ImageSpec | None
    reasons: tuple[str, ...] = ()


def image_side_of(folder: Folder, entry: ModuleEntry) -> ImageSide | None:
    """The image tower of a module; None of one without, and of networks that read images with texts.

    Raises:
        ModelFolderError: a file is malformed.
    """
    image = nested(entry.config, "modality_config", "image")
    if image.get("method") != IMAGE_METHOD:
        return None
    file, stored = _stored(folder, str(entry.config.get("tokenizer_name_or_path") or entry.path))
    if stored is None:
        return ImageSide(
            None,
            (f"it has no {_ALONE}, which says how its images are resized: add it, or pass --modalities text",),
        )
    remedy = _REMEDY.format(file=file)
    name = stored.get("image_processor_type") or stored.get("feature_extractor_type")
    if name is None:
        network = folder.json_object(join(entry.path, "config.json"), finite=False).get("model_type")
        name = _BY_NETWORK.get(str(network), f"that of a {network}")
    if not isinstance(name, str) or name not in _PROCESSORS:
        known = "CLIPImageProcessor and SiglipImageProcessor"
        return ImageSide(
            None,
            (f"its image processor, {name}, is not one of {known}: leave the image tower out (--modalities text)",),
        )
    settings = {**_PROCESSORS[name], **{key: value for key, value in stored.items() if value is not None}}
    reasons = [f"its image processor's {problem}: {remedy}" for problem in _problems(settings)]
    reasons += [
        f"processing_kwargs.image.{key} is not supported: remove it, or leave the image tower out (--modalities text)"
        for key in nested(entry.config, "processing_kwargs", "image")
    ]
    return ImageSide(None, tuple(reasons)) if reasons else ImageSide(_spec(settings))


def _stored(folder: Folder, path: str) -> tuple[str, Config | None]:
    """The name of the file that holds the processor, and what it says."""
    inner = folder.json_object(join(path, _NESTED)).get("image_processor")
    if isinstance(inner, dict):
        return _NESTED, inner
    alone = folder.json(join(path, _ALONE))
    return _ALONE, alone if isinstance(alone, dict) else None


def _problems(settings: Config) -> Iterator[str]:
    """What is wrong or not reproduced, as the end of a sentence."""
    for key in ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"):
        if not isinstance(settings[key], bool):
            yield f"{key} is {settings[key]!r}, not true or false"
            return
    if not settings["do_convert_rgb"]:
        yield "do_convert_rgb is false, where images that are not RGB fail"
    yield from _problems_of_size(settings)
    if settings["do_rescale"] and not is_number(settings["rescale_factor"]):
        yield f"rescale_factor is {settings['rescale_factor']!r}, not a number"
    for key in ("image_mean", "image_std") if settings["do_normalize"] else ():
        if _channels(settings[key]) is None:
            yield f"{key} is {settings[key]!r}, not {CHANNELS} numbers"
    if settings["do_normalize"] and 0 in (_channels(settings["image_std"]) or ()):
        yield "image_std divides by zero"
    for key, value in settings.items():
        if key not in _CLIP and key not in _SILENT and value not in (False, "channels_first"):
            yield f"{key} ({value!r}) is not supported"


def _problems_of_size(settings: Config) -> Iterator[str]:
    size, crop = settings["size"], settings["crop_size"]
    if settings["do_resize"] and _resized_to(size) is None:
        yield f"size is {size!r}, where stcompile knows shortest_edge, or height and width"
    # 2.0 is in a range, too.
    if settings["do_resize"] and not (is_id(settings["resample"]) and settings["resample"] < len(RESAMPLINGS)):
        yield f"resample is {settings['resample']!r}, where Pillow has 0 to {len(RESAMPLINGS) - 1}"
    if settings["do_center_crop"] and _cut(crop) is None:
        yield f"crop_size is {crop!r}, where stcompile knows height and width"
    if not settings["do_center_crop"] and (not settings["do_resize"] or "shortest_edge" in _sizes(size)):
        yield "do_center_crop is false, so that every image keeps a size of its own"


def _spec(settings: Config) -> ImageSpec:
    shortest, height, width = (_resized_to(settings["size"]) if settings["do_resize"] else None) or (None, None, None)
    crop = _cut(settings["crop_size"]) if settings["do_center_crop"] else None
    normalizes = settings["do_normalize"]
    high, wide = crop or (height, width)
    assert high is not None
    assert wide is not None
    return ImageSpec(
        height=high,
        width=wide,
        resample=RESAMPLINGS[settings["resample"]] if settings["do_resize"] else None,
        shortest_edge=shortest,
        resized_height=height,
        resized_width=width,
        crops=crop is not None,
        scale=float(settings["rescale_factor"]) if settings["do_rescale"] else None,
        mean=_channels(settings["image_mean"]) if normalizes else None,
        std=_channels(settings["image_std"]) if normalizes else None,
    )


def _sizes(value: Any) -> Mapping[str, Any]:
    """A size as transformers reads it: a number is the shorter side, of both classes."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return {"height": value[0], "width": value[1]}
    return value if isinstance(value, dict) else {"shortest_edge": value}


def _resized_to(value: Any) -> tuple[int | None, int | None, int | None] | None:
    """The shorter side, or height and width; None where it is something else."""
    sizes = _sizes(value)
    if not all(map(is_positive, sizes.values())):
        return None
    if sizes.keys() == {"shortest_edge"}:
        return sizes["shortest_edge"], None, None
    return (None, sizes["height"], sizes["width"]) if sizes.keys() == {"height", "width"} else None


def _cut(value: Any) -> tuple[int, int] | None:
    """Height and width of a cut, of which a single number is both."""
    sizes = {"height": value, "width": value} if isinstance(value, int) else _sizes(value)
    known = sizes.keys() == {"height", "width"} and all(map(is_positive, sizes.values()))
    return (sizes["height"], sizes["width"]) if known else None


def _channels(value: Any) -> tuple[float, ...] | None:
    numbers = [value] * CHANNELS if is_number(value) else value
    known = isinstance(numbers, (list, tuple)) and len(numbers) == CHANNELS and all(map(is_number, numbers))
    return tuple(map(float, numbers)) if known else None
