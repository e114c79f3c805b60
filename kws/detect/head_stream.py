"""Heads in NumPy alone: encoder frames ─▶ scores, as `Head` and a sigmoid would give them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kws.model.artefact import WakeWord

MAX_ROWS = 512
"""Frames scored in one pass at most: the unfolded input of the convolution is `kernel` times as large."""

NORM_EPSILON = np.float32(1e-5)
"""What `torch.nn.LayerNorm` adds to the variance."""


class NumpyHeads:
    """The weights of the heads of wake words on one encoder, stacked so that all cost one pass; streams share them.

    Args:
        wakewords: at least one, with the same head settings and layers in a frame; their weights are taken as checked.
    """

    def __init__(self, wakewords: Sequence[WakeWord]) -> None:
        self.config, self._num_states = wakewords[0].head, wakewords[0].num_states
        self.num_keywords = sum(len(wakeword.keywords) for wakeword in wakewords)
        self.num_heads = len(wakewords) * self.config.num_members  # a member is a head of its own until the last layer
        names = [name for name in wakewords[0].weights if not name.startswith("output.")]
        stacked = {name: _stack(wakewords, name) for name in names}
        exponents = np.exp(stacked["state_weights"] - stacked["state_weights"].max(axis=1, keepdims=True))
        self._state_shares = exponents / exponents.sum(axis=1, keepdims=True)  # (num_heads, num_states)
        self._input = _columns(stacked["input.weight"]), stacked["input.bias"][:, None]
        self._norm = stacked["norm.weight"][:, None], stacked["norm.bias"][:, None]
        self._outputs = [_output(wakeword) for wakeword in wakewords]
        if self.config.kind == "gru":
            self._gates = [
                (_columns(stacked[f"temporal.weight_{part}_l0"]), stacked[f"temporal.bias_{part}_l0"][:, None])
                for part in ("ih", "hh")
            ]
        else:
            taps = stacked["temporal.weight"].swapaxes(2, 3)  # (num_heads, out, kernel, in)
            self._taps = _columns(taps.reshape(*taps.shape[:2], -1)), stacked["temporal.bias"][:, None]

    def initial_cache(self) -> np.ndarray:
        """Returns the cache of heads that have seen nothing: (num_heads, past frames or the GRU's state, hidden)."""
        num_past = 1 if self.config.kind == "gru" else (self.config.kernel - 1) * self.config.dilation
        return np.zeros((self.num_heads, num_past, self.config.hidden), np.float32)

    def logits(self, frames: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (num_frames, num_keywords) float32 logits of (num_frames, dim) frames, and the next cache."""
        if self._num_states > 1:
            states = frames.reshape(len(frames), self._num_states, -1)
            frames = np.tensordot(self._state_shares, states, (1, 1))  # (num_heads, num_frames, dim)
        hidden = frames @ self._input[0] + self._input[1]  # (num_heads, num_frames, hidden)
        hidden -= hidden.mean(axis=2, keepdims=True)
        hidden /= np.sqrt(np.square(hidden).mean(axis=2, keepdims=True) + NORM_EPSILON)
        hidden = np.maximum(hidden * self._norm[0] + self._norm[1], 0)
        hidden, cache = self._recur(hidden, cache) if self.config.kind == "gru" else self._convolve(hidden, cache)
        members = hidden.reshape(-1, self.config.num_members, *hidden.shape[1:])
        logits = [(rows @ weight).mean(axis=0) + bias for rows, (weight, bias) in zip(members, self._outputs)]
        return np.concatenate(logits, axis=1), cache

    def _convolve(self, hidden: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        num_frames, padded = hidden.shape[1], np.concatenate([cache, hidden], axis=1)
        seen = np.arange(num_frames)[:, None] + np.arange(self.config.kernel) * self.config.dilation
        unfolded = padded[:, seen].reshape(self.num_heads, num_frames, -1)  # (…, kernel * hidden)
        return np.maximum(unfolded @ self._taps[0] + self._taps[1], 0), padded[:, num_frames:]

    def _recur(self, hidden: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source: Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product, as `torch.nn.GRU` has it."""
        (from_input, input_bias), (from_state, state_bias) = self._gates
        inputs, size, state = hidden @ from_input + input_bias, self.config.hidden, cache
        states = np.empty_like(hidden)
        for row in range(hidden.shape[1]):
            given, kept = inputs[:, row : row + 1], state @ from_state + state_bias
            reset, update = np.split(sigmoid(given[..., : 2 * size] + kept[..., : 2 * size]), 2, axis=-1)
            new = np.tanh(given[..., 2 * size :] + reset * kept[..., 2 * size :])
            state = new + update * (state - new)
            states[:, row] = state[:, 0]
        return states, state


class HeadStream:
    """The state of one stream through the heads of an encoder.

    Args:
        heads: wake words, or their stacked weights where several streams share them.
    """

    def __init__(self, *heads: WakeWord | NumpyHeads) -> None:
        self.heads = heads[0] if isinstance(heads[0], NumpyHeads) else NumpyHeads(heads)  # type: ignore[arg-type]
        self.reset()

    def reset(self) -> None:
        """Forgets everything seen."""
        self._cache = self.heads.initial_cache()

    def feed(self, frames: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, num_keywords) float32 scores, 0 to 1, of (num_frames, dim) float32 frames."""
        scores = [np.zeros((0, self.heads.num_keywords), np.float32)]
        rows = max(1, MAX_ROWS // self.heads.num_heads)
        for start in range(0, len(frames), rows):
            logits, self._cache = self.heads.logits(frames[start : start + rows], self._cache)
            scores.append(sigmoid(logits))
        return np.concatenate(scores)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(−logits)), exact to the last bits at both ends and without overflow."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, np.ones_like(small), small) / (1 + small)


def _stack(wakewords: Sequence[WakeWord], name: str) -> np.ndarray:
    """Returns (num_heads, …) weights, those of each member by themselves."""
    stacked = np.stack([np.asarray(wakeword.weights[name], np.float32) for wakeword in wakewords])
    if name == "state_weights":  # members share them
        return np.repeat(stacked, wakewords[0].head.num_members, axis=0)
    return stacked.reshape(len(wakewords) * wakewords[0].head.num_members, -1, *stacked.shape[2:])


def _output(wakeword: WakeWord) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (members, hidden, num_keywords) weights and (num_keywords,) biases of the last layer."""
    weight = np.asarray(wakeword.weights["output.weight"], np.float32)
    return _columns(weight.reshape(len(weight), wakeword.head.num_members, -1).swapaxes(0, 1)), wakeword.weights[
        "output.bias"
    ]


def _columns(weight: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weight.swapaxes(-1, -2))
