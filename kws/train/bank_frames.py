"""Frames from an encoder's bank of real speech: a speaker's features ─▶ windows ─▶ position, attention ─▶ frames.

The shipped product has no recordings of people: without the bank, a head that learned from synthetic voices alone takes
real talk for the phrase far more often than it has to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kws.config import check
from kws.data.splice import phone_classes
from kws.model.artefact import WakeWord
from kws.model.bank import BANK_FILE, SpeechBank, read_bank
from kws.model.encoder import Encoder
from kws.model.encoder_folder import find_encoder_folder
from kws.model.streaming import StreamingEncoder
from kws.train.calibration import HeldOut
from kws.train.features import concatenate, one_thread_per_operation
from kws.train.head_training import FrameSet
from kws.train.losses import NEGATIVE

BATCH_FRAMES = 4096
"""Frames that attention runs over at once, which bounds the memory."""

SPLIT_STREAM, TRAINING_STREAM, HELD_OUT_STREAM = 200, 201, 202
"""Set the draws of the bank apart from the others of a seed."""


@dataclass(frozen=True)
class BankConfig:
    """How the bank of real speech in the encoder's folder is used; without one there, none of this matters.

    Attributes:
        is_used: whether it is.
        num_windows: windows of real speech among the negatives.
        num_held_out: pieces of other speakers' speech, of `validation_window_s` each, for choosing the threshold.
        held_out_share: share of the speech whose speakers are kept for that.
        speech: folder of aligned speech (`recipes/pretrain/prepare.py`) from whose phones speakers who "say" the phrase
            are put together; none if empty.
        num_spliced: such speakers.
    """

    is_used: bool = True
    num_windows: int = 2250
    num_held_out: int = 30
    held_out_share: float = 0.2
    speech: str = ""
    num_spliced: int = 300

    def __post_init__(self) -> None:
        check(1 <= self.num_windows <= 1_000_000, "bank.num_windows", self.num_windows, "1 to 1000000")
        check(0 <= self.num_held_out <= 1_000_000, "bank.num_held_out", self.num_held_out, "0 to 1000000")
        check(0 < self.held_out_share < 1, "bank.held_out_share", self.held_out_share, "above 0, below 1")
        check(1 <= self.num_spliced <= 100_000, "bank.num_spliced", self.num_spliced, "1 to 100000")


class BankFrames:
    """Windows of real speech without the phrase, as frames of one encoder.

    Args:
        bank: of that encoder.
        encoder: which made the bank.
    """

    def __init__(self, bank: SpeechBank, encoder: StreamingEncoder) -> None:
        self.bank = bank
        self.encoder = encoder
        self._utterances = [np.flatnonzero(bank.sessions == session) for session in np.unique(bank.sessions)]
        spoken = np.array([bank.lengths[utterances].sum() for utterances in self._utterances], np.float64)
        self._shares = spoken / spoken.sum()

    def windows(
        self,
        num_windows: int,
        num_frames: int,
        rng: np.random.Generator,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> FrameSet:
        """Returns `num_windows` windows of `num_frames` frames, each of one speaker in one room."""
        indices = self._indices(num_windows, num_frames, rng)
        size = max(1, BATCH_FRAMES // num_frames)
        batches = [indices[start : start + size] for start in range(0, num_windows, size)]
        frames: list[np.ndarray] = []
        with one_thread_per_operation() as num_workers, ThreadPoolExecutor(num_workers) as executor:
            for made in executor.map(
                lambda batch: frames_of_features(self.encoder, self.bank.features(batch)), batches
            ):
                frames.append(made)
                progress(min(len(frames) * size, num_windows), num_windows)
        return FrameSet(np.concatenate(frames), np.full(num_windows, NEGATIVE, np.int64))

    def features(self, num_windows: int, num_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Returns (num_windows, num_frames, hidden_dim) float32 features of such windows, before attention."""
        return self.bank.features(self._indices(num_windows, num_frames, rng))

    def _indices(self, num_windows: int, num_frames: int, rng: np.random.Generator) -> np.ndarray:
        return np.stack([self._draw(num_frames, rng) for _ in range(num_windows)])

    def _draw(self, num_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Returns the positions of one window's codes: a session's utterances after each other, from a random place."""
        utterances = rng.permutation(self._utterances[int(rng.choice(len(self._shares), p=self._shares))])
        lengths = self.bank.lengths[utterances]
        spoken = np.concatenate(
            [np.arange(start, start + length) for start, length in zip(self.bank.starts[utterances], lengths)]
        )
        first = int(rng.integers(max(1, len(spoken) - num_frames + 1)))
        return np.resize(spoken[first:], num_frames)


def open_bank(encoder: Encoder, config: BankConfig) -> SpeechBank | None:
    """Returns the bank in the folder of `encoder`, None where there is none or it isn't to be used.

    Raises:
        EncoderError: it is damaged, or was made for other weights.
    """
    folder = find_encoder_folder(encoder.settings.name)
    if not config.is_used or folder is None or not isinstance(encoder, StreamingEncoder):
        return None
    path = folder / BANK_FILE
    return read_bank(path, encoder.sha256) if path.is_file() else None


@dataclass(frozen=True)
class RealSpeech:
    """The bank's part in a run; without a bank it changes nothing.

    Attributes:
        config: how much of it.
        seed: of every draw.
        training: speech to train on, None without a bank.
        held_out: speech of other speakers, None without them.
    """

    config: BankConfig
    seed: int
    training: BankFrames | None = None
    held_out: BankFrames | None = None

    def on(self, encoder: Encoder) -> RealSpeech:
        """Returns the same speech for `encoder`, whose layers were trained but whose convolutions are the bank's."""
        if not isinstance(encoder, StreamingEncoder):
            return RealSpeech(self.config, self.seed)
        parts = (part and BankFrames(part.bank, encoder) for part in (self.training, self.held_out))
        return RealSpeech(self.config, self.seed, *parts)

    def joined_to_training(self, data: FrameSet, work: Path, progress: Callable[[int, int], None]) -> FrameSet:
        """Returns `data` with windows of real speech, kept in the folder `work`."""
        if self.training is None:
            return data
        num_windows = self.config.num_windows
        return concatenate(data, self._windows(self.training, num_windows, data, work / "bank.npz", progress))

    def joined_to_held_out(self, held_out: HeldOut, work: Path, progress: Callable[[int, int], None]) -> HeldOut:
        """Returns `held_out` with pieces of real speech of other speakers among the negatives."""
        if self.held_out is None or not self.config.num_held_out:
            return held_out
        path, num_windows, negatives = work / "held-out-bank.npz", self.config.num_held_out, held_out.negatives
        spoken = self._windows(self.held_out, num_windows, negatives, path, progress)
        return replace(held_out, negatives=concatenate(negatives, spoken))

    def noted_in(self, wakeword: WakeWord) -> WakeWord:
        """Returns `wakeword` with the bank among what it was made from, and the licences of its speech."""
        if self.training is None:
            return wakeword
        bank, details = self.training.bank, wakeword.details
        made_from = {
            "speakers_of_the_encoders_bank": bank.num_speakers,
            "minutes_of_the_encoders_bank": round(bank.num_frames * self.training.encoder.geometry.hop_s / 60, 1),
        }
        licences = [f"bank of real speech: {licence}" for licence in bank.details.get("licences", [])]
        details = {**details, "made_from": {**details["made_from"], **made_from}}
        details["data_licences"] = [*details["data_licences"], *licences]
        return replace(wakeword, details=details)

    def _windows(
        self, speech: BankFrames, num_windows: int, like: FrameSet, path: Path, progress: Callable[[int, int], None]
    ) -> FrameSet:
        """Returns windows as long as those of `like`, from the file at `path` if it is there."""
        if not path.is_file():
            stream = TRAINING_STREAM if speech is self.training else HELD_OUT_STREAM
            rng = np.random.default_rng([self.seed, stream])
            made = speech.windows(num_windows, like.frames.shape[1], rng, progress)
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, frames=made.frames, end_frames=made.end_frames)
            temporary.replace(path)
        with np.load(path) as stored:
            return FrameSet(stored["frames"], stored["end_frames"])


def open_real_speech(phrase: str, encoder: Encoder, config: BankConfig, seed: int) -> RealSpeech:
    """Returns the bank's speech that doesn't hold the phrase, some speakers for training, others for the threshold.

    Args:
        phrase: as it is spoken in English; all speech is kept where it is empty, since it isn't known.
        encoder: whose bank it is.
        config: how the bank is used.
        seed: of the draw of speakers.

    Raises:
        EncoderError: the bank is damaged, or was made for other weights.
        SynthesisError: no eSpeak library to pronounce the phrase.
    """
    bank = open_bank(encoder, config)
    if bank is None or not isinstance(encoder, StreamingEncoder):
        return RealSpeech(config, seed)
    bank = bank.without(phone_classes(phrase)) if phrase else bank
    parts = bank.split(config.held_out_share, np.random.default_rng([seed, SPLIT_STREAM]))
    training, held_out = (BankFrames(part, encoder) if len(part.starts) else None for part in parts)
    return RealSpeech(config, seed, training, held_out)


@torch.inference_mode()
def local_features(encoder: StreamingEncoder, waveform: np.ndarray) -> np.ndarray:
    """Returns (num_frames, hidden_dim) float32 features of `waveform` (num_samples,): each has heard 25 ms."""
    samples = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))[None]
    return encoder.feature_projection(encoder.feature_extractor(samples))[0].numpy()


@torch.inference_mode()
def frames_of_features(encoder: StreamingEncoder, features: np.ndarray) -> np.ndarray:
    """Returns (batch, num_frames, dim) float16 frames of `local_features`, (batch, num_frames, hidden_dim) float32."""
    return attend(encoder, torch.from_numpy(np.ascontiguousarray(features, np.float32))).numpy().astype(np.float16)


def attend(encoder: StreamingEncoder, features: Tensor) -> Tensor:
    """Returns (batch, num_frames, dim) frames of `local_features`, (batch, num_frames, hidden_dim), with gradients."""
    return _behind_the_convolutions(encoder).step(features, encoder.initial_cache(len(features)))[0]


def _behind_the_convolutions(encoder: StreamingEncoder) -> StreamingEncoder:
    """Returns a view of `encoder`, sharing its weights, whose input is what the convolutions give."""
    view = copy.copy(encoder)
    passed_by = {"feature_extractor": nn.Identity(), "feature_projection": nn.Identity()}
    view._modules = {**encoder._modules, **passed_by}
    return view
