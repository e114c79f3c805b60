"""Unlabelled adaptation to a room or microphone: its audio's frame statistics ─▶ the head's first layer, nothing else.

A new microphone shifts and stretches the encoder's frames. Where their mean and spread over speech are put back to
what they are over the encoder's own bank of speech, a head trained there may fit again. Since both maps are affine, the
head's first layer takes them in: an adapted wake word is an ordinary one, and costs nothing more to run.

Source: batch statistics of the target in place of the source's, Li et al. 2016, arXiv:1603.04779; mixed with the
source's by the size of a prior, Schneider et al. 2020, arXiv:2006.16971.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kws.config import check, to_dict
from kws.data.mix import active_speech
from kws.errors import AudioError, ConfigError
from kws.frames import FrameGeometry
from kws.model.artefact import WakeWord
from kws.model.encoder import Encoder
from kws.model.streaming import StreamingEncoder
from kws.train.bank_frames import BankConfig, BankFrames, open_bank

NUM_BANK_WINDOWS, BANK_WINDOW_FRAMES = 48, 160
LEAST_SPREAD = 1e-3
LEAST_SPEECH_S = 5.0


@dataclass(frozen=True)
class AdaptationConfig:
    """How far a wake word is adapted.

    Attributes:
        strength: 0 leaves it as it is, 1 follows the room as far as its audio reaches.
        prior_s: seconds of the room's speech at which it counts as much as what the encoder knew.
    """

    strength: float = 0.0
    prior_s: float = 60.0

    def __post_init__(self) -> None:
        check(0 <= self.strength <= 1, "adaptation.strength", self.strength, "0 (off) to 1")
        check(0 <= self.prior_s <= 86_400, "adaptation.prior_s", self.prior_s, "0 to 86400 seconds")


@dataclass(frozen=True)
class Statistics:
    """Of frames of speech, by dimension.

    Attributes:
        mean: (dim,) float64.
        spread: (dim,) float64 standard deviation.
        duration_s: of the speech.
    """

    mean: np.ndarray
    spread: np.ndarray
    duration_s: float

    @classmethod
    def of(cls, frames: np.ndarray, hop_s: float) -> Statistics:
        """Returns those of (num_frames, dim) frames."""
        values = frames.astype(np.float64)
        return cls(values.mean(0), np.maximum(values.std(0), LEAST_SPREAD), len(frames) * hop_s)


def bank_statistics(encoder: Encoder, seed: int = 0) -> Statistics:
    """Returns the statistics of the speech that comes with `encoder`.

    Raises:
        ConfigError: no bank of speech comes with it.
    """
    bank = open_bank(encoder, BankConfig())
    if bank is None or not isinstance(encoder, StreamingEncoder):
        raise ConfigError(
            f"the encoder '{encoder.settings.name}' comes without a bank of speech, which adaptation compares a room "
            "with; use a wake word on the shipped encoder"
        )
    windows = BankFrames(bank, encoder).windows(NUM_BANK_WINDOWS, BANK_WINDOW_FRAMES, np.random.default_rng(seed))
    return Statistics.of(windows.frames.reshape(-1, encoder.dim), encoder.geometry.hop_s)


def room_statistics(
    encoder: Encoder,
    recordings: Sequence[np.ndarray],
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Statistics:
    """Returns the statistics of the speech in `recordings`, (num_samples,) each: pauses are left out.

    Raises:
        AudioError: less than a few seconds of speech.
    """
    spoken = []
    for index, waveform in enumerate(recordings):
        progress(index, len(recordings))
        stream = encoder.stream()
        frames = np.concatenate([stream.feed(waveform), stream.flush()])
        spoken.append(frames[_is_spoken(waveform, len(frames), encoder.geometry)])
    progress(len(recordings), len(recordings))
    found = np.concatenate(spoken) if spoken else np.zeros((0, encoder.dim), np.float32)
    if len(found) * encoder.geometry.hop_s < LEAST_SPEECH_S:
        raise AudioError(
            f"{len(found) * encoder.geometry.hop_s:.1f} s of speech in the room's audio; adaptation needs "
            f"{LEAST_SPEECH_S:g} s at least, and a few minutes to be of use: record more"
        )
    return Statistics.of(found, encoder.geometry.hop_s)


def adapt(wakeword: WakeWord, source: Statistics, room: Statistics, config: AdaptationConfig) -> WakeWord:
    """Returns `wakeword` whose head takes the room's frames for what `source`'s would be; its encoder stays.

    Raises:
        ConfigError: its head weighs several layers, whose statistics this doesn't know.
    """
    if wakeword.num_states > 1:
        raise ConfigError("a wake word on encoder.layer = 'mix' can't be adapted; train it with encoder.layer = 'last'")
    share = config.strength * room.duration_s / (config.prior_s + room.duration_s)
    mean = (1 - share) * source.mean + share * room.mean
    spread = np.sqrt((1 - share) * source.spread**2 + share * room.spread**2)
    gain = source.spread / spread
    weight = wakeword.weights["input.weight"].astype(np.float64)  # (hidden, dim): W (gain (x − mean) + source.mean) + b
    bias = wakeword.weights["input.bias"].astype(np.float64) + weight @ (source.mean - gain * mean)
    changed = {"input.weight": (weight * gain).astype(np.float32), "input.bias": bias.astype(np.float32)}
    noted = {"adapted": to_dict(config) | {"room_s": round(room.duration_s, 1), "share": round(share, 3)}}
    return replace(wakeword, weights={**wakeword.weights, **changed}, details={**wakeword.details, **noted})


def _is_spoken(waveform: np.ndarray, num_frames: int, geometry: FrameGeometry) -> np.ndarray:
    """Returns (num_frames,) bool: in the middle of which frames somebody speaks."""
    active = active_speech(waveform)
    middles = np.arange(num_frames) * geometry.hop + geometry.receptive_field // 2
    return active[np.minimum(middles, len(active) - 1)]
