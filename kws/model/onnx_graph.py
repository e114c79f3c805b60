"""ONNX graphs written without the package `onnx`, which detection does without: nodes, weights ─▶ a model's bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

OPSET = 17
"""Version of the operators that nodes name; the first with `LayerNormalization`."""

_IR_VERSION = 8
_FLOAT, _INT, _INTS = 1, 2, 7
"""Types of attributes; the first is that of elements too, and so is the next (`onnx.proto`)."""
_INT64 = 7
_EXTERNAL = 1
"""Where a constant lies: not in the graph."""

Dimensions = Sequence["int | None"]


class Graph:
    """A graph in the making.

    Attributes:
        weights: (name, array) of the float32 constants, which `open_session` takes beside the graph.

    Args:
        inputs: name and shape of each input, all float32; None is a length of any size.
    """

    def __init__(self, inputs: Mapping[str, Dimensions]) -> None:
        self.weights: dict[str, np.ndarray] = {}
        self._inputs = [_value(name, shape) for name, shape in inputs.items()]
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._num_values = 0

    def add(self, kind: str, *inputs: str | np.ndarray | Sequence[int], **attributes: int | float | list[int]) -> str:
        """Returns the name of the output of a new node.

        Args:
            kind: the operator.
            inputs: names of values, "" for one left out, float32 arrays, or whole numbers.
            attributes: of the operator.
        """
        return self.add_many(kind, 1, *inputs, **attributes)[0]

    def add_many(
        self,
        kind: str,
        num_outputs: int,
        *inputs: str | np.ndarray | Sequence[int],
        **attributes: int | float | list[int],
    ) -> list[str]:
        """Returns the names of the outputs of a new node; otherwise as `add`."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        outputs = [self._name() for _ in range(num_outputs)]
        parts = [_field(1, name) for name in names] + [_field(2, name) for name in outputs] + [_field(4, kind)]
        self._nodes.append(b"".join(parts + [_field(5, _attribute(*item)) for item in attributes.items()]))
        return outputs

    def to_bytes(self, *outputs: str) -> bytes:
        """Returns the model; its outputs are the values of these names, float32."""
        graph = _fields(1, self._nodes) + _field(2, "graph") + _fields(5, self._constants)
        graph += _fields(11, self._inputs) + _fields(12, [_value(name) for name in outputs])
        return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(2, OPSET))

    def _constant(self, value: np.ndarray | Sequence[int]) -> str:
        name, array = self._name(), np.asarray(value)
        shape = b"".join(_field(1, size) for size in array.shape) + _field(8, name)
        if array.dtype == np.float32:
            self.weights[name] = array
            where = _field(1, "location") + _field(2, "weights")  # a place that `open_session` puts them in
            self._constants.append(shape + _field(2, _FLOAT) + _field(13, where) + _field(14, _EXTERNAL))
        else:
            self._constants.append(shape + _field(2, _INT64) + _field(9, array.astype("<i8").tobytes()))
        return name

    def _name(self) -> str:
        self._num_values += 1
        return f"value_{self._num_values}"


def _value(name: str, shape: Dimensions | None = None) -> bytes:
    kind = _field(1, _FLOAT)
    if shape is not None:
        kind += _field(2, _fields(1, (b"" if size is None else _field(1, size) for size in shape)))
    return _field(1, name) + _field(2, _field(1, kind))


def _attribute(name: str, value: int | float | list[int]) -> bytes:
    if isinstance(value, float):
        return _field(1, name) + _tag(2, 5) + struct.pack("<f", value) + _field(20, _FLOAT)
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, _INT)
    return _field(1, name) + b"".join(_field(8, one) for one in value) + _field(20, _INTS)


def _fields(number: int, values: Iterable[bytes]) -> bytes:
    return b"".join(_field(number, value) for value in values)


def _field(number: int, value: int | str | bytes) -> bytes:
    """Source: https://protobuf.dev/programming-guides/encoding; numbers of fields are those of `onnx.proto`."""
    if isinstance(value, int):
        return _tag(number, 0) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _tag(number, 2) + _varint(len(content)) + content


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    low = value & 0x7F
    return bytes([low]) if value < 0x80 else bytes([low | 0x80]) + _varint(value >> 7)
