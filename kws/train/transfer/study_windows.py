"""The windows of a transfer study: pieces ─▶ cut, shifted, made louder, put in noise; the same for every mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kws.audio.io import read_audio
from kws.data.mix import coloured_noise
from kws.frames import SAMPLE_RATE
from kws.train.transfer.material import Piece, StudyMaterial

JITTER_S = 0.1
GAIN_DB = 6.0
SNR_DB = (5.0, 30.0)
NOISY_SHARE = 0.5
PEAK = 32_767.0


class Windows:
    """Windows of equal length of a study's pieces, made when asked for and kept; every mode and seed shares them.

    Args:
        material: the pieces.
        window_s: length of a window, in seconds.
        num_variants: windows made of each training piece: shifted, louder or softer, half of them in pink noise.
        test_snr_db: pink noise over the tested pieces; None leaves them as they are.
        seed: of those draws.
    """

    def __init__(
        self, material: StudyMaterial, window_s: float, num_variants: int, test_snr_db: float | None, seed: int
    ) -> None:
        self.material, self.num_variants = material, num_variants
        self.num_samples = round(window_s * SAMPLE_RATE)
        self._test_snr_db, self._seed = test_snr_db, seed
        self._made: dict[tuple[int, int], np.ndarray] = {}

    def train(self, keys: Sequence[tuple[int, int]]) -> np.ndarray:
        """Returns (len(keys), num_samples) float32 windows of (training piece, variant) `keys`."""
        return np.stack([self._kept(index, variant) for index, variant in keys])

    def test(self) -> np.ndarray:
        """Returns (num_test, num_samples) float32 windows of the tested pieces."""
        return np.stack([self._kept(index, -1) for index in range(len(self.material.test))])

    def _kept(self, index: int, variant: int) -> np.ndarray:
        if (index, variant) not in self._made:
            window = self._make_test(index) if variant < 0 else self._make(index, variant)
            self._made[index, variant] = np.round(np.clip(window, -1, 1) * PEAK).astype(np.int16)
        return self._made[index, variant].astype(np.float32) / np.float32(PEAK)

    def _make(self, index: int, variant: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, index, variant])
        shift = round(rng.uniform(-JITTER_S, JITTER_S) * SAMPLE_RATE)
        window = self._cut(self.material.train[index], shift)
        if rng.random() < NOISY_SHARE:
            window = _with_noise(window, rng.uniform(*SNR_DB), rng)
        return window * np.float32(10 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 20))

    def _make_test(self, index: int) -> np.ndarray:
        window = self._cut(self.material.test[index], 0)
        if self._test_snr_db is None:
            return window
        return _with_noise(window, self._test_snr_db, np.random.default_rng([self._seed, index, 11]))

    def _cut(self, piece: Piece, shift: int) -> np.ndarray:
        waveform, length = read_audio(piece.path), self.num_samples
        spare = len(waveform) - length
        if spare <= 0:
            before = min(max(0, -spare // 2 + shift), -spare)
            return np.pad(waveform, (before, -spare - before))
        middle = _loudest_start(waveform, length) if piece.position is None else round(piece.position * spare)
        start = min(max(0, middle - shift), spare)
        return waveform[start : start + length]


def _loudest_start(waveform: np.ndarray, length: int) -> int:
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    return int(np.argmax(energy[length:] - energy[:-length]))


def _with_noise(window: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Returns `window` in pink noise; its ratio is that of the whole window, pauses included."""
    rms = float(np.sqrt(np.mean(np.square(window, dtype=np.float64))))
    return window + coloured_noise(len(window), 1.0, rng) * np.float32(rms * 10 ** (-snr_db / 20))
