"""What a recording of the phrase gives: itself at several speeds, and near misses, its parts and their other orders."""

from __future__ import annotations

import numpy as np
import soxr

from kws.data.pool import Speaker, Take
from kws.frames import SAMPLE_RATE

FADE_S = 0.01
"""Every cut is faded over so long, so that no click tells it from the phrase."""

SPEEDS = (0.85, 1.18)
"""Range of the speeds at which each recording is heard too; tempo and pitch go together."""
NUM_SPEEDS = 3
CUTS_OF = 3
"""Variants of each recording that are cut up into near misses."""
LEVEL = 0.1
"""RMS that every recording is brought to before it is mixed."""

_FIRST_PART = (0.3, 0.6)
_LAST_PART = (0.4, 0.7)
_ORDERS = ((1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1))


def own_voice(take: Take, rng: np.random.Generator) -> Speaker:
    """Returns a recording as a speaker who says it at several speeds, and says what was cut out of it."""
    rms = float(np.sqrt(np.mean(np.square(take.waveform, dtype=np.float64))))
    level = Take(take.waveform * np.float32(LEVEL / max(rms, 1e-6)), take.end_s)
    variants = [level, *at_speeds(level, rng.uniform(*SPEEDS, NUM_SPEEDS))]
    cuts = [cut for variant in variants[:CUTS_OF] for cut in cut_phrase(variant.waveform, rng)]
    return Speaker(variants, cuts, [])


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
