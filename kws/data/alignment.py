"""Phone labels for transcribed speech, from PocketSphinx's own English model.

waveform + words ──▶ word alignment ──▶ phone alignment ──▶ one label every 10 ms ──▶ one label a frame
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kws.errors import require
from kws.frames import SAMPLE_RATE, FrameGeometry

PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH"),
    *("K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
"""The 39 ARPAbet phones in the order of the shipped encoder's `vocab.json`, where they are classes 1 to 39."""

BLANK = 0
"""Class of silence in frame-wise training, and of CTC's blank."""

WORD_BOUNDARY = len(PHONES) + 1
"""Class of the word boundary `|`."""

NUM_CLASSES = len(PHONES) + 2

STEP = SAMPLE_RATE // 100
"""Samples between two labels: PocketSphinx counts time in hundredths of a second."""

_CLASS_OF = {phone: index + 1 for index, phone in enumerate(PHONES)}


@dataclass(frozen=True)
class PhoneSegment:
    """One phone (or silence) of an utterance.

    Attributes:
        label: class index, 0 for silence and noise.
        start: first step, in hundredths of a second.
        length: number of steps.
    """

    label: int
    start: int
    length: int


class PhoneAligner:
    """Aligns transcripts with speech, a word at a time and then a phone at a time.

    Args:
        pronounce: word → ARPAbet phones, for words that PocketSphinx's dictionary lacks; without it, utterances with
            such words don't align.

    Raises:
        DependencyError: PocketSphinx is missing.
    """

    def __init__(self, pronounce: Callable[[str], Sequence[str]] | None = None) -> None:
        pocketsphinx = require("pocketsphinx", "train")
        # bestpath would rescore the word alignment, and the second pass then fails on a third of the utterances
        self._decoder: Any = pocketsphinx.Decoder(lm=None, bestpath=False, loglevel="FATAL")
        self._pronounce = pronounce

    def align(self, pcm16: np.ndarray, text: str) -> list[PhoneSegment] | None:
        """Returns the phones of `text` in `pcm16` in order, silences included, or None where they don't align.

        Args:
            pcm16: (num_samples,) int16, 16 kHz.
            text: the transcript; anything but letters and apostrophes parts words.
        """
        words = words_of(text)
        if not words or not all(self._knows(word) for word in words):
            return None
        audio = np.ascontiguousarray(pcm16, dtype=np.int16).tobytes()
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decode(audio)
            if self._decoder.hyp() is None:
                return None
            self._decoder.set_alignment()
            self._decode(audio)
            alignment = self._decoder.get_alignment()
        except RuntimeError:  # no path through the utterance: the transcript is not what was said
            return None
        return [_segment(phone) for word in alignment for phone in word] if alignment is not None else None

    def pronunciations(self, word: str) -> list[list[str]]:
        """Returns the ARPAbet phones of each pronunciation of `word`, none where nobody knows one."""
        if not self._knows(word):
            return []
        names = itertools.chain([word], (f"{word}({number})" for number in itertools.count(2)))
        found = itertools.takewhile(lambda phones: phones is not None, map(self._decoder.lookup_word, names))
        return [phones.split() for phones in found]

    def _decode(self, audio: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(audio, full_utt=True)
        self._decoder.end_utt()

    def _knows(self, word: str) -> bool:
        if self._decoder.lookup_word(word) is not None:
            return True
        phones = [phone for phone in self._pronounce(word) if phone in _CLASS_OF] if self._pronounce else []
        if phones:
            self._decoder.add_word(word, " ".join(phones))
        return bool(phones)


def words_of(text: str) -> list[str]:
    """Returns the lower-case words of `text`."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def class_of(phone: str) -> int:
    """Returns the class of an ARPAbet phone (stress marks are ignored), or 0 for silence and anything else."""
    return _CLASS_OF.get(phone.upper().rstrip("012"), BLANK)


def step_labels(segments: Sequence[PhoneSegment], num_samples: int) -> np.ndarray:
    """Returns one class every 10 ms, (ceil(num_samples / 160),) uint8; silence where no segment is."""
    labels = np.zeros(-(-num_samples // STEP), dtype=np.uint8)
    for segment in segments:
        labels[segment.start : segment.start + segment.length] = segment.label
    return labels


def frame_labels(
    labels: np.ndarray, num_frames: int, geometry: FrameGeometry, offset: float = 0.0, speed: float = 1.0
) -> np.ndarray:
    """Returns the class at the centre of each encoder frame, (num_frames,) int64; silence past the end.

    Args:
        labels: one class every 10 ms, (num_steps,).
        num_frames: how many frames.
        geometry: of the encoder.
        offset: the first frame's first sample, in samples of the labelled audio.
        speed: samples of the labelled audio per sample heard, for audio played faster or slower.
    """
    centres = np.arange(num_frames) * geometry.hop + geometry.receptive_field / 2
    steps = ((offset + centres * speed) / STEP).astype(np.int64)
    inside = (steps >= 0) & (steps < len(labels))
    return np.where(inside, labels[np.clip(steps, 0, len(labels) - 1)], BLANK).astype(np.int64)


def _segment(phone: Any) -> PhoneSegment:
    return PhoneSegment(class_of(phone.name), int(phone.start), int(phone.duration))
