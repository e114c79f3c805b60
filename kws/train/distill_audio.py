"""Audio for distillation: recordings as they lie on the disk, and crops that are heard clean and spoiled at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import soundfile
import soxr

from kws.data.alignment import STEP
from kws.data.manifest import read_clips
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE
from kws.train.speech_cache import SpeechCache
from kws.train.spoil import Spoiler

logger = logging.getLogger(__name__)

UNLABELLED = 255
"""Class of frames whose phone nobody knows."""


class AudioCorpus(SpeechCache):
    """Recordings as they lie on the disk, of any rate and format, read a piece at a time; no frame has a label.

    Args:
        paths: folders, `.jsonl` manifests or files.

    Raises:
        AudioError: a path that doesn't exist, or nothing in them that can be read.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.name = ", ".join(paths)
        self.rows, unreadable = [], []
        for path in dict.fromkeys(clip.path for source in paths for clip in read_clips(source)):
            try:
                info = soundfile.info(path)
            except (OSError, soundfile.LibsndfileError) as error:
                unreadable.append(f"{path} ({error})")
                continue
            length = info.frames * SAMPLE_RATE // info.samplerate
            if length >= STEP:
                self.rows.append({"path": path, "rate": info.samplerate, "length": length})
        if unreadable:
            logger.warning("left out %d files that can't be read: %s", len(unreadable), "; ".join(unreadable))
        if not self.rows:
            raise AudioError(f"no recording in {self.name} can be read; name a folder of audio files or a manifest")
        self.hours = sum(row["length"] for row in self.rows) / SAMPLE_RATE / 3600
        self._share = np.cumsum([row["length"] for row in self.rows], dtype=np.float64)
        self._share /= self._share[-1]

    def piece(self, index: int, first_step: int = 0, num_steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns float32 samples of recording `index` from `first_step` on, cut to whole steps, all unlabelled.

        Raises:
            AudioError: the recording is damaged there.
        """
        row = self.rows[index]
        whole = row["length"] // STEP
        last_step = whole if num_steps is None else min(whole, first_step + num_steps)
        num_samples = (last_step - first_step) * STEP
        samples = _read(row, first_step * STEP, num_samples)
        return samples, np.full(last_step - first_step, UNLABELLED, dtype=np.uint8)


class SpoiledPair(Spoiler):
    """A `Spoiler` that gives each crop twice, (2, num_samples): as it was, for the teacher, and spoiled.

    Args:
        spoiler: what spoils; None leaves both as they were.
    """

    def __init__(self, spoiler: Spoiler | None) -> None:
        self._spoiler = spoiler

    def spoil(self, waveform: np.ndarray, rng: np.random.Generator, babble: Callable[[], np.ndarray]) -> np.ndarray:
        return np.stack([waveform, self._spoiler.spoil(waveform, rng, babble) if self._spoiler else waveform])

    def scale(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.stack([waveform, self._spoiler.scale(waveform, rng) if self._spoiler else waveform])


def _read(row: dict[str, Any], start: int, num_samples: int) -> np.ndarray:
    """Returns `num_samples` samples at 16 kHz from sample `start` of a recording on, channels averaged."""
    rate = row["rate"]
    try:
        with soundfile.SoundFile(row["path"]) as file:
            file.seek(start * rate // SAMPLE_RATE)
            samples = file.read(-(-num_samples * rate // SAMPLE_RATE), dtype="float32", always_2d=True).mean(axis=1)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(f"{row['path']} is damaged after {start / SAMPLE_RATE:.1f} s ({error}); remove it") from error
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    return np.pad(samples, (0, max(0, num_samples - len(samples))))[:num_samples]
