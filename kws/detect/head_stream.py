"""Heads on ONNX Runtime: encoder frames ─▶ scores, as `Head` and a sigmoid would give them; one graph for them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kws.model.artefact import WakeWord
from kws.model.onnx_graph import Graph
from kws.model.onnx_session import open_session

NORM_EPSILON = 1e-5
"""What `torch.nn.LayerNorm` adds to the variance."""

LANES = 8
"""Channels that ONNX Runtime's convolutions take at a time; each wake word's logits are filled up to these."""


class Heads:
    """The heads of wake words on one encoder, as one graph, so that all cost one pass; streams share them.

    Frames are time, heads' units channels: a member is a head of its own until the last layer, so that the middle layer
    is a convolution in as many groups as there are members.

    Args:
        wakewords: at least one, with the same head settings and layers in a frame; their weights are taken as checked.
    """

    def __init__(self, wakewords: Sequence[WakeWord]) -> None:
        self.config = wakewords[0].head
        self.num_keywords = sum(len(wakeword.keywords) for wakeword in wakewords)
        self.num_heads = len(wakewords) * self.config.num_members
        self.width = len(wakewords) * self.config.width
        graph = Graph({"frames": [None, wakewords[0].dim], "cache": self.initial_cache().shape})
        hidden = self._add_input(graph, wakewords)
        add_temporal = self._add_recurrence if self.config.kind == "gru" else self._add_convolution
        hidden, cache = add_temporal(graph, hidden, wakewords)
        logits = self._add_output(graph, hidden, wakewords)
        self._weights = graph.weights  # the session reads some of them where they lie
        self._session = open_session(graph.to_bytes(logits, cache), self._weights)

    def initial_cache(self) -> np.ndarray:
        """Returns the cache of heads that have seen nothing: (1, 1, past frames or the GRU's state, width)."""
        num_past = 1 if self.config.kind == "gru" else (self.config.kernel - 1) * self.config.dilation
        return np.zeros((1, 1, num_past, self.width), np.float32)

    def scores(self, frames: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (num_frames, num_keywords) float32 scores of (num_frames, dim) frames, and the next cache."""
        logits, seen = self._session.run(None, {"frames": frames, "cache": cache})
        return sigmoid(logits), seen[:, :, seen.shape[2] - cache.shape[2] :]

    def _add_input(self, graph: Graph, wakewords: Sequence[WakeWord]) -> str:
        """Returns the (num_frames, num_heads, hidden) output of the first layer, each head's normalised by itself."""
        by_head = (self.num_heads, self.config.hidden)
        weight = np.concatenate([_input_weight(wakeword) for wakeword in wakewords])
        hidden = graph.add("Gemm", "frames", weight, _joined(wakewords, "input.bias"), transB=1)
        hidden = graph.add("Reshape", hidden, [-1, *by_head])
        ones, zeros = np.ones(self.config.hidden, np.float32), np.zeros(self.config.hidden, np.float32)
        hidden = graph.add("LayerNormalization", hidden, ones, zeros, axis=-1, epsilon=NORM_EPSILON)
        hidden = graph.add("Mul", hidden, _joined(wakewords, "norm.weight").reshape(by_head))
        hidden = graph.add("Add", hidden, _joined(wakewords, "norm.bias").reshape(by_head))
        return graph.add("Relu", hidden)

    def _add_convolution(self, graph: Graph, hidden: str, wakewords: Sequence[WakeWord]) -> tuple[str, str]:
        """Returns the (1, width, 1, num_frames) output of the middle layer, and its next cache."""
        seen = graph.add("Concat", "cache", graph.add("Reshape", hidden, [1, 1, -1, self.width]), axis=2)
        hidden = graph.add(
            "Conv",
            graph.add("Transpose", seen, perm=[0, 3, 1, 2]),
            _joined(wakewords, "temporal.weight")[:, :, None],
            _joined(wakewords, "temporal.bias"),
            group=self.num_heads,
            kernel_shape=[1, self.config.kernel],
            dilations=[1, self.config.dilation],
        )
        return graph.add("Relu", hidden), seen

    def _add_recurrence(self, graph: Graph, hidden: str, wakewords: Sequence[WakeWord]) -> tuple[str, str]:
        """Returns the (1, width, 1, num_frames) output of the middle layer, and its next cache.

        Source: Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product, as `torch.nn.GRU` has it.
        """
        size = self.config.hidden
        inputs = graph.add_many("Split", len(wakewords), hidden, axis=1)  # of (num_frames, 1, hidden)
        past = graph.add("Reshape", "cache", [1, len(wakewords), size])
        states = graph.add_many("Split", len(wakewords), past, axis=1)
        found = [
            graph.add_many("GRU", 2, row, *_gates(wakeword), "", state, hidden_size=size, linear_before_reset=1)
            for wakeword, row, state in zip(wakewords, inputs, states)
        ]
        hidden = graph.add("Concat", *(hidden for hidden, _ in found), axis=1)  # (num_frames, num_heads, 1, hidden)
        hidden = graph.add("Reshape", hidden, [1, 1, -1, self.width])
        cache = graph.add("Concat", *(state for _, state in found), axis=2)
        return graph.add("Transpose", hidden, perm=[0, 3, 1, 2]), graph.add("Unsqueeze", cache, [0])

    def _add_output(self, graph: Graph, hidden: str, wakewords: Sequence[WakeWord]) -> str:
        """Returns the (num_frames, num_keywords) logits, means over the members."""
        counts = [len(wakeword.keywords) for wakeword in wakewords]
        lanes = -(-max(counts) // LANES) * LANES
        weight = np.zeros((len(counts), lanes, self.config.width, 1, 1), np.float32)
        bias = np.zeros((len(counts), lanes), np.float32)
        for row, (wakeword, count) in enumerate(zip(wakewords, counts)):
            weight[row, :count, :, 0, 0] = wakeword.weights["output.weight"] / np.float32(self.config.num_members)
            bias[row, :count] = wakeword.weights["output.bias"]
        logits = graph.add("Conv", hidden, np.concatenate(weight), bias.ravel(), group=len(counts), kernel_shape=[1, 1])
        logits = graph.add("Reshape", graph.add("Transpose", logits, perm=[0, 2, 3, 1]), [-1, bias.size])
        used = [row * lanes + column for row, count in enumerate(counts) for column in range(count)]
        return graph.add("Gather", logits, used, axis=1)


class HeadStream:
    """The state of one stream through the heads of an encoder.

    Args:
        heads: wake words, or their heads where several streams share them.
    """

    def __init__(self, *heads: WakeWord | Heads) -> None:
        self.heads = heads[0] if isinstance(heads[0], Heads) else Heads(heads)  # type: ignore[arg-type]
        self.reset()

    def reset(self) -> None:
        """Forgets everything seen."""
        self._cache = self.heads.initial_cache()

    def feed(self, frames: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, num_keywords) float32 scores, 0 to 1, of (num_frames, dim) float32 frames."""
        if not len(frames):
            return np.zeros((0, self.heads.num_keywords), np.float32)
        scores, self._cache = self.heads.scores(frames, self._cache)
        return scores


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(−logits)), exact to the last bits at both ends and without overflow; a graph's is not."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, np.ones_like(small), small) / (1 + small)


def _joined(wakewords: Sequence[WakeWord], name: str) -> np.ndarray:
    """Returns the weights `name` of all of them, one after the other."""
    return np.concatenate([np.asarray(wakeword.weights[name], np.float32) for wakeword in wakewords])


def _input_weight(wakeword: WakeWord) -> np.ndarray:
    """Returns the (width, dim) weights of the first layer, the weights of the layers in a frame in them."""
    weight = np.asarray(wakeword.weights["input.weight"], np.float32)
    states = np.asarray(wakeword.weights["state_weights"], np.float32)
    shares = np.exp(states - states.max())
    return np.concatenate([weight * share for share in shares / shares.sum()], axis=1)


def _gates(wakeword: WakeWord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the weights of a GRU as ONNX has them: the update gate first, torch's reset gate second."""
    parts = [f"temporal.{kind}_{part}_l0" for kind in ("weight", "bias") for part in ("ih", "hh")]
    split = [np.split(np.asarray(wakeword.weights[part], np.float32), 3) for part in parts]
    from_input, from_state, *biases = [np.concatenate([update, reset, new]) for reset, update, new in split]
    return from_input[None], from_state[None], np.concatenate(biases)[None]
