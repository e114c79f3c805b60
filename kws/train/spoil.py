"""Cheap, heavy augmentation of single crops for pretraining; every draw from one generator.

crop ──▶ vocal tract ──▶ room + colour + band ──▶ noise or babble at an SNR ──▶ codec ──▶ gain
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.data.noises import made_noise
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE

FLOOR = 1e-8


@dataclass(frozen=True)
class SpoilConfig:
    """How often and how much a crop is spoiled.

    Attributes:
        vocal_tract_probability: share of crops with moved formants.
        vocal_tract: smallest and largest formant factor.
        room_probability: share played in a room; `measured_room_share` of those in a measured one.
        measured_room_share: see above.
        colour_probability: share with a random frequency response.
        colour_db: largest deviation of that response.
        band_probability: share limited to a narrower band.
        noise_probability: share with noise.
        made_share: share of the noise that is made, not recorded.
        babble_share: share of the noisy crops whose noise is other voices.
        snr_db: lowest and highest signal-to-noise ratio for noise.
        babble_snr_db: the same for voices.
        codec_probability: share that goes through µ-law companding.
        level_db: lowest and highest loudness of the result, RMS against full scale.
    """

    vocal_tract_probability: float = 0.3
    vocal_tract: tuple[float, ...] = (0.85, 1.18)
    room_probability: float = 0.45
    measured_room_share: float = 0.3
    colour_probability: float = 0.4
    colour_db: float = 8.0
    band_probability: float = 0.15
    noise_probability: float = 0.65
    made_share: float = 0.25
    babble_share: float = 0.3
    snr_db: tuple[float, ...] = (0.0, 25.0)
    babble_snr_db: tuple[float, ...] = (5.0, 25.0)
    codec_probability: float = 0.1
    level_db: tuple[float, ...] = (-40.0, -14.0)


class Spoiler:
    """Spoils crops as live microphones and rooms do.

    Args:
        config: how often and how much.
        noises: waveforms, each at least a second long, float32; without any, all noise is made.
        rooms: measured impulse responses, float32.
    """

    def __init__(
        self, config: SpoilConfig, noises: Sequence[np.ndarray] = (), rooms: Sequence[np.ndarray] = ()
    ) -> None:
        self._config = config
        self._noises = list(noises)
        self._rooms = [_from_direct_sound(room) for room in rooms]

    def spoil(self, waveform: np.ndarray, rng: np.random.Generator, babble: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns `waveform` spoiled, same length and timing, (num_samples,) float32."""
        config = self._config
        if rng.random() < config.vocal_tract_probability:
            waveform = move_formants(waveform, draw(rng, config.vocal_tract))
        waveform = self._filter(waveform, rng)
        if rng.random() < config.noise_probability:
            if rng.random() < config.babble_share:
                waveform = mix(waveform, babble(), draw(rng, config.babble_snr_db))
            else:
                waveform = mix(waveform, self._noise(rng, len(waveform)), draw(rng, config.snr_db))
        if rng.random() < config.codec_probability:
            waveform = mu_law(waveform)
        return self.scale(waveform, rng)

    def scale(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns `waveform` at a random loudness, clipped at full scale."""
        level = 10 ** (draw(rng, self._config.level_db) / 20)
        scaled = waveform * (level / max(float(np.sqrt(np.mean(waveform**2))), FLOOR))
        return np.clip(scaled, -1.0, 1.0).astype(np.float32)

    def _filter(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns `waveform` through a room and a microphone, in one product of spectra."""
        config, room = self._config, None
        if rng.random() < config.room_probability:
            is_measured = bool(self._rooms) and rng.random() < config.measured_room_share
            room = self._rooms[rng.integers(len(self._rooms))] if is_measured else make_room(rng)
        has_colour = rng.random() < config.colour_probability
        has_band = rng.random() < config.band_probability
        if room is None and not has_colour and not has_band:
            return waveform
        size = _fast_length(len(waveform) + (len(room) if room is not None else 0))
        spectrum = np.fft.rfft(waveform, size)
        frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
        if room is not None:
            spectrum *= np.fft.rfft(room, size)
        if has_colour:
            spectrum *= _colour(rng, frequencies, config.colour_db)
        if has_band:
            spectrum *= _band(rng, frequencies)
        return np.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32)

    def _noise(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        if not self._noises or rng.random() < self._config.made_share:
            return made_noise(num_samples, rng)
        noise = self._noises[rng.integers(len(self._noises))]
        if len(noise) < num_samples:
            return np.resize(np.roll(noise, -int(rng.integers(len(noise)))), num_samples)
        return _cut(noise, rng, num_samples)


def draw(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """Returns a number between the two `bounds`, all as likely."""
    return float(rng.uniform(bounds[0], bounds[1]))


def load_sounds(
    noise_manifest: str, noise_folds: Sequence[int], room_manifest: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the noises of the given folds, and the impulse responses, as float32 waveforms; "" gives none.

    Raises:
        ConfigError: a manifest or a file it names can't be read.
    """
    return (
        _load(noise_manifest, lambda row: row.get("fold", 0) in noise_folds),
        _load(room_manifest, lambda row: True),
    )


def mix(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Returns `waveform + noise`, the noise scaled to the signal-to-noise ratio `snr_db` over the whole crop."""
    signal_power, noise_power = float(np.mean(waveform**2)), float(np.mean(noise**2))
    if noise_power < FLOOR**2:
        return waveform
    return waveform + noise * np.float32(np.sqrt(signal_power / noise_power / 10 ** (snr_db / 10)))


def move_formants(waveform: np.ndarray, factor: float, size: int = 512) -> np.ndarray:
    """Returns `waveform` with its spectral envelope stretched by `factor` and its pitch kept: a shorter vocal tract.

    Source: Jaitly & Hinton 2013, "Vocal tract length perturbation", done here on the envelope alone.
    """
    hop, length = size // 2, len(waveform)
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size).astype(np.float32)
    padded = np.pad(waveform, (hop, size + hop))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    spectra = np.fft.rfft(windows, axis=1)
    envelope = _smooth(np.log(np.abs(spectra) + 1e-5), 9)
    source = np.arange(spectra.shape[1]) / factor
    below = np.minimum(source.astype(int), spectra.shape[1] - 2)
    weight = np.clip(source - below, 0.0, 1.0)
    moved = envelope[:, below] * (1 - weight) + envelope[:, below + 1] * weight
    frames = np.fft.irfft(spectra * np.exp(np.clip(moved - envelope, -4.0, 4.0)), size, axis=1) * window
    output = np.zeros((len(frames) + 1) * hop, dtype=np.float32)
    output[: len(frames) * hop] += frames[:, :hop].reshape(-1)
    output[hop:] += frames[:, hop:].reshape(-1)
    return output[hop : hop + length]


def make_room(rng: np.random.Generator) -> np.ndarray:
    """Returns a made impulse response: the direct sound, then decaying noise.

    Source: Polack's statistical model of late reverberation.
    """
    reverberation_s = rng.uniform(0.1, 0.7)
    num_samples = int(reverberation_s * SAMPLE_RATE)
    decay = np.exp(-6.9 * np.arange(num_samples) / num_samples)
    room = (rng.standard_normal(num_samples) * decay).astype(np.float32)
    room[: int(rng.uniform(0.001, 0.006) * SAMPLE_RATE)] = 0.0
    direct_to_late_db = rng.uniform(-2.0, 14.0)
    room *= np.float32(10 ** (-direct_to_late_db / 20) / max(float(np.sqrt(np.sum(room**2))), FLOOR))
    room[0] = 1.0
    return room


def mu_law(waveform: np.ndarray) -> np.ndarray:
    """Returns `waveform` after 8-bit µ-law companding (ITU-T G.711), as telephones send it."""
    peak = max(float(np.max(np.abs(waveform))), FLOOR)
    companded = np.sign(waveform) * np.log1p(255 * np.abs(waveform) / peak) / np.log1p(255)
    coarse = np.round(companded * 127) / 127
    return (np.sign(coarse) * np.expm1(np.abs(coarse) * np.log1p(255)) / 255 * peak).astype(np.float32)


def _load(manifest: str, is_wanted: Callable[[dict[str, Any]], bool]) -> list[np.ndarray]:
    if not manifest:
        return []
    import soundfile

    try:
        rows = [json.loads(line) for line in Path(manifest).read_text(encoding="utf-8").splitlines()]
        files = [Path(manifest).parent / row["audio_filepath"] for row in rows if is_wanted(row)]
        return [soundfile.read(file, dtype="float32")[0] for file in files]
    except (OSError, ValueError, KeyError, soundfile.LibsndfileError) as error:
        raise ConfigError(f"{manifest} can't be read as a manifest of 16 kHz sounds: {error}") from error


def _from_direct_sound(room: np.ndarray) -> np.ndarray:
    start = int(np.argmax(np.abs(room)))
    kept = room[start : start + int(1.5 * SAMPLE_RATE)]
    return (kept / max(float(np.max(np.abs(kept))), FLOOR)).astype(np.float32)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Returns the running mean of `width` values along the last axis."""
    padded = np.pad(values, ((0, 0), (width // 2 + 1, width // 2)), mode="edge")
    sums = np.cumsum(padded, axis=1)
    return (sums[:, width:] - sums[:, :-width]) / width


def _colour(rng: np.random.Generator, frequencies: np.ndarray, colour_db: float) -> np.ndarray:
    knots = np.concatenate(([0.0], np.geomspace(125.0, SAMPLE_RATE / 2, 7)))
    return 10 ** (np.interp(frequencies, knots, rng.uniform(-colour_db, colour_db, len(knots))) / 20)


def _band(rng: np.random.Generator, frequencies: np.ndarray) -> np.ndarray:
    low, high = rng.uniform(20.0, 350.0), rng.uniform(3000.0, 7500.0)
    return 1 / np.sqrt((1 + (low / np.maximum(frequencies, 1.0)) ** 6) * (1 + (frequencies / high) ** 16))


def _cut(noise: np.ndarray, rng: np.random.Generator, num_samples: int) -> np.ndarray:
    start = int(rng.integers(len(noise) - num_samples + 1))
    return noise[start : start + num_samples]


def _fast_length(minimum: int) -> int:
    """Returns a length of at least `minimum` whose FFT is fast."""
    best = 1 << (minimum - 1).bit_length()
    for odd in (3, 5, 9, 15):
        size = odd << max(0, -(-minimum // odd) - 1).bit_length()
        best = min(best, size) if size >= minimum else best
    return best
