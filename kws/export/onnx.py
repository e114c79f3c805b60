"""The step of a streaming encoder as an ONNX graph without weights: folder ─▶ step.onnx beside its model.safetensors.

The graph's initialisers have the parameters' names and point outside the file; `OnnxEncoder` hands them in when it
loads, so that weights exist once on disk. What can be worked out from weights alone (the weight norm of the positional
convolution, queries, keys and values as one matrix) is in the graph, and ONNX Runtime folds it at load time.

Frames are rows of 2-D matrices throughout, and a convolution is one matrix product of its unfolded input, which spares
the transpositions around the layer norms: 205 nodes after folding, and 7 % less time than the graph that torch traces.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import EncoderError, require
from kws.frames import SAMPLE_RATE
from kws.model.encoder_folder import (
    CONFIG_FILE,
    GRAPH_FILE,
    POSITION_DIRECTION,
    POSITION_MAGNITUDE,
    WEIGHTS_FILE,
    StreamingConfig,
    find_encoder_folder,
    read_streaming_config,
)
from kws.model.files import write_atomically
from kws.model.onnx_encoder import CONFIG_KEY, OnnxEncoder

OPSET = 20
"""First one with Gelu."""
IR_VERSION = 10
"""What onnxruntime 1.20, the oldest supported, reads."""
MAX_ERROR = 1e-4
"""Largest difference allowed between frames of the graph and of torch; about 1e-5 is float32 rounding."""
_FLOAT = 1  # TensorProto.FLOAT

CHECK_S = 3.0
CHECK_CHUNK = 1111
"""Samples a chunk of the check: no multiple of anything."""


def export_encoder(folder: Path | str) -> Path:
    """Writes `step.onnx` into the streaming encoder's `folder` (or shipped name), and returns its path.

    Raises:
        EncoderError: no streaming encoder there, or the graph's frames differ from torch's; nothing was written.
        DependencyError: `onnx` or `torch` is missing.
    """
    found = find_encoder_folder(str(folder))
    config = read_streaming_config(found) if found else None
    if found is None or config is None:
        raise EncoderError(f"{folder} holds no streaming encoder ({CONFIG_FILE} with a 'streaming' section)")
    graph = step_graph(config)
    error = parity_error(found, graph)
    if not error <= MAX_ERROR:
        raise EncoderError(f"the exported graph of {found} differs from torch by {error:.1e}, allowed {MAX_ERROR:.0e}")
    write_atomically(found / GRAPH_FILE, graph)
    return found / GRAPH_FILE


def parity_error(folder: Path, graph: bytes | None = None) -> float:
    """Returns the largest difference between the graph's stream in odd chunks and torch's pass over the whole.

    Args:
        folder: a streaming encoder's.
        graph: the graph to check, instead of the one in `folder`.
    """
    torch = require("torch", extra="train")
    from kws.model.pretrained import load_encoder

    waveform = np.random.default_rng(0).normal(0, 0.1, round(CHECK_S * SAMPLE_RATE)).astype(np.float32)
    stream = OnnxEncoder(folder, graph=graph).stream()
    chunks = [waveform[start : start + CHECK_CHUNK] for start in range(0, len(waveform), CHECK_CHUNK)]
    frames = np.concatenate([*(stream.feed(chunk) for chunk in chunks), stream.flush()])
    with torch.inference_mode():
        expected = load_encoder(folder)(torch.from_numpy(waveform)[None])[0].numpy()
    return float(np.abs(frames - expected).max()) if frames.shape == expected.shape else float("inf")


def step_graph(config: StreamingConfig) -> bytes:
    """Returns the ONNX model of one step of the encoder that `config` describes.

    Inputs are `samples` (hop * num_frames + overlap,), `position` (kernel - 1, dim) and per layer `past_i`
    (num_past, 2 * dim), keys beside values; outputs are `frames` (num_frames, dim), `next_position` and `next_past_i`.
    """
    onnx = require("onnx", extra="train")
    graph = _Graph(onnx)
    dim, left = config.hidden_size, config.left_context_frames
    kernel = config.num_conv_pos_embeddings
    hidden = graph.op("Reshape", graph.input("samples", "num_samples"), graph.constant([-1, 1]))
    hidden = _convolutions(graph, config, hidden)
    hidden = _linear(
        graph, "feature_projection.projection", _norm(graph, "feature_projection.layer_norm", hidden, config)
    )
    joined = graph.op("Concat", graph.input("position", kernel - 1, dim), hidden, axis=0)
    graph.output("next_position", graph.rows(joined, 1 - kernel, None), kernel - 1, dim)
    hidden = graph.op("Add", hidden, _position(graph, config, joined))
    pasts = [graph.input(f"past_{index}", "num_past", 2 * dim) for index in range(config.num_hidden_layers)]
    mask = _block_mask(graph, config, hidden, pasts[0])
    for index, past in enumerate(pasts):
        hidden, joined = _layer(graph, config, f"encoder.layers.{index}", hidden, past, mask)
        graph.output(f"next_past_{index}", graph.rows(joined, -left, None), "next_num_past", 2 * dim)
    graph.output("frames", _norm(graph, "encoder.layer_norm", hidden, config), "num_frames", dim)
    graph.add_weights(config.weight_shapes())
    model = onnx.helper.make_model(
        graph.build("step"), opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.helper.set_model_props(model, {CONFIG_KEY: json.dumps(asdict(config))})
    return model.SerializeToString()


class _Graph:
    """Nodes in the order they are made; every method returns the name of a value."""

    def __init__(self, onnx: Any) -> None:
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

    def add_weights(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            tensor = self._tensor(name=name, dims=shape, data_type=_FLOAT, data_location=self._tensor.EXTERNAL)
            tensor.external_data.add(key="location", value=WEIGHTS_FILE)
            self._initializers.append(tensor)

    def build(self, name: str) -> Any:
        return self._helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)


def _linear(graph: _Graph, name: str, rows: str) -> str:
    return graph.op("Gemm", rows, f"{name}.weight", f"{name}.bias", transB=1)


def _norm(graph: _Graph, name: str, rows: str, config: StreamingConfig | None) -> str:
    epsilon = config.layer_norm_eps if config else 1e-5  # see _ConvolutionLayer
    return graph.op("LayerNormalization", rows, f"{name}.weight", f"{name}.bias", axis=-1, epsilon=epsilon)


def _convolutions(graph: _Graph, config: StreamingConfig, rows: str) -> str:
    dims = (1, *config.conv_dim)
    for index, (kernel, stride) in enumerate(zip(config.conv_kernel, config.conv_stride)):
        name, (inputs, outputs) = f"feature_extractor.conv_layers.{index}", dims[index : index + 2]
        taps = _unfold(graph, rows, inputs, kernel, stride)  # (num_outputs, kernel * inputs)
        weight = graph.op("Transpose", f"{name}.conv.weight", perm=(0, 2, 1))
        weight = graph.op("Reshape", weight, graph.constant([outputs, kernel * inputs]))
        rows = graph.op("Gelu", _norm(graph, f"{name}.layer_norm", graph.op("Gemm", taps, weight, transB=1), None))
    return rows


def _unfold(graph: _Graph, rows: str, width: int, kernel: int, stride: int) -> str:
    """Returns the rows that each output of a convolution sees, side by side; the last one ends with the input."""
    whole, parts = kernel // stride, []
    for group in range(whole):  # `stride` neighbouring taps are neighbours in memory: a view, not a gather
        end = (group + 1) * stride - kernel
        part = rows if whole * stride == kernel == stride else graph.rows(rows, group * stride, end or None)
        parts.append(graph.op("Reshape", part, graph.constant([-1, stride * width])))
    for tap in range(whole * stride, kernel):
        parts.append(graph.rows(rows, tap, (tap + 1 - kernel) or None, stride))
    return parts[0] if len(parts) == 1 else graph.op("Concat", *parts, axis=1)


def _position(graph: _Graph, config: StreamingConfig, joined: str) -> str:
    norm = graph.op("ReduceL2", POSITION_DIRECTION, graph.constant([0, 1]), keepdims=1)
    weight = graph.op("Mul", POSITION_DIRECTION, graph.op("Div", POSITION_MAGNITUDE, norm))
    columns = graph.op("Unsqueeze", graph.op("Transpose", joined, perm=(1, 0)), graph.constant([0]))
    bias = POSITION_MAGNITUDE.replace("parametrizations.weight.original0", "bias")
    position = graph.op("Conv", columns, weight, bias, group=config.num_conv_pos_embedding_groups)
    position = graph.op("Transpose", graph.op("Squeeze", position, graph.constant([0])), perm=(1, 0))
    return graph.op("Gelu", position)


def _block_mask(graph: _Graph, config: StreamingConfig, hidden: str, past: str) -> str:
    """Returns (num_frames, num_past + num_frames): 0 where a frame may look, minus infinity elsewhere."""
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


def _layer(graph: _Graph, config: StreamingConfig, name: str, hidden: str, past: str, mask: str) -> tuple[str, str]:
    normed = _norm(graph, f"{name}.layer_norm", hidden, config)
    context, joined = _attention(graph, config, f"{name}.attention", normed, past, mask)
    hidden = graph.op("Add", hidden, context)
    wide = _linear(
        graph, f"{name}.feed_forward.intermediate_dense", _norm(graph, f"{name}.final_layer_norm", hidden, config)
    )
    narrow = _linear(graph, f"{name}.feed_forward.output_dense", graph.op("Gelu", wide))
    return graph.op("Add", hidden, narrow), joined


def _attention(graph: _Graph, config: StreamingConfig, name: str, rows: str, past: str, mask: str) -> tuple[str, str]:
    dim, shape = config.hidden_size, (config.num_attention_heads, config.head_dim)
    scale = graph.constant(config.head_dim**-0.5, np.float32)
    weight, bias = (
        graph.op(
            "Concat",
            graph.op("Mul", f"{name}.q_proj.{part}", scale),
            *(f"{name}.{projection}.{part}" for projection in ("k_proj", "v_proj")),
            axis=0,
        )
        for part in ("weight", "bias")
    )
    projected = graph.op("Gemm", rows, weight, bias, transB=1)  # (num_frames, 3 * dim)
    query, new = graph.ops("Split", 2, projected, graph.constant([dim, 2 * dim]), axis=1)
    joined = graph.op("Concat", past, new, axis=0)  # (num_past + num_frames, 2 * dim)
    key, value = graph.ops("Split", 2, joined, graph.constant([dim, dim]), axis=1)
    query = graph.heads(query, *shape, order=(1, 0, 2))  # (heads, num_frames, head_dim)
    scores = graph.op("MatMul", query, graph.heads(key, *shape, order=(1, 2, 0)))
    weights = graph.op("Softmax", graph.op("Add", scores, mask), axis=-1)
    context = graph.op("MatMul", weights, graph.heads(value, *shape, order=(1, 0, 2)))
    context = graph.op("Reshape", graph.op("Transpose", context, perm=(1, 0, 2)), graph.constant([-1, dim]))
    return _linear(graph, f"{name}.out_proj", context), joined
