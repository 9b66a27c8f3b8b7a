"""What NNCF makes of optimum's float32 exports, for OpenVINO or for ONNX Runtime.

Options: `graph` in the source, whose suffix says which of the two; `method`, `weights` or `post-training`; `arguments`
of it, names of NNCF's enumerations as text; `needs_texts`, whether it is given any; `calibration`, which the run fills
in.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from .batches import feeds_of, unpadded_tokenizer

_ENUMERATIONS = {"mode": "CompressWeightsMode", "model_type": "ModelType", "preset": "QuantizationPreset"}


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """`model.onnx`, or `openvino_model.xml` with its weights in float32 where they are not compressed."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it would report every call
    import nncf

    path = Path(source) / options["graph"]
    is_onnx = path.suffix == ".onnx"
    graph, inputs = _onnx(path) if is_onnx else _openvino(path)
    arguments = {
        name: getattr(getattr(nncf, _ENUMERATIONS[name]), value) if name in _ENUMERATIONS else value
        for name, value in options["arguments"].items()
    }
    if options["needs_texts"]:
        items = _items(source, inputs, options)
        arguments |= {"subset_size": len(items)}
        dataset = [nncf.Dataset(items)]
    else:
        dataset = []
    if options["method"] == "weights":
        if dataset:
            arguments["dataset"] = dataset[0]
        made = nncf.compress_weights(graph, **arguments)
    else:
        made = nncf.quantize(graph, dataset[0], **arguments)
    folder = Path(destination)
    folder.mkdir(parents=True)
    shutil.copy(Path(source) / "tokenizer.json", folder)
    if is_onnx:
        import onnx

        onnx.save(made, folder / "model.onnx")
    else:
        import openvino

        openvino.save_model(made, folder / "openvino_model.xml", compress_to_fp16=False)


def _onnx(path: Path) -> tuple[Any, list[str]]:
    import onnx

    graph = onnx.load(path)
    return graph, [taken.name for taken in graph.graph.input]


def _openvino(path: Path) -> tuple[Any, list[str]]:
    import openvino

    graph = openvino.Core().read_model(path)
    return graph, [taken.get_any_name() for taken in graph.inputs]


def _items(source: str, inputs: list[str], options: dict[str, Any]) -> list[dict[str, Any]]:
    """One text each: of a batch NNCF would take the range of its loudest."""
    tokenizer = unpadded_tokenizer(source, options["max_seq_length"])
    feeds = (feeds_of([encoding.ids]) for encoding in tokenizer.encode_batch_fast(options["calibration"]))
    return [{name: given[name] for name in inputs} for given in feeds]
