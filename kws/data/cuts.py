"""Near misses out of recordings of the phrase itself: its parts, and its parts in another order, in the same voice."""

from __future__ import annotations

import numpy as np
import soxr

from kws.data.pool import Take
from kws.frames import SAMPLE_RATE

FADE_S = 0.01
"""Every cut is faded over so long, so that no click tells it from the phrase."""

_FIRST_PART = (0.3, 0.6)
_LAST_PART = (0.4, 0.7)
_ORDERS = ((1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1))


def cut_phrase(phrase: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns what is made of `phrase` but isn't it: a beginning, an end, its halves swapped, its thirds reordered.

    Args:
        phrase: (num_samples,) float32, the phrase without silence at the ends.
        rng: where it is cut, and which order.
    """
    beginning = phrase[: round(len(phrase) * rng.uniform(*_FIRST_PART))]
    end = phrase[round(len(phrase) * rng.uniform(*_LAST_PART)) :]
    halves, thirds = np.array_split(phrase, 2), np.array_split(phrase, 3)
    order = _ORDERS[int(rng.integers(len(_ORDERS)))]
    return [_faded(beginning), _faded(end), _joined(halves[::-1]), _joined([thirds[index] for index in order])]


def at_speeds(take: Take, speeds: np.ndarray) -> list[Take]:
    """Returns `take` at each of `speeds`, factors by which it gets faster and higher, as a smaller mouth speaks."""
    variants = []
    for speed in speeds:
        waveform = soxr.resample(take.waveform, SAMPLE_RATE * float(speed), SAMPLE_RATE).astype(np.float32)
        variants.append(Take(waveform, take.end_s / float(speed)))
    return variants


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([_faded(part) for part in parts])


def _faded(part: np.ndarray) -> np.ndarray:
    num_samples = min(round(FADE_S * SAMPLE_RATE), len(part) // 2)
    ramp = np.linspace(0, 1, num_samples, dtype=np.float32)
    faded = part.copy()
    faded[:num_samples] *= ramp
    faded[len(faded) - num_samples :] *= ramp[::-1]
    return faded
