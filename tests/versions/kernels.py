"""Prints which operators the installed onnxruntime has CPU kernels for, and in which versions of the operator.

    python -m tests.versions.kernels > tests/versions/kernels.json    # where onnxruntime is the oldest declared

A kernel that names other types than its operator is never found, and so does not count: QuantizeLinear of opset 23 in
onnxruntime 1.23 (https://github.com/microsoft/onnxruntime/pull/25932).
"""

from __future__ import annotations

import json
from collections import defaultdict

from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema, get_all_opkernel_def


def usable_kernels() -> dict[str, list[list[int]]]:
    """`domain::operator` to the first and last version of each usable kernel."""
    types = {
        (schema.domain, schema.name, schema.since_version): {
            item.type_param_str: set(item.allowed_type_strs) for item in schema.type_constraints
        }
        for schema in get_all_operator_schema()
    }
    found: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for kernel in get_all_opkernel_def():
        first, last = kernel.version_range
        known = types.get((kernel.domain, kernel.op_name, first), {})
        # Constraints may also be named after an input, which has any type the operator's own constraint has.
        if all(known[name] & set(taken) for name, taken in kernel.type_constraints.items() if name in known):
            found[f"{kernel.domain}::{kernel.op_name}"].add((first, last))
    return {name: sorted(map(list, found[name])) for name in sorted(found)}


if __name__ == "__main__":
    lines = (f"  {json.dumps(name)}: {json.dumps(versions)}" for name, versions in usable_kernels().items())
    print("{\n" + ",\n".join(lines) + "\n}")  # noqa: T201
