"""Graphs written by hand: ONNX Runtime runs them, and the package `onnx` reads them as they were meant."""

from __future__ import annotations

import numpy as np
import pytest

from kws.model.onnx_graph import OPSET, Graph
from kws.model.onnx_session import open_session


def product_graph() -> tuple[Graph, str]:
    graph = Graph({"rows": [None, 300]})
    weight = np.arange(600, dtype=np.float32).reshape(2, 300)
    return graph, graph.add("Gemm", "rows", weight, np.ones(2, np.float32), transB=1, alpha=0.5)


def test_a_session_computes_what_the_nodes_say():
    graph, product = product_graph()
    low, high = graph.add_many("Split", 2, product, axis=-1)
    session = open_session(graph.to_bytes(high, low), graph.weights)
    rows = np.random.default_rng(0).normal(0, 1, (3, 300)).astype(np.float32)
    expected = 0.5 * rows @ np.arange(600).reshape(2, 300).T + 1
    found = session.run(None, {"rows": rows})
    np.testing.assert_allclose(np.concatenate(found[::-1], axis=1), expected, rtol=1e-4)


def test_onnx_reads_shapes_negative_numbers_and_attributes():
    onnx = pytest.importorskip("onnx")
    graph, product = product_graph()
    content = graph.to_bytes(graph.add("Reshape", product, [-1, 2**40]))
    model = onnx.load_model_from_string(content)
    gemm, reshape = model.graph.node
    assert {one.name: onnx.helper.get_attribute_value(one) for one in gemm.attribute} == {"transB": 1, "alpha": 0.5}
    assert (model.opset_import[0].domain, model.opset_import[0].version) == ("", OPSET)
    weight, _, sizes = model.graph.initializer
    assert (list(weight.dims), weight.data_type, weight.data_location) == ([2, 300], onnx.TensorProto.FLOAT, 1)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(sizes), [-1, 2**40])
    assert list(reshape.input) == [gemm.output[0], sizes.name]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [(dim.WhichOneof("value"), dim.dim_value) for dim in dims] == [(None, 0), ("dim_value", 300)]


def test_each_weight_is_kept_for_the_session_under_its_name():
    graph, _ = product_graph()
    assert sorted(array.shape for array in graph.weights.values()) == [(2,), (2, 300)]
