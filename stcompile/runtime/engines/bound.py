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


@dataclass(frozen=True)
class _Bound:
    """The memory of one shape: inputs that are written anew for each run, and where the outputs go."""

    inputs: dict[str, Any]
    binding: Any


class BoundRuns:
    """One run at a time on one device; safe to call from several threads.

    The inputs of a run are copied into memory that stays, the outputs stay on the device until they are copied back:
    no run allocates what an earlier one of the same shape had.

    Args:
        ort: onnxruntime.
        session: an open session.
        kind: `cuda` or `cpu`.
        index: which device of that kind.
    """

    def __init__(self, ort: Any, session: Any, kind: str, index: int) -> None:
        self._ort = ort
        self._session = session
        self._place = (kind, index)
        self._known: OrderedDict[tuple[Any, ...], _Bound] = OrderedDict()
        self._turn = Lock()

    def run(self, feeds: dict[str, NDArray[np.int64]], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Computes the named outputs, `(batch, dim)` or `(batch, sequence, hidden)` float32."""
        shape = (outputs, *((name, array.shape) for name, array in feeds.items()))
        with self._turn:
            bound = self._known.pop(shape, None)
            if bound is None:
                bound = self._bind(feeds, outputs)
            else:
                for name, array in feeds.items():
                    bound.inputs[name].update_inplace(np.asarray(array, order="C"))
            self._known[shape] = bound
            if len(self._known) > _SHAPES:
                self._known.popitem(last=False)
            self._session.run_with_iobinding(bound.binding)
            return [np.array(value) for value in bound.binding.copy_outputs_to_cpu()]

    def _bind(self, feeds: dict[str, NDArray[np.int64]], outputs: tuple[str, ...]) -> _Bound:
        binding = self._session.io_binding()
        inputs = {}
        for name, array in feeds.items():
            inputs[name] = self._ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), *self._place)
            binding.bind_ortvalue_input(name, inputs[name])
        for name in outputs:
            binding.bind_output(name, *self._place)
        return _Bound(inputs, binding)
