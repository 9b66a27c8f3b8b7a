"""What is recorded of a graph: an even sample of the rows that layers read, and the graph as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from stcompile.compiler.quantize.calibration import Batch
from stcompile.compiler.quantize.layers import find_layers
from stcompile.compiler.quantize.recording import Recording, record
from stcompile.compiler.trace.running import opened
from stcompile.errors import ArtifactError
from tests.compiler.quantize.graphs import NORM_BIAS, NORM_WEIGHT, OTHER_WEIGHT, OUT, WIDTH, parsed, states

Array = npt.NDArray[np.float32]

TABLE = np.random.default_rng(21).standard_normal((300, WIDTH)).astype(np.float32)

SQUARE = np.random.default_rng(22).standard_normal((WIDTH, WIDTH)).astype(np.float32)

# A float32 LayerNormalization, and a sum, in another order.
ROUNDING = 5e-6


def graph() -> ir.Model:
    """ids -> Gather -> LayerNormalization -> MatMul -> Relu -> Add -> MatMul."""
    return parsed(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (int64[batch, sequence] input_ids) => (float[batch, sequence, {OUT + 2}] sentence_embedding) {{
            rows = Gather<axis = 0>(table, input_ids)
            data = LayerNormalization<axis = -1, epsilon = 0.000001>(rows, norm_weight, norm_bias)
            product = MatMul(data, square)
            positive = Relu(product)
            sum = Add(positive, rows)
            sentence_embedding = MatMul(sum, other_weight)
        }}
        """,
        table=TABLE,
        square=SQUARE,
    )


def batch(rows: list[list[int]], first: int) -> Batch:
    return Batch({"input_ids": np.array(rows, dtype=np.int64)}, tuple(range(first, first + len(rows))))


def batches() -> list[Batch]:
    """Two texts of five tokens, one of nine hundred, and one of one."""
    rng = np.random.default_rng(23)
    return [
        batch(rng.integers(0, 300, (2, 5)).tolist(), 0),
        batch(rng.integers(0, 300, (1, 900)).tolist(), 2),
        batch([[7]], 3),
    ]


def in_numpy(ids: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """What the two layers read."""
    rows = TABLE[ids].astype(np.float64)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    data = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-6) * NORM_WEIGHT + NORM_BIAS
    return data.reshape(-1, WIDTH), (np.maximum(data @ SQUARE, 0) + rows).reshape(-1, WIDTH)


def recorded(model: ir.Model, chosen: list[Batch], folder: Path) -> list[Recording]:
    return record(model, [layer.data for layer in find_layers(model.graph)], chosen, folder)


def test_what_is_recorded_is_what_the_layers_read(tmp_path: Path) -> None:
    chosen = batches()[::3]
    for index, found in enumerate(recorded(graph(), chosen, tmp_path)):
        expected = np.concatenate([in_numpy(item.feeds["input_ids"])[index] for item in chosen])
        np.testing.assert_allclose(found.rows, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())
        assert found.rows.dtype == np.float32
        assert np.array_equal(found.low, found.rows.min(axis=0))
        assert np.array_equal(found.high, found.rows.max(axis=0))


def test_the_smallest_and_largest_are_those_of_all_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also of rows that the sample does not hold."""
    from stcompile.compiler.quantize import recording

    monkeypatch.setattr(recording, "_ROWS", 40)
    chosen = batches()
    for index, found in enumerate(recorded(graph(), chosen, tmp_path)):
        expected = np.concatenate([in_numpy(item.feeds["input_ids"])[index] for item in chosen])
        allowed = ROUNDING * np.abs(expected).max()
        assert len(found.rows) <= 41
        np.testing.assert_allclose(found.low, expected.min(axis=0), rtol=0, atol=allowed)
        np.testing.assert_allclose(found.high, expected.max(axis=0), rtol=0, atol=allowed)
        assert (found.low < found.rows.min(axis=0)).any()


def test_the_sample_has_as_many_rows_of_each_text_as_of_every_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A long text would drown the short ones."""
    from stcompile.compiler.quantize import recording

    monkeypatch.setattr(recording, "_ROWS", 40)
    long, short = batch([list(range(200))], 0), [batch([[200 + text] * 10], 1 + text) for text in range(3)]
    found = recorded(graph(), [long, *short], tmp_path)[0].rows
    expected = in_numpy(np.arange(300)[np.newaxis])[0]
    token = [int(np.abs(expected - row).sum(axis=1).argmin()) for row in found]
    assert len(token) == 40
    assert [sum(200 + text == item for item in token) for text in range(3)] == [10, 10, 10]
    of_long = [item for item in token if item < 200]
    assert (len(of_long), of_long[0], of_long[-1]) == (10, 0, 199)
    assert np.diff(of_long).max() <= 23, "evenly spread"


def test_the_graph_is_left_as_it_was(tmp_path: Path) -> None:
    model = graph()
    before, proto = states(model), ir.to_proto(model).graph.SerializeToString()
    recorded(model, batches(), tmp_path)
    assert states(model) == before
    assert ir.to_proto(model).graph.SerializeToString() == proto


def test_a_graph_whose_values_have_no_type_is_left_as_it_was(tmp_path: Path) -> None:
    """Some passes leave them out."""
    model = graph()
    for node in model.graph:
        if node.op_type == "LayerNormalization":
            node.outputs[0].type = None
    before = states(model)
    recorded(model, batches(), tmp_path)
    assert states(model) == before


def test_a_graph_that_fails_is_left_as_it_was(tmp_path: Path) -> None:
    model = graph()
    next(node for node in model.graph if node.op_type == "Relu").op_type = "NoSuchOperator"
    before = states(model)
    with pytest.raises(ArtifactError, match="cannot load"):
        recorded(model, batches(), tmp_path)
    assert states(model) == before


def test_an_output_may_be_what_a_layer_reads(tmp_path: Path) -> None:
    model = graph()
    layer = find_layers(model.graph)[1]
    model.graph.outputs.append(layer.data)
    before = states(model)
    found = recorded(model, batches(), tmp_path)
    assert found[1].rows.shape[1] == WIDTH
    assert states(model) == before


def test_the_graph_runs_as_it_is() -> None:
    ids = batches()[0].feeds["input_ids"]
    with opened(graph()) as engine:
        (found,) = engine.run({"input_ids": ids}, ("sentence_embedding",))
    expected = (in_numpy(ids)[1] @ OTHER_WEIGHT).reshape(*ids.shape, OUT + 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())
