"""Which voice speaks: synthesisers found on this machine, voices drawn at random, some held out for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from typing import Literal

import numpy as np

from kws.config import check
from kws.data.synth.espeak import EspeakSynthesizer
from kws.data.synth.espeak_library import REMEDY
from kws.data.synth.external import FliteSynthesizer
from kws.data.synth.speech import FACTORS, Speech, Synthesizer, Voice
from kws.errors import SynthesisError

Split = Literal["train", "validation"]

HELD_OUT_SHARE = 0.2
_TWINS = {
    "aunty": "f4",
    "adam": "klatt",
    "benjamin": "edward",
    "hugo": "henrique",
    "diogo": "henrique",
    "miguel": "michel",
}
"""eSpeak variants of other names that measure nearly alike in mean spectrum and pitch (one sentence, en-us)."""
_DISCOVERED = (EspeakSynthesizer, FliteSynthesizer)


@dataclass(frozen=True)
class VoiceConfig:
    """How far drawn voices are bent; each factor is drawn log-uniformly between its two bounds.

    Attributes:
        rate: tempo, within 0.5..2.
        pitch: fundamental frequency, within 0.5..2.
        pitch_range: liveliness of the intonation, above 0, up to 2.
        tract: vocal-tract length, within 0.8..1.25.
        count_power: a synthesiser is drawn in proportion to this power of its number of voices: at 0 each is as likely
            as the others, at 1 each voice.

    Raises:
        ConfigError: a range that isn't two ordered numbers within the bounds, or an impossible power.
    """

    rate: tuple[float, ...] = (0.75, 1.35)
    pitch: tuple[float, ...] = (0.85, 1.3)
    pitch_range: tuple[float, ...] = (0.5, 1.6)
    tract: tuple[float, ...] = (0.87, 1.15)
    count_power: float = 0.5

    def __post_init__(self) -> None:
        bounds = {"rate": (0.5, 2.0), "pitch": (0.5, 2.0), "pitch_range": (0.05, 2.0), "tract": (0.8, 1.25)}
        for key, (low, high) in bounds.items():
            value = getattr(self, key)
            is_range = len(value) == 2 and low <= value[0] <= value[1] <= high
            check(is_range, key, value, f"two numbers, low and high, within {low}..{high}")
        check(0 <= self.count_power <= 1, "count_power", self.count_power, "0 to 1")


@lru_cache(maxsize=1)
def _discover() -> tuple[Synthesizer, ...]:
    found: list[Synthesizer] = []
    for kind in _DISCOVERED:
        try:
            found.append(kind())
        except SynthesisError:
            continue
    return tuple(found)


def available_synthesizers() -> list[Synthesizer]:
    """Returns the synthesisers that work on this machine.

    Raises:
        SynthesisError: there is none; the message says what to install.
    """
    found = _discover()
    if not found:
        _discover.cache_clear()
        raise SynthesisError(f"no speech synthesiser on this machine; {REMEDY}")
    return list(found)


def split_of(synthesizer: str, voice_name: str) -> Split:
    """Returns the split that a voice belongs to, by a stable hash of its variant's family.

    All accents of a variant, numbered relatives (steph, steph2) and measured twins are one speaker and never part.
    f1..f5 and m1..m8 are speakers of their own.
    """
    variant = voice_name.partition("+")[2] if synthesizer == EspeakSynthesizer.name else voice_name
    family = variant.lower().rstrip("0123456789") if len(variant) > 2 else variant.lower()
    family = _TWINS.get(family, family) if synthesizer == EspeakSynthesizer.name else family
    digest = hashlib.sha256(f"{synthesizer}:{family}".encode()).digest()
    return "validation" if digest[0] < 256 * HELD_OUT_SHARE else "train"


def draw_voice(
    rng: np.random.Generator,
    split: Split = "train",
    synthesizers: Sequence[Synthesizer] | None = None,
    config: VoiceConfig = VoiceConfig(),
) -> Voice:
    """Returns a random voice of `split`: synthesiser, name, and the factors the synthesiser honours.

    Args:
        rng: the only source of randomness.
        split: "train" or "validation"; a voice belongs to one of them for good.
        synthesizers: to draw from; default all that work on this machine.
        config: the bounds of the factors.

    Raises:
        SynthesisError: no synthesiser, or none with a voice in `split`.
    """
    candidates = available_synthesizers() if synthesizers is None else list(synthesizers)
    names = [[name for name in one.voices() if split_of(one.name, name) == split] for one in candidates]
    weights = np.array([len(group) ** config.count_power if group else 0.0 for group in names])
    if not weights.sum():
        raise SynthesisError(f"no voice for the split {split!r} among {[one.name for one in candidates]}; {REMEDY}")
    index = int(rng.choice(len(candidates), p=weights / weights.sum()))
    name = names[index][int(rng.integers(len(names[index])))]
    logs = {key: [log(bound) for bound in getattr(config, key)] for key in sorted(FACTORS)}
    factors = {key: exp(rng.uniform(low, high)) for key, (low, high) in logs.items()}
    honoured = {key: value for key, value in factors.items() if key in candidates[index].factors}
    return Voice(candidates[index].name, name, **honoured)


def speak(text: str, voice: Voice, synthesizers: Sequence[Synthesizer] | None = None) -> Speech:
    """Returns `text` spoken by the synthesiser that owns `voice`.

    Raises:
        SynthesisError: that synthesiser isn't among `synthesizers` (default: all that work here), or it can't say it.
    """
    for synthesizer in available_synthesizers() if synthesizers is None else synthesizers:
        if synthesizer.name == voice.synthesizer:
            return synthesizer.say(text, voice)
    raise SynthesisError(f"no synthesiser {voice.synthesizer!r} on this machine; {REMEDY}")
