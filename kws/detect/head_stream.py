"""Heads in NumPy alone: encoder frames ─▶ scores, as `Head` and a sigmoid would give them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kws.model.artefact import WakeWord

MAX_ROWS = 512
"""Frames scored in one pass at most: the unfolded input of the convolution is `kernel` times as large."""

NORM_EPSILON = np.float32(1e-5)
"""What `torch.nn.LayerNorm` adds to the variance."""


class NumpyHead:
    """The weights of a wake word's head, laid out for products from the left; streams share it.

    Args:
        wakeword: its weights are taken as checked.
    """

    def __init__(self, wakeword: WakeWord) -> None:
        weights = {name: np.asarray(array, np.float32) for name, array in wakeword.weights.items()}
        self.config = wakeword.head
        self.num_keywords = len(wakeword.keywords)
        self._num_states = wakeword.num_states
        exponents = np.exp(weights["state_weights"] - weights["state_weights"].max())
        self._state_shares = exponents / exponents.sum()
        self._input = _columns(weights["input.weight"]), weights["input.bias"]
        self._norm = weights["norm.weight"], weights["norm.bias"]
        self._output = _columns(weights["output.weight"]), weights["output.bias"]
        if self.config.kind == "gru":
            self._gates = [
                (_columns(weights[f"temporal.weight_{part}_l0"]), weights[f"temporal.bias_{part}_l0"])
                for part in ("ih", "hh")
            ]
        else:
            taps = weights["temporal.weight"].transpose(0, 2, 1)  # (out, kernel, in)
            self._taps = _columns(taps.reshape(len(taps), -1)), weights["temporal.bias"]

    def initial_cache(self) -> np.ndarray:
        """Returns the cache of a head that has seen nothing: rows of past frames, or the state of the GRU."""
        num_past = 1 if self.config.kind == "gru" else (self.config.kernel - 1) * self.config.dilation
        return np.zeros((num_past, self.config.hidden), np.float32)

    def logits(self, frames: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (num_frames, num_keywords) float32 logits of (num_frames, dim) frames, and the next cache."""
        if self._num_states > 1:
            frames = np.tensordot(frames.reshape(len(frames), self._num_states, -1), self._state_shares, (1, 0))
        hidden = frames @ self._input[0] + self._input[1]
        hidden -= hidden.mean(axis=1, keepdims=True)
        hidden /= np.sqrt(np.square(hidden).mean(axis=1, keepdims=True) + NORM_EPSILON)
        hidden = np.maximum(hidden * self._norm[0] + self._norm[1], 0)
        hidden, cache = self._recur(hidden, cache) if self.config.kind == "gru" else self._convolve(hidden, cache)
        return hidden @ self._output[0] + self._output[1], cache

    def _convolve(self, hidden: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.concatenate([cache, hidden])
        seen = np.arange(len(hidden))[:, None] + np.arange(self.config.kernel) * self.config.dilation
        unfolded = padded[seen].reshape(len(hidden), -1)  # (num_frames, kernel * hidden)
        return np.maximum(unfolded @ self._taps[0] + self._taps[1], 0), padded[len(padded) - len(cache) :]

    def _recur(self, hidden: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source: Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product, as `torch.nn.GRU` has it."""
        (from_input, input_bias), (from_state, state_bias) = self._gates
        inputs, size, state = hidden @ from_input + input_bias, self.config.hidden, cache[0]
        states = np.empty_like(hidden)
        for row, given in enumerate(inputs):
            kept = state @ from_state + state_bias
            reset, update = np.split(sigmoid(given[: 2 * size] + kept[: 2 * size]), 2)
            new = np.tanh(given[2 * size :] + reset * kept[2 * size :])
            states[row] = state = new + update * (state - new)
        return states, states[-1:].copy()


class HeadStream:
    """The state of one stream through a head.

    Args:
        head: a wake word, or its weights where several streams share them.
    """

    def __init__(self, head: WakeWord | NumpyHead) -> None:
        self.head = NumpyHead(head) if isinstance(head, WakeWord) else head
        self.reset()

    def reset(self) -> None:
        """Forgets everything seen."""
        self._cache = self.head.initial_cache()

    def feed(self, frames: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, num_keywords) float32 scores, 0 to 1, of (num_frames, dim) float32 frames."""
        scores = [np.zeros((0, self.head.num_keywords), np.float32)]
        for start in range(0, len(frames), MAX_ROWS):
            logits, self._cache = self.head.logits(frames[start : start + MAX_ROWS], self._cache)
            scores.append(sigmoid(logits))
        return np.concatenate(scores)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(−logits)), exact to the last bits at both ends and without overflow."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, np.ones_like(small), small) / (1 + small)


def _columns(weight: Any) -> np.ndarray:
    return np.ascontiguousarray(weight.T)
