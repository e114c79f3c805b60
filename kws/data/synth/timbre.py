"""Timbres of real people for synthetic speech, whose spectral envelope is moved phone by phone to where a person's is.

speech + its phones' times ──▶ short spectra ──▶ × exp(person's mean − synthesiser's mean, of the phone) ──▶ speech

A timbre is 120 mean envelopes, three for each phone: who it was taken from can't be heard to say anything.

Source: Stylianou, Cappé and Moulines 1998, "Continuous probabilistic transform for voice conversion", IEEE Transactions
on Speech and Audio Processing 6(2), with phones for mixture components and means alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy.ndimage import gaussian_filter1d
from scipy.signal import istft, stft  # `ShortTimeFFT` takes four times as long: a Python call a spectrum

from kws.data.alignment import BLANK, PHONES, STEP, class_of
from kws.data.synth.arpabet import from_espeak
from kws.data.synth.speech import Segment, Speech
from kws.data.synth.voices import Split
from kws.errors import ConfigError, SynthesisError
from kws.frames import SAMPLE_RATE

TIMBRES_FILE = "timbres.safetensors"
FORMAT = "kws-timbres-1"
REMAKE = "make it again with recipes/timbres/make.py"

STATES_OF_A_PHONE = 3
"""Beginning, middle and end."""
NUM_STATES = (len(PHONES) + 1) * STATES_OF_A_PHONE
NUM_BANDS = 32
LOWEST_HZ = 60.0
WINDOW = 512
SMOOTHING_STEPS = 2.0
"""Standard deviation, in hundredths of a second, over which one phone's gains pass into the next one's."""
MOST_GAIN = 2.5
"""Largest change of amplitude, as a natural logarithm."""
FLOOR = 1.5e-14
"""Power added to every band; a sine of full scale has 0.25."""
PRIOR_STEPS = 30.0
"""Hundredths of a second of a state that weigh as much as what all speakers have in common."""
FEWEST_STEPS = 1500
"""Hundredths of a second of speech without which a speaker's timbre is not taken."""
HELD_OUT_EVERY = 5
"""Each fifth speaker's timbre is for held-out voices."""


@dataclass(frozen=True, eq=False)
class Timbres:
    """Mean envelopes of speakers and of a synthesiser, as log amplitudes without loudness.

    Attributes:
        speakers: (num_speakers, NUM_STATES, NUM_BANDS) float32.
        synthetic: (NUM_STATES, NUM_BANDS) float32.
        synthesizer: whose means these are; only its speech is moved.
        details: sources, licences, seed.
    """

    speakers: np.ndarray
    synthetic: np.ndarray
    synthesizer: str
    details: dict[str, Any]

    def part(self, split: Split) -> Timbres:
        """Returns the speakers of `split`; no speaker is in both."""
        is_held_out = np.arange(len(self.speakers)) % HELD_OUT_EVERY == 0
        return replace(self, speakers=self.speakers[is_held_out if split == "validation" else ~is_held_out])

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Returns what `move` needs to give speech the timbre of one speaker: (NUM_STATES, NUM_BANDS) log gains."""
        return self.speakers[int(rng.integers(len(self.speakers)))] - self.synthetic

    def to_bytes(self) -> bytes:
        """Returns the content of the file, envelopes in half precision."""
        tensors = {name: getattr(self, name).astype(np.float16) for name in ("speakers", "synthetic")}
        return save(tensors, {"format": FORMAT, "synthesizer": self.synthesizer, "details": json.dumps(self.details)})


def read_timbres(path: Path) -> Timbres:
    """Returns the timbres in the file at `path`.

    Raises:
        ConfigError: it is damaged or of another version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).astype(np.float32) for name in ("speakers", "synthetic")}
        details = json.loads(metadata["details"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} holds no timbres ({error}); {REMAKE}") from error
    shapes = tensors["speakers"].shape[1:], tensors["synthetic"].shape
    if metadata.get("format") != FORMAT or shapes != ((NUM_STATES, NUM_BANDS),) * 2 or not len(tensors["speakers"]):
        raise ConfigError(f"{path} is {metadata.get('format')} with {shapes}, not {FORMAT}; {REMAKE}")
    return Timbres(**tensors, synthesizer=metadata["synthesizer"], details=details)


class EnvelopeSums:
    """Envelopes of a speaker, summed by state, from which a timbre is made."""

    def __init__(self) -> None:
        self.sums = np.zeros((NUM_STATES, NUM_BANDS))
        self.counts = np.zeros(NUM_STATES)

    def add(self, waveform: np.ndarray, labels: np.ndarray) -> None:
        """Takes in `waveform` (num_samples,) with the phone class of each hundredth of a second."""
        levels = _levels(waveform)[: len(labels)]
        labels = labels[: len(levels)]
        is_speech = labels != BLANK
        if is_speech.any():
            states = _states(labels)
            np.add.at(self.sums, states, levels - levels[is_speech].mean())
            np.add.at(self.counts, states, 1)

    @property
    def num_steps(self) -> float:
        """Hundredths of a second of speech."""
        return float(self.counts[STATES_OF_A_PHONE:].sum())


def make_timbres(
    speakers: Sequence[EnvelopeSums], synthetic: EnvelopeSums, synthesizer: str, details: dict[str, Any]
) -> Timbres:
    """Returns the timbres of those `speakers` who said enough, against the means of `synthetic` speech."""
    envelopes, common = mean_envelopes(speakers)
    if not envelopes:
        raise ConfigError(f"no speaker with {FEWEST_STEPS / 100:g} s of speech; prepare more speech")
    is_known = (synthetic.counts > 0) & np.any([sums.counts > 0 for sums in speakers], axis=0)
    means = synthetic.sums / np.maximum(synthetic.counts, 1)[:, None]
    synthetic_means = np.where(is_known[:, None], means, common).astype(np.float32)
    return Timbres(np.array(list(envelopes.values())), synthetic_means, synthesizer, details)


def mean_envelopes(speakers: Sequence[EnvelopeSums]) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Returns the mean envelopes of those `speakers` who said enough, by index, and those of all speakers.

    Each is (NUM_STATES, NUM_BANDS) float32; states that a speaker rarely says lean on the means of all.

    Source: maximum a posteriori means, Gauvain and Lee 1994, eq. 25, around the common mean moved by the speaker's own.
    """
    total = sum((sums.counts for sums in speakers), np.zeros(NUM_STATES))
    common = sum((sums.sums for sums in speakers), np.zeros((NUM_STATES, NUM_BANDS))) / np.maximum(total, 1)[:, None]
    envelopes = {}
    for index, one in enumerate(speakers):
        if one.num_steps < FEWEST_STEPS:
            continue
        counts = one.counts[:, None]
        deviation = (one.sums - counts * common)[STATES_OF_A_PHONE:].sum(axis=0) / one.num_steps
        means = (one.sums + PRIOR_STEPS * (common + deviation)) / (counts + PRIOR_STEPS)
        envelopes[index] = means.astype(np.float32)
    return envelopes, common.astype(np.float32)


def move(speech: Speech, log_gains: np.ndarray) -> Speech:
    """Returns `speech` with each phone's envelope moved by `log_gains` (NUM_STATES, NUM_BANDS)."""
    labels = phone_labels(speech.phones, len(speech.waveform) // STEP + 1)
    return replace(speech, waveform=move_envelopes(speech.waveform, labels, log_gains))


def move_envelopes(waveform: np.ndarray, labels: np.ndarray, log_gains: np.ndarray) -> np.ndarray:
    """Returns `waveform` (num_samples,), as loud as before, with each phone's envelope moved.

    Args:
        waveform: float32; shorter than a spectrum's window, it stays as it is.
        labels: (num_steps,) the phone class of each hundredth of a second, BLANK where none is; it may end early.
        log_gains: (NUM_STATES, NUM_BANDS) what each state's log amplitudes are moved by.
    """
    if len(waveform) < WINDOW:
        return waveform
    spectra = _spectra(waveform)
    labels = np.pad(labels[: len(spectra)], (0, max(0, len(spectra) - len(labels))), constant_values=BLANK)
    gains = log_gains[_states(labels)]
    is_speech = labels != BLANK
    gains[~is_speech] = gains[is_speech].mean(axis=0) if is_speech.any() else 0.0
    gains = np.clip(gaussian_filter1d(gains, SMOOTHING_STEPS, axis=0, mode="nearest"), -MOST_GAIN, MOST_GAIN)
    changed = spectra * np.exp(gains @ _between_bands())
    moved = istft(changed.T, nperseg=WINDOW, noverlap=WINDOW - STEP)[1][: len(waveform)]
    power, moved_power = (float(np.mean(np.square(signal, dtype=np.float64))) for signal in (waveform, moved))
    scaled = moved * np.float32(np.sqrt(power / max(moved_power, 1e-12)))
    return np.clip(scaled, -1.0, 1.0).astype(np.float32)


def phone_labels(phones: Sequence[Segment], num_steps: int) -> np.ndarray:
    """Returns the phone class of each hundredth of a second from eSpeak's `phones`, 0 where there is none."""
    labels = np.zeros(num_steps, np.int64)
    for segment in phones:
        try:
            names = from_espeak(segment.label)
        except SynthesisError:  # a sound that English lacks: it stays as it is
            continue
        edges = np.linspace(segment.start_s, segment.end_s, len(names) + 1) * SAMPLE_RATE / STEP
        for name, start, end in zip(names, edges, edges[1:]):
            labels[int(start) : int(end)] = class_of(name)
    return labels


def _states(labels: np.ndarray) -> np.ndarray:
    """Returns (num_steps,) the state of each step: its phone's class and whether it begins, goes on or ends."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1, [len(labels)]])
    lengths = np.diff(edges)
    place = np.arange(len(labels)) - np.repeat(edges[:-1], lengths)
    thirds = place * STATES_OF_A_PHONE // np.repeat(np.maximum(lengths, 1), lengths)
    return labels * STATES_OF_A_PHONE + thirds


def _spectra(waveform: np.ndarray) -> np.ndarray:
    """Returns (num_steps, num_bins) complex; step i is centred on sample i × STEP."""
    return stft(waveform, nperseg=WINDOW, noverlap=WINDOW - STEP)[2].T


def _levels(waveform: np.ndarray) -> np.ndarray:
    """Returns (num_steps, NUM_BANDS) log amplitudes."""
    return 0.5 * np.log(np.abs(_spectra(waveform)) ** 2 @ _into_bands() + FLOOR)


@lru_cache(maxsize=1)
def _into_bands() -> np.ndarray:
    """(num_bins, NUM_BANDS) weights of triangular bands, equally wide in mel, each with sum 1."""
    mel, edges = _mel()
    rising = (mel[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - mel[:, None]) / np.diff(edges)[1:]
    weights = np.maximum(0.0, np.minimum(rising, falling))
    return weights / np.maximum(weights.sum(axis=0), 1e-9)


@lru_cache(maxsize=1)
def _between_bands() -> np.ndarray:
    """(NUM_BANDS, num_bins) weights that interpolate between the centres of bands."""
    mel, edges = _mel()
    return np.stack([np.interp(mel, edges[1:-1], row) for row in np.eye(NUM_BANDS)]).astype(np.float32)


def _mel() -> tuple[np.ndarray, np.ndarray]:
    """Returns the bins and the bands' edges in mel (O'Shaughnessy 1987: 2595 log10(1 + f / 700))."""
    bins_hz = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    in_mel = [2595 * np.log10(1 + hz / 700) for hz in (bins_hz, LOWEST_HZ, SAMPLE_RATE / 2)]
    return in_mel[0], np.linspace(in_mel[1], in_mel[2], NUM_BANDS + 2)
