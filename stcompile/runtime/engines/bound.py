"""Runs of an ONNX Runtime session on memory of its own on the device, set up once for each shape."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Shapes whose memory is kept. Lengths are padded to multiples of 8, so texts of up to 512 tokens have 64 lengths.
_SHAPES = 64

# The run that no CUDA graph is captured of.
_UNCAPTURED = -1

# Positions of a captured run: above, kernels take longer than their launches, and a graph of them saves nothing.
_MOST_POSITIONS = 4096


@dataclass(frozen=True)
class _Bound:
    """The memory of one shape: inputs that are written anew for each run, where the outputs go, and its graph's id."""

    inputs: dict[str, Any]
    binding: Any
    graph: int


class BoundRuns:
    """One run at a time on one device; safe to call from several threads.

    The inputs of a run are copied into memory that stays for the next one of its shape. Outputs are let go of once they
    are copied back, but for those of a captured CUDA graph, which writes to the same place every time.

    Args:
        ort: onnxruntime.
        session: an open session.
        kind: `cuda` or `cpu`.
        index: which device of that kind.
        graphs: capture the runs of each shape as a CUDA graph, from the second run on; the session must have been
            opened for it.
    """

    def __init__(self, ort: Any, session: Any, kind: str, index: int, *, graphs: bool = False) -> None:
        self._ort = ort
        self._session = session
        self._place = (kind, index)
        self._graphs = graphs
        self._bound = 0
        self._captured: set[int] = set()
        self._known: OrderedDict[tuple[Any, ...], _Bound] = OrderedDict()
        self._turn = Lock()

    def run(self, feeds: dict[str, NDArray[np.int64]], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Computes the named outputs, `(batch, dim)` or `(batch, sequence, hidden)` float32."""
        with self._turn:
            captured = bucketed(feeds) if self._graphs else None
            arrays = feeds if captured is None else captured
            shape = (outputs, *((name, array.shape) for name, array in arrays.items()))
            bound = self._known.pop(shape, None)
            graph = _UNCAPTURED if bound is None or captured is None else bound.graph
            if bound is None:
                bound = self._bind(arrays, outputs)
            else:
                for name, array in arrays.items():
                    bound.inputs[name].update_inplace(np.asarray(array, order="C"))
            self._known[shape] = bound
            self._forget()
            self._session.run_with_iobinding(bound.binding, self._run_options(graph))
            found = [np.array(value) for value in bound.binding.copy_outputs_to_cpu()]
            if captured is None:
                # It has been copied: kept for 64 shapes, token embeddings would be gigabytes.
                bound.binding.clear_binding_outputs()
                self._bind_outputs(bound.binding, outputs)
                return found
            if graph == _UNCAPTURED:
                self._keep_outputs(bound, outputs, found)
            else:
                self._captured.add(graph)
            texts = len(feeds["attention_mask"])
            return [value[:texts].copy() for value in found]

    def _run_options(self, graph: int) -> Any:
        if not self._graphs:
            return None
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return options

    def _keep_outputs(self, bound: _Bound, outputs: tuple[str, ...], found: list[NDArray[np.float32]]) -> None:
        """Where the outputs go from now on."""
        for name, value in zip(outputs, found, strict=True):
            held = self._ort.OrtValue.ortvalue_from_shape_and_type(list(value.shape), np.float32, *self._place)
            bound.binding.bind_ortvalue_output(name, held)

    def _forget(self) -> None:
        if len(self._known) > _SHAPES:
            _, oldest = self._known.popitem(last=False)
            if oldest.graph in self._captured:
                self._captured.remove(oldest.graph)
                self._session.release_captured_graph(oldest.graph)

    def _bind(self, feeds: dict[str, NDArray[np.int64]], outputs: tuple[str, ...]) -> _Bound:
        binding = self._session.io_binding()
        inputs = {}
        for name, array in feeds.items():
            inputs[name] = self._ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), *self._place)
            binding.bind_ortvalue_input(name, inputs[name])
        self._bind_outputs(binding, outputs)
        self._bound += 1
        return _Bound(inputs, binding, self._bound)

    def _bind_outputs(self, binding: Any, outputs: tuple[str, ...]) -> None:
        """Lets the outputs be made on the device, wherever there is room."""
        for name in outputs:
            binding.bind_output(name, *self._place)


def bucketed(feeds: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]] | None:
    """The same texts, the last one repeated up to the next power of two; None where a captured graph would not pay.

    Args:
        feeds: arrays `(batch, sequence)`, and scalars, which stay. Texts behind each other have too many shapes.
    """
    mask = feeds.get("attention_mask")
    if mask is None or not mask.size:
        return None
    count = 1 << (len(mask) - 1).bit_length()
    if count * mask.shape[1] > _MOST_POSITIONS:
        return None
    return {
        name: array if array.ndim == 0 else np.concatenate([array, array[-1:].repeat(count - len(array), axis=0)])
        for name, array in feeds.items()
    }
