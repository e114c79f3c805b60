"""Batches of labelled speech for pretraining, a pure function of seed and step so that any run can resume.

caches of aligned speech ──▶ crop of pieces ──▶ timbre ──▶ speed ──▶ augmentation ──▶ (waveforms, labels)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kws.config import check
from kws.data.alignment import BLANK, STEP, frame_labels
from kws.frames import FrameGeometry
from kws.train.speaker_timbres import SpeakerTimbres
from kws.train.speech_cache import SpeechCache
from kws.train.spoil import Spoiler, draw

GAP_STEPS = 30
"""Steps of 10 ms between two pieces of speech: fewer than this."""
LONGEST_PAUSE = 1 / 3
"""Of a crop's length."""


@dataclass(frozen=True)
class BatchConfig:
    """What a training batch is made of.

    Attributes:
        seed: of every draw.
        batch_size: crops in a batch.
        crop_frames: encoder frames in a crop.
        speeds: slowest and fastest playback.
        speed_probability: share of crops played at another speed.
        timbre_probability: share of the pieces of speech that get another speaker's timbre.
        pause_probability: share of the pieces of speech that a pause cuts short, and of the crops that begin with one.
        block_frames: smallest and largest attention block drawn for a batch.
        left_context_frames: fewest and most frames before the block.
        clean_share_first: share of crops left clean at the first step.
        clean_share_last: share left clean from `hard_from_step` on.
        hard_from_step: step at which the audio is as hard as it gets.
    """

    seed: int = 1
    batch_size: int = 24
    crop_frames: int = 149
    speeds: tuple[float, ...] = (0.85, 1.2)
    speed_probability: float = 0.5
    timbre_probability: float = 0.0
    pause_probability: float = 0.0
    block_frames: tuple[int, ...] = (4, 16)
    left_context_frames: tuple[int, ...] = (48, 96)
    clean_share_first: float = 0.6
    clean_share_last: float = 0.2
    hard_from_step: int = 1000

    def __post_init__(self) -> None:
        check(self.batch_size > 0, "batches.batch_size", self.batch_size, "at least 1")
        check(self.crop_frames > 1, "batches.crop_frames", self.crop_frames, "at least 2")
        for key in ("timbre_probability", "pause_probability"):
            check(0 <= getattr(self, key) <= 1, f"batches.{key}", getattr(self, key), "0 to 1")
        for key in ("speeds", "block_frames", "left_context_frames"):
            pair = getattr(self, key)
            check(len(pair) == 2 and 0 < pair[0] <= pair[1], f"batches.{key}", pair, "[least, most], above 0")

    def clean_share(self, step: int) -> float:
        """Returns the share of crops left clean at `step`."""
        progress = min(1.0, step / max(1, self.hard_from_step))
        return self.clean_share_first + (self.clean_share_last - self.clean_share_first) * progress


@dataclass
class SpeechBatch:
    """One step's audio.

    Attributes:
        waveforms: (batch, num_samples) float32.
        labels: (batch, num_frames) int64.
        block_frames: attention block for this batch.
        left_context_frames: frames seen before the block.
    """

    waveforms: torch.Tensor
    labels: torch.Tensor
    block_frames: int
    left_context_frames: int


class SpeechBatches(torch.utils.data.IterableDataset):
    """Endless batches from `first_step` on.

    Args:
        corpora: prepared folders, each with its share of the crops.
        geometry: of the encoder.
        config: what a batch is made of.
        spoiler: the augmentation of single crops; None trains on clean audio.
        timbres: of the corpora's speakers; None leaves everyone's own.
        first_step: where the run resumes.
        process_index: of the processes that train together; each has batches of its own.
    """

    def __init__(
        self,
        corpora: Sequence[tuple[SpeechCache, float]],
        geometry: FrameGeometry,
        config: BatchConfig,
        spoiler: Spoiler | None = None,
        timbres: SpeakerTimbres | None = None,
        first_step: int = 0,
        process_index: int = 0,
    ) -> None:
        super().__init__()
        self._caches = [cache for cache, _ in corpora]
        shares = np.array([share for _, share in corpora], dtype=np.float64)
        self._shares = np.cumsum(shares / shares.sum())
        self._geometry = geometry
        self._config = config
        self._spoiler = spoiler
        self._timbres = timbres
        self._first_step = first_step
        self._process_index = process_index

    def __iter__(self) -> Iterator[SpeechBatch]:
        worker = torch.utils.data.get_worker_info()  # DataLoader asks its workers in turn
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in itertools.count(self._first_step + first, stride):
            yield self.batch(step)

    def batch(self, step: int) -> SpeechBatch:
        """Returns the batch of `step`, always the same one."""
        rng = np.random.default_rng((self._config.seed, step, self._process_index))
        config = self._config
        crops = [self._crop(rng, step) for _ in range(config.batch_size)]
        return SpeechBatch(
            waveforms=torch.from_numpy(np.stack([waveform for waveform, _ in crops])),
            labels=torch.from_numpy(np.stack([labels for _, labels in crops])),
            block_frames=int(rng.integers(config.block_frames[0], config.block_frames[1] + 1)),
            left_context_frames=int(rng.integers(config.left_context_frames[0], config.left_context_frames[1] + 1)),
        )

    def _crop(self, rng: np.random.Generator, step: int) -> tuple[np.ndarray, np.ndarray]:
        config, num_frames = self._config, self._config.crop_frames
        num_samples = self._geometry.num_samples(num_frames)
        speed = draw(rng, config.speeds) if rng.random() < config.speed_probability else 1.0
        needed = int(np.ceil(num_samples * speed)) + STEP
        jitter = int(rng.integers(STEP))
        samples, labels = self._fill(rng, -(-(needed + STEP) // STEP), self._timbres)
        waveform = play_at(samples[jitter : jitter + needed], speed, num_samples)
        if self._spoiler is not None and rng.random() >= config.clean_share(step):
            waveform = self._spoiler.spoil(waveform, rng, lambda: self._babble(rng, num_samples))
        elif self._spoiler is not None:
            waveform = self._spoiler.scale(waveform, rng)
        return waveform, frame_labels(labels, num_frames, self._geometry, offset=jitter, speed=speed)

    def _fill(
        self, rng: np.random.Generator, num_steps: int, timbres: SpeakerTimbres | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns `num_steps` steps of speech; pieces of it follow each other with small gaps, some with pauses."""
        samples = np.zeros(num_steps * STEP, dtype=np.float32)
        labels = np.zeros(num_steps, dtype=np.uint8)
        cache = self._caches[int(np.searchsorted(self._shares, rng.random()))]
        filled = self._pause(rng, num_steps)
        while filled < num_steps:
            index = cache.draw(rng)
            spare = cache.rows[index]["length"] // STEP - num_steps
            first = int(rng.integers(spare + 1)) if spare > 0 else 0
            piece, piece_labels = cache.piece(index, first, num_steps - filled)
            pause = self._pause(rng, num_steps)
            if pause:
                piece, piece_labels = _cut_in_silence(piece, piece_labels, rng)
            if timbres is not None and rng.random() < self._config.timbre_probability:
                piece = timbres.give(piece, piece_labels, cache.name, cache.rows[index].get("speaker"), rng)
            samples[filled * STEP : filled * STEP + len(piece)] = piece
            labels[filled : filled + len(piece_labels)] = piece_labels
            filled += len(piece_labels) + (pause or int(rng.integers(GAP_STEPS)))
        return samples, labels

    def _pause(self, rng: np.random.Generator, num_steps: int) -> int:
        """Returns the steps of a pause in `num_steps` of speech, 0 where there is none."""
        has_pause = self._config.pause_probability and rng.random() < self._config.pause_probability
        return int(rng.integers(1, max(2, round(num_steps * LONGEST_PAUSE)))) if has_pause else 0

    def _babble(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        voices = np.zeros(num_samples, dtype=np.float32)
        for _ in range(int(rng.integers(1, 6))):
            samples, _ = self._fill(rng, -(-num_samples // STEP))
            voices += samples[:num_samples] * rng.uniform(0.5, 1.0)
        return voices


def _cut_in_silence(samples: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns a piece of speech up to a random silent step of it, whole where there is none."""
    silent = np.flatnonzero(labels == BLANK)
    num_steps = int(rng.choice(silent)) + 1 if len(silent) else len(labels)
    return samples[: num_steps * STEP], labels[:num_steps]


def play_at(samples: np.ndarray, speed: float, num_samples: int) -> np.ndarray:
    """Returns `num_samples` samples of `samples` played `speed` times as fast (pitch and formants move along)."""
    if speed == 1.0:
        return samples[:num_samples]
    import soxr

    played = soxr.resample(samples, speed, 1.0, quality="MQ").astype(np.float32, copy=False)
    return np.pad(played, (0, max(0, num_samples - len(played))))[:num_samples]
