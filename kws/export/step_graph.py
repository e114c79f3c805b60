"""One step of a streaming encoder as an ONNX graph without weights.

The graph's initialisers have the parameters' names and point outside the file; `OnnxEncoder` hands them in when it
loads, so that weights exist once on disk. What can be worked out from weights alone (the weight norm of the positional
convolution, queries, keys and values as one matrix) is in the graph, and ONNX Runtime folds it at load time.

Frames are rows of 2-D matrices throughout, and a convolution is one matrix product of its unfolded input, which spares
the transpositions around the layer norms: 205 nodes after folding, and 7 % less time than the graph that torch traces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from kws.errors import require
from kws.model.encoder_folder import POSITION_DIRECTION, POSITION_MAGNITUDE, WEIGHTS_FILE, StreamingConfig
from kws.model.onnx_encoder import CONFIG_KEY

OPSET = 20
"""First one with Gelu."""
IR_VERSION = 10
"""What onnxruntime 1.20, the oldest supported, reads."""
CONTRIBUTED = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
CONVOLUTION_EPSILON = 1e-5
"""Of the layer norms among the convolutions: transformers leaves `layer_norm_eps` out there."""
_FLOAT = 1  # TensorProto.FLOAT


def step_graph(graph: StepGraph) -> bytes:
    """Returns the ONNX model of one step of an encoder; `graph`, still empty, says how its linear layers compute.

    Inputs are `samples` (hop * num_frames + overlap,), `position` (kernel - 1, dim) and per layer `past_i`
    (num_past, 2 * dim), keys beside values; outputs are `frames` (num_frames, dim), `next_position` and `next_past_i`.
    """
    config = graph.config
    dim, left = config.hidden_size, config.left_context_frames
    kernel = config.num_conv_pos_embeddings
    hidden = graph.op("Reshape", graph.input("samples", "num_samples"), graph.constant([-1, 1]))
    hidden = _convolutions(graph, hidden)
    hidden = graph.linear(_norm(graph, "feature_projection.layer_norm", hidden), "feature_projection.projection")
    joined = graph.op("Concat", graph.input("position", kernel - 1, dim), hidden, axis=0)
    graph.output("next_position", graph.rows(joined, 1 - kernel, None), kernel - 1, dim)
    hidden = graph.op("Add", hidden, _position(graph, joined))
    pasts = [graph.input(f"past_{index}", "num_past", 2 * dim) for index in range(config.num_hidden_layers)]
    mask = _block_mask(graph, hidden, pasts[0])
    for index, past in enumerate(pasts):
        hidden, joined = _layer(graph, f"encoder.layers.{index}", hidden, past, mask)
        graph.output(f"next_past_{index}", graph.rows(joined, -left, None), "next_num_past", 2 * dim)
    graph.output("frames", _norm(graph, "encoder.layer_norm", hidden), "num_frames", dim)
    return graph.model()


class StepGraph:
    """Nodes in the order they are made; the methods that make some return the name of a value.

    Args:
        config: of the encoder.
    """

    def __init__(self, config: StreamingConfig) -> None:
        onnx = require("onnx", extra="train")
        self.config = config
        self._helper, self._tensor = onnx.helper, onnx.TensorProto
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._initializers: list[Any] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, num_outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        outputs = [f"{kind}_{len(self._nodes)}_{index}" for index in range(num_outputs)]
        self._nodes.append(self._helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        array = np.asarray(value, dtype)
        kind = self._helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = self._helper.make_tensor(f"constant_{len(self._initializers)}", kind, array.shape, array.ravel())
        self._initializers.append(tensor)
        return tensor.name

    def rows(self, value: str, start: int, end: int | None, step: int = 1) -> str:
        bounds = ([start], [np.iinfo(np.int64).max if end is None else end], [0], [step])
        return self.op("Slice", value, *map(self.constant, bounds))

    def heads(self, value: str, *shape: int, order: tuple[int, ...]) -> str:
        return self.op("Transpose", self.op("Reshape", value, self.constant([-1, *shape])), perm=order)

    def input(self, name: str, *shape: int | str) -> str:
        self._inputs.append(self._helper.make_tensor_value_info(name, _FLOAT, shape))
        return name

    def output(self, name: str, value: str, *shape: int | str) -> None:
        self._nodes.append(self._helper.make_node("Identity", [value], [name]))
        self._outputs.append(self._helper.make_tensor_value_info(name, _FLOAT, shape))

    def linear(self, rows: str, *names: str, scale: float = 1.0) -> str:
        """Returns `rows` through the linear layers `names`, side by side, the first one's result times `scale`."""
        weight, bias = (self.side_by_side(names, part, scale) for part in ("weight", "bias"))
        return self.op("Gemm", rows, weight, bias, transB=1)

    def side_by_side(self, names: Sequence[str], part: str, scale: float = 1.0, axis: int = 0) -> str:
        """Returns the weights `part` of the layers `names` as one, the first times `scale`; folded at load time."""
        values = [f"{name}.{part}" for name in names]
        if scale != 1:
            values[0] = self.op("Mul", values[0], self.constant(scale, np.float32))
        return self.op("Concat", *values, axis=axis) if len(values) > 1 else values[0]

    def metadata(self) -> dict[str, str]:
        """Returns what `OnnxEncoder` checks the graph by."""
        return {CONFIG_KEY: json.dumps(asdict(self.config))}

    def weights(self) -> Mapping[str, tuple[tuple[int, ...], type]]:
        """Returns shape and dtype of what `OnnxEncoder` hands in."""
        return {name: (shape, np.float32) for name, shape in self.config.weight_shapes().items()}

    def model(self) -> bytes:
        """Returns the finished model."""
        for name, (shape, dtype) in self.weights().items():
            kind = self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            tensor = self._tensor(name=name, dims=shape, data_type=kind, data_location=self._tensor.EXTERNAL)
            tensor.external_data.add(key="location", value=WEIGHTS_FILE)
            self._initializers.append(tensor)
        graph = self._helper.make_graph(self._nodes, "step", self._inputs, self._outputs, self._initializers)
        domains = [self._helper.make_opsetid("", OPSET), self._helper.make_opsetid(CONTRIBUTED, 1)]
        model = self._helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
        self._helper.set_model_props(model, self.metadata())
        return model.SerializeToString()


def _norm(graph: StepGraph, name: str, rows: str, epsilon: float | None = None) -> str:
    epsilon = graph.config.layer_norm_eps if epsilon is None else epsilon
    return graph.op("LayerNormalization", rows, f"{name}.weight", f"{name}.bias", axis=-1, epsilon=epsilon)


def _convolutions(graph: StepGraph, rows: str) -> str:
    config = graph.config
    dims = (1, *config.conv_dim)
    for index, (kernel, stride) in enumerate(zip(config.conv_kernel, config.conv_stride)):
        name, (inputs, outputs) = f"feature_extractor.conv_layers.{index}", dims[index : index + 2]
        taps = _unfold(graph, rows, inputs, kernel, stride)  # (num_outputs, kernel * inputs)
        weight = graph.op("Transpose", f"{name}.conv.weight", perm=(0, 2, 1))
        weight = graph.op("Reshape", weight, graph.constant([outputs, kernel * inputs]))
        products = graph.op("Gemm", taps, weight, transB=1)
        rows = graph.op("Gelu", _norm(graph, f"{name}.layer_norm", products, CONVOLUTION_EPSILON))
    return rows


def _unfold(graph: StepGraph, rows: str, width: int, kernel: int, stride: int) -> str:
    """Returns the rows that each output of a convolution sees, side by side; the last one ends with the input."""
    whole, parts = kernel // stride, []
    for group in range(whole):  # `stride` neighbouring taps are neighbours in memory: a view, not a gather
        end = (group + 1) * stride - kernel
        part = rows if whole * stride == kernel == stride else graph.rows(rows, group * stride, end or None)
        parts.append(graph.op("Reshape", part, graph.constant([-1, stride * width])))
    for tap in range(whole * stride, kernel):
        parts.append(graph.rows(rows, tap, (tap + 1 - kernel) or None, stride))
    return parts[0] if len(parts) == 1 else graph.op("Concat", *parts, axis=1)


def _position(graph: StepGraph, joined: str) -> str:
    config = graph.config
    norm = graph.op("ReduceL2", POSITION_DIRECTION, graph.constant([0, 1]), keepdims=1)
    weight = graph.op("Mul", POSITION_DIRECTION, graph.op("Div", POSITION_MAGNITUDE, norm))
    columns = graph.op("Unsqueeze", graph.op("Transpose", joined, perm=(1, 0)), graph.constant([0]))
    bias = POSITION_MAGNITUDE.replace("parametrizations.weight.original0", "bias")
    position = graph.op("Conv", columns, weight, bias, group=config.num_conv_pos_embedding_groups)
    position = graph.op("Transpose", graph.op("Squeeze", position, graph.constant([0])), perm=(1, 0))
    return graph.op("Gelu", position)


def _block_mask(graph: StepGraph, hidden: str, past: str) -> str:
    """Returns (num_frames, num_past + num_frames): 0 where a frame may look, minus infinity elsewhere."""
    config = graph.config
    zero, one, block = graph.constant(0), graph.constant(1), graph.constant(config.block_frames)
    num_frames, num_past = (
        graph.op("Squeeze", graph.op("Shape", value, start=0, end=1), graph.constant([0])) for value in (hidden, past)
    )
    frames = graph.op("Unsqueeze", graph.op("Range", zero, num_frames, one), graph.constant([1]))
    start = graph.op("Mul", graph.op("Div", frames, block), block)
    seen = graph.op("Range", graph.op("Neg", num_past), num_frames, one)
    from_left = graph.op("GreaterOrEqual", seen, graph.op("Sub", start, graph.constant(config.left_context_frames)))
    to_end = graph.op("Less", seen, graph.op("Add", start, block))
    is_seen = graph.op("And", from_left, to_end)
    return graph.op("Where", is_seen, graph.constant(0.0, np.float32), graph.constant(-np.inf, np.float32))


def _layer(graph: StepGraph, name: str, hidden: str, past: str, mask: str) -> tuple[str, str]:
    normed = _norm(graph, f"{name}.layer_norm", hidden)
    context, joined = _attention(graph, f"{name}.attention", normed, past, mask)
    hidden = graph.op("Add", hidden, context)
    normed = _norm(graph, f"{name}.final_layer_norm", hidden)
    wide = graph.linear(normed, f"{name}.feed_forward.intermediate_dense")
    narrow = graph.linear(graph.op("Gelu", wide), f"{name}.feed_forward.output_dense")
    return graph.op("Add", hidden, narrow), joined


def _attention(graph: StepGraph, name: str, rows: str, past: str, mask: str) -> tuple[str, str]:
    config = graph.config
    dim, shape = config.hidden_size, (config.num_attention_heads, config.head_dim)
    projections = [f"{name}.{projection}" for projection in ("q_proj", "k_proj", "v_proj")]
    projected = graph.linear(rows, *projections, scale=config.head_dim**-0.5)  # (num_frames, 3 * dim)
    query, new = graph.ops("Split", 2, projected, graph.constant([dim, 2 * dim]), axis=1)
    joined = graph.op("Concat", past, new, axis=0)  # (num_past + num_frames, 2 * dim)
    key, value = graph.ops("Split", 2, joined, graph.constant([dim, dim]), axis=1)
    query = graph.heads(query, *shape, order=(1, 0, 2))  # (heads, num_frames, head_dim)
    scores = graph.op("MatMul", query, graph.heads(key, *shape, order=(1, 2, 0)))
    weights = graph.op("Softmax", graph.op("Add", scores, mask), axis=-1)
    context = graph.op("MatMul", weights, graph.heads(value, *shape, order=(1, 0, 2)))
    context = graph.op("Reshape", graph.op("Transpose", context, perm=(1, 0, 2)), graph.constant([-1, dim]))
    return graph.linear(context, f"{name}.out_proj"), joined
