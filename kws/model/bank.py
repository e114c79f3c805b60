"""Real speech that comes with an encoder, as features without sound: codes ─▶ features of its convolutions.

A bank holds what the encoder's convolutions make of many people's speech: a vector every 20 ms that has heard 25 ms and
nothing of its neighbours. Pieces may be cut anywhere; position and attention run over them afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kws.data.phone_search import holds_phrase
from kws.errors import EncoderError
from kws.model.files import write_atomically

BANK_FILE = "bank.safetensors"
"""In an encoder's folder."""

FORMAT = "kws-speech-bank-1"
REMAKE = "make it again with recipes/bank/make.py, or delete it to train without"

CODE_RANGE = 127
CLIPPED_AT = 4.5
"""Standard deviations at which a component is clipped."""


@dataclass(frozen=True, eq=False)
class SpeechBank:
    """Utterances of many speakers as compressed features.

    Attributes:
        encoder_sha256: the weights whose convolutions made it.
        codes: (num_codes, num_components) int8, all utterances after each other.
        labels: (num_codes,) uint8, the phone class of each (`kws.data.alignment`), 0 for silence.
        starts: (num_utterances,) int64, where each begins.
        lengths: (num_utterances,) int64.
        speakers: (num_utterances,) int64.
        sessions: (num_utterances,) int64: utterances of one speaker in one room with one noise.
        mean: (dim,) float32.
        basis: (num_components, dim) float32.
        step: (num_components,) float32, what a code of 1 stands for.
        details: sources, licences, seed.
    """

    encoder_sha256: str
    codes: np.ndarray
    labels: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    speakers: np.ndarray
    sessions: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    step: np.ndarray
    details: dict[str, Any]

    @property
    def num_frames(self) -> int:
        """Features in all utterances."""
        return int(self.lengths.sum())

    @property
    def num_speakers(self) -> int:
        return len(np.unique(self.speakers))

    def features(self, indices: np.ndarray) -> np.ndarray:
        """Returns (…, dim) float32 features for (…,) positions among the codes."""
        return (self.codes[indices] * self.step) @ self.basis + self.mean

    def chosen(self, utterances: np.ndarray) -> SpeechBank:
        """Returns the bank of the `utterances` alone, given by index or by a mask."""
        names = ("starts", "lengths", "speakers", "sessions")
        return replace(self, **{name: getattr(self, name)[utterances] for name in names})

    def split(self, held_out_share: float, rng: np.random.Generator) -> tuple[SpeechBank, SpeechBank]:
        """Returns two banks without a common speaker, the second with at least `held_out_share` of the speech.

        With a single speaker the second is empty.
        """
        speakers = rng.permutation(np.unique(self.speakers))
        spoken = np.array([self.lengths[self.speakers == speaker].sum() for speaker in speakers])
        before = np.cumsum(spoken) - spoken
        is_held_out = before < held_out_share * self.num_frames
        is_held_out[-1:] = False
        held_out = np.isin(self.speakers, speakers[is_held_out])
        return self.chosen(~held_out), self.chosen(held_out)

    def without(self, phones: Sequence[int]) -> SpeechBank:
        """Returns the bank without the utterances in which `phones`, a phrase's classes, are said."""
        spans = [slice(start, start + length) for start, length in zip(self.starts, self.lengths)]
        return self.chosen(np.array([not holds_phrase(self.labels[span], phones) for span in spans], bool))

    def to_bytes(self) -> bytes:
        """Returns the content of the file."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        metadata = {"format": FORMAT, "encoder_sha256": self.encoder_sha256, "details": json.dumps(self.details)}
        return save(tensors, metadata)

    def save(self, path: Path) -> None:
        """Writes the file at `path`, never half of it."""
        write_atomically(path, self.to_bytes())


_TENSORS = {
    **{"codes": (np.int8, 2), "labels": (np.uint8, 1), "starts": (np.int64, 1), "lengths": (np.int64, 1)},
    **{"speakers": (np.int64, 1), "sessions": (np.int64, 1)},
    **{"mean": (np.float32, 1), "basis": (np.float32, 2), "step": (np.float32, 1)},
}
"""Type and number of dimensions of each tensor in the file."""


def read_bank(path: Path, encoder_sha256: str) -> SpeechBank:
    """Returns the bank in the file at `path`.

    Args:
        path: a file that `SpeechBank.save` wrote.
        encoder_sha256: of the encoder in use; another encoder's features mean nothing to it.

    Raises:
        EncoderError: it can't be read, is damaged, or was made for other weights.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        details = json.loads(metadata.get("details", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise EncoderError(f"{path} can't be read as a bank of speech ({error}); {REMAKE}") from error
    if metadata.get("format") != FORMAT:
        raise EncoderError(f"{path} has the format {metadata.get('format')!r}, expected {FORMAT!r}; {REMAKE}")
    made_for = metadata.get("encoder_sha256", "")
    if made_for != encoder_sha256:
        raise EncoderError(
            f"{path} was made for another encoder (SHA-256 {made_for[:12]}…, this one is {encoder_sha256[:12]}…); "
            f"{REMAKE}"
        )
    _check(path, tensors)
    return SpeechBank(encoder_sha256=made_for, details=details, **tensors)


def _check(path: Path, tensors: dict[str, np.ndarray]) -> None:
    found = {name: (tensor.dtype.type, tensor.ndim) for name, tensor in tensors.items()}
    if found != _TENSORS:
        raise EncoderError(f"{path} lacks a part of a bank, or has one of another kind ({sorted(found)}); {REMAKE}")
    num_codes, num_components = tensors["codes"].shape
    starts, lengths = tensors["starts"], tensors["lengths"]
    is_whole = (
        tensors["labels"].shape == (num_codes,)
        and tensors["basis"].shape == (num_components, len(tensors["mean"]))
        and tensors["step"].shape == (num_components,)
        and len({len(tensors[name]) for name in ("starts", "lengths", "speakers", "sessions")}) == 1
        and len(starts) > 0
        and bool(np.all((starts >= 0) & (lengths > 0) & (starts + lengths <= num_codes)))
    )
    if not is_whole:
        raise EncoderError(f"{path} has parts that don't fit together; {REMAKE}")


def compress(
    features: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    speakers: Sequence[int],
    sessions: Sequence[int],
    num_components: int,
    encoder_sha256: str,
    details: dict[str, Any],
) -> SpeechBank:
    """Returns a bank of utterances: principal components, each in 8 bits.

    Args:
        features: (num_frames, dim) for each utterance.
        labels: (num_frames,) phone classes, likewise.
        speakers: a number for each.
        sessions: a number for each.
        num_components: at most dim.
        encoder_sha256: of the weights that made the features.
        details: kept with it.
    """
    lengths = np.array([len(part) for part in features], np.int64)
    total = int(lengths.sum())
    mean = sum(part.astype(np.float64).sum(0) for part in features) / total
    covariance = sum((centred := part.astype(np.float64) - mean).T @ centred for part in features) / total
    variances, vectors = np.linalg.eigh(covariance)
    basis = vectors.T[::-1][:num_components]
    step = np.sqrt(np.maximum(variances[::-1][:num_components], 1e-12)) * CLIPPED_AT / CODE_RANGE
    codes = [np.clip(np.round((part - mean) @ basis.T / step), -CODE_RANGE, CODE_RANGE) for part in features]
    return SpeechBank(
        encoder_sha256,
        np.concatenate(codes).astype(np.int8),
        np.concatenate(labels).astype(np.uint8),
        np.cumsum(lengths) - lengths,
        lengths,
        np.array(speakers, np.int64),
        np.array(sessions, np.int64),
        mean.astype(np.float32),
        basis.astype(np.float32),
        step.astype(np.float32),
        details,
    )
