"""How many token positions one run of a graph should have."""

from __future__ import annotations

import onnx_ir as ir

from stcompile.compiler.passes.graph import constant, is_op, operand

# The widest activation of a run takes at most this much of the cache. Measured with 8-bit graphs on one thread of a
# Zen-3 core: width 1,536 is fastest with 256 to 512 positions, width 3,072 with 128 to 256 (1.06 times 512, 1.3 times
# 1,024). A rule, and no timing at export: one model stays one file.
_ACTIVATION_BYTES = 3 << 20
_LAID_BEHIND = "offsets"  # the input of graphs whose texts lie behind each other
_STEP, _LEAST, _MOST = 64, 128, 512


def token_budget(graph: ir.Model) -> int | None:
    """Positions of a run, padding included; None where there is no matrix to multiply, or no padding.

    Args:
        graph: in float32, after the passes and before its precision changes.

    Returns:
        a multiple of 64 from 128 to 512.
    """
    widths = [
        int(weight.shape[1])
        for node in graph.graph
        if is_op(node, "MatMul") and (weight := constant(operand(node, 1))) is not None and weight.ndim == 2
    ]
    if not widths or _LAID_BEHIND in [value.name for value in graph.graph.inputs]:
        return None
    fitting = _ACTIVATION_BYTES // (4 * max(widths))
    return min(max(fitting // _STEP * _STEP, _LEAST), _MOST)
