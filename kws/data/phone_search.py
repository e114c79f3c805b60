"""Whether a phrase is said in labelled speech: phone labels ─▶ phones ─▶ edits between the phrase and any stretch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kws.data.alignment import BLANK

PHONES_AN_EDIT = 6
"""A phrase counts as said also with one phone wrong or missing for every so many: alignments lose short phones."""


def holds_phrase(labels: np.ndarray, phones: Sequence[int]) -> bool:
    """Returns whether `phones` are said in an utterance.

    Args:
        labels: (num_steps,) phone classes at any even pace, 0 for silence.
        phones: the phrase's classes.
    """
    return fewest_edits(spoken_phones(labels), phones) <= len(phones) // PHONES_AN_EDIT


def spoken_phones(labels: np.ndarray) -> list[int]:
    """Returns the phones of (num_steps,) `labels` in their order, silences left out."""
    changes = np.flatnonzero(np.diff(labels.astype(np.int64), prepend=BLANK))
    return [int(label) for label in labels[changes] if label != BLANK]


def fewest_edits(spoken: Sequence[int], phones: Sequence[int]) -> int:
    """Returns the fewest edits between `phones` and any stretch of `spoken`.

    Source: Sellers 1980, "The theory and computation of evolutionary distances".
    """
    row = [0] * (len(spoken) + 1)
    for index, phone in enumerate(phones, 1):
        previous, row = row, [index]
        for position, other in enumerate(spoken, 1):
            row.append(min(previous[position] + 1, row[-1] + 1, previous[position - 1] + (phone != other)))
    return min(row)
