"""How well an encoder's output layer hears phones: frame accuracy and phone error rate on held-out speech.

prepared speech ──▶ encoder + output layer ──▶ greedy classes ──▶ collapsed phones ──▶ edit distance
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from kws.data.alignment import BLANK, WORD_BOUNDARY, class_of, frame_labels
from kws.frames import SAMPLE_RATE, FrameGeometry
from kws.train.speech_cache import SpeechCache

SMOOTHING_FRAMES = 7
"""Frames averaged before the greedy choice in `smoothed_phone_error_rate`: frame-wise training flickers."""


@dataclass(frozen=True)
class PhoneScore:
    """What was measured on one corpus split.

    Attributes:
        corpus: name of the prepared folder.
        minutes: audio measured.
        num_phones: phones in the references.
        frame_accuracy: share of frames with the aligned class, silence included.
        speech_frame_accuracy: the same, over frames aligned with a phone.
        phone_error_rate: substitutions, deletions and insertions per reference phone, greedy, no word boundary, of the
            frame-wise output layer.
        smoothed_phone_error_rate: the same after averaging log probabilities over seven frames.
        ctc_phone_error_rate: that of CTC's output layer, greedy, not averaged.
    """

    corpus: str
    minutes: float
    num_phones: int
    frame_accuracy: float
    speech_frame_accuracy: float
    phone_error_rate: float
    smoothed_phone_error_rate: float
    ctc_phone_error_rate: float

    def as_dict(self) -> dict[str, float | int | str]:
        """Returns the score as plain values, rounded to four places."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def measure_phones(
    model: nn.Module,
    cache: SpeechCache,
    geometry: FrameGeometry,
    minutes: float | None,
    block_frames: int,
    left_context_frames: int,
) -> PhoneScore:
    """Returns the score of `model` on every n-th utterance of `cache`, about `minutes` of it, or all.

    Args:
        model: `model(waveforms, block_frames, left_context_frames)` → `PhoneLogits`.
        cache: held-out speech.
        geometry: of the encoder.
        minutes: how much to measure; None measures all.
        block_frames: attention block.
        left_context_frames: frames seen before the block.
    """
    device = next(model.parameters()).device
    right = np.zeros(4)  # frames right, frames, speech frames right, speech frames
    errors = np.zeros(3)  # frame-wise, frame-wise smoothed, CTC
    num_phones, num_samples = 0, 0
    for index in _every_nth(cache, minutes):
        samples, labels = cache.piece(index)
        with torch.inference_mode():
            logits = model(torch.from_numpy(samples)[None].to(device), block_frames, left_context_frames)
        log_probs, ctc_log_probs = (torch.log_softmax(one[0].float(), dim=-1).cpu().numpy() for one in logits)
        truth = frame_labels(labels, len(log_probs), geometry)
        is_right, is_speech = log_probs.argmax(axis=1) == truth, truth != BLANK
        right += (is_right.sum(), len(truth), (is_right & is_speech).sum(), is_speech.sum())
        reference = [class_of(phone) for phone in cache.rows[index]["phones"].split()]
        heard = [greedy_phones(log_probs), greedy_phones(log_probs, SMOOTHING_FRAMES), greedy_phones(ctc_log_probs)]
        errors += [edit_distance(reference, phones) for phones in heard]
        num_phones, num_samples = num_phones + len(reference), num_samples + len(samples)
    return PhoneScore(
        corpus=cache.name,
        minutes=num_samples / SAMPLE_RATE / 60,
        num_phones=num_phones,
        frame_accuracy=float(right[0] / max(1, right[1])),
        speech_frame_accuracy=float(right[2] / max(1, right[3])),
        phone_error_rate=float(errors[0] / max(1, num_phones)),
        smoothed_phone_error_rate=float(errors[1] / max(1, num_phones)),
        ctc_phone_error_rate=float(errors[2] / max(1, num_phones)),
    )


def greedy_phones(log_probs: np.ndarray, smoothing: int = 1) -> list[int]:
    """Returns the best class of each frame with repeats merged, silence and word boundaries dropped.

    Args:
        log_probs: (num_frames, num_classes).
        smoothing: odd number of frames whose log probabilities are averaged first.
    """
    if smoothing > 1:
        kernel = np.ones(smoothing) / smoothing
        log_probs = np.apply_along_axis(np.convolve, 0, log_probs, kernel, mode="same")
    best = log_probs.argmax(axis=1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    return [int(label) for label in best[starts] if label not in (BLANK, WORD_BOUNDARY)]


def edit_distance(reference: Sequence[int], heard: Sequence[int]) -> int:
    """Returns the fewest substitutions, deletions and insertions that turn `reference` into `heard`.

    Source: Levenshtein 1966; the insertions of a row are a running minimum, so a row is vectorised.
    """
    target = np.asarray(heard)
    columns = np.arange(len(target) + 1)
    row = columns.copy()
    for count, symbol in enumerate(reference, start=1):
        best = np.empty_like(row)
        best[0] = count
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (target != symbol))
        row = np.minimum.accumulate(best - columns) + columns
    return int(row[-1])


def _every_nth(cache: SpeechCache, minutes: float | None) -> range:
    total = sum(row["length"] for row in cache.rows) / SAMPLE_RATE / 60
    return range(0, len(cache.rows), max(1, round(total / minutes)) if minutes else 1)
