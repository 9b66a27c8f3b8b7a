"""What onnxruntime.quantization makes of optimum's float32 export, opened as any graph of ONNX Runtime.

Options: `method`, one of `METHODS`; `arguments` of it, types as text; `calibration`, which the run fills in.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .batches import feeds_of, unpadded_tokenizer
from .onnx_graph import load

__all__ = ["load", "prepare"]

_GRAPH = "onnx/model.onnx"


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """`model.onnx`."""
    folder = Path(destination)
    folder.mkdir(parents=True)
    shutil.copy(Path(source) / "tokenizer.json", folder)
    METHODS[options["method"]](source, str(folder / "model.onnx"), options)


def _dynamic(source: str, file: str, options: dict[str, Any]) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(Path(source) / _GRAPH), file, **_typed(options["arguments"]))


def _static(source: str, file: str, options: dict[str, Any]) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    graph = Path(source) / _GRAPH
    inputs = [taken.name for taken in onnx.load(graph).graph.input]

    class Reader(CalibrationDataReader):  # type: ignore[misc] # what it is, is there in that environment alone
        def __init__(self) -> None:
            self._feeds = _feeds(source, inputs, options)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    quantize_static(str(graph), file, Reader(), **_typed(options["arguments"]))


def _weights(source: str, file: str, options: dict[str, Any]) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    _save(MatMulNBitsQuantizer(str(Path(source) / _GRAPH), **options["arguments"]), file)


def _hqq(source: str, file: str, options: dict[str, Any]) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import HQQWeightOnlyQuantConfig, MatMulNBitsQuantizer

    config = HQQWeightOnlyQuantConfig(**options["arguments"])
    _save(MatMulNBitsQuantizer(str(Path(source) / _GRAPH), algo_config=config), file)


def _save(quantizer: Any, file: str) -> None:
    quantizer.process()
    quantizer.model.save_model_to_file(file)


def _typed(arguments: dict[str, Any]) -> dict[str, Any]:
    from onnxruntime.quantization import QuantType

    return {name: QuantType[value] if name.endswith("_type") else value for name, value in arguments.items()}


def _feeds(source: str, inputs: list[str], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One text each, so that nothing is padded."""
    tokenizer = unpadded_tokenizer(source, options["max_seq_length"])
    for encoding in tokenizer.encode_batch_fast(options["calibration"]):
        given = feeds_of([encoding.ids])
        yield {name: given[name] for name in inputs}


METHODS: dict[str, Callable[[str, str, dict[str, Any]], None]] = {
    "dynamic": _dynamic,
    "static": _static,
    "weights": _weights,
    "hqq": _hqq,
}
