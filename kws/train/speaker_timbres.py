"""Speech in the timbre of another speaker: few people become many.

aligned speech ──▶ each speaker's mean envelope of each phone ──▶ a crop × exp(another's mean − the speaker's own)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from kws.data.alignment import BLANK, WORD_BOUNDARY
from kws.data.synth.timbre import EnvelopeSums, mean_envelopes, move_envelopes
from kws.train.speech_cache import SpeechCache

MOST_STEPS = 60_000
"""Hundredths of a second taken of one speaker."""
STRENGTH = (0.3, 1.2)
"""How far, between a speaker's own envelopes and the other's, speech is moved; above 1 beyond the other's."""


class SpeakerTimbres:
    """What moves speech from one speaker's timbre towards that of others.

    Args:
        envelopes: (NUM_STATES, NUM_BANDS) mean log amplitudes of each speaker, by corpus and speaker.
    """

    def __init__(self, envelopes: Mapping[tuple[str, str], np.ndarray]) -> None:
        self._envelopes = dict(envelopes)
        self._all = list(self._envelopes.values())

    def give(
        self, waveform: np.ndarray, labels: np.ndarray, corpus: str, speaker: str | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns `waveform` (num_samples,) float32 as somebody between two other speakers might say it.

        Args:
            waveform: of one speaker.
            labels: (num_steps,) its phone class every 10 ms.
            corpus: whose speaker it is.
            speaker: who speaks, None if nobody knows; speech of those of whom too little is known stays as it is.
            rng: whose timbre, and how far.
        """
        own = None if speaker is None else self._envelopes.get((corpus, speaker))
        if own is None:
            return waveform
        one, other = (self._all[int(rng.integers(len(self._all)))] for _ in range(2))
        share = rng.random()
        gains = rng.uniform(*STRENGTH) * (share * one + (1 - share) * other - own)
        return move_envelopes(waveform, without_boundaries(labels), gains.astype(np.float32))


def measure_timbres(caches: Iterable[SpeechCache]) -> SpeakerTimbres:
    """Returns the timbres of all speakers in `caches` who say enough."""
    sums = {key: one for cache in caches for key, one in sums_of_speakers(cache).items()}
    envelopes, _ = mean_envelopes(list(sums.values()))
    keys = list(sums)
    return SpeakerTimbres({keys[index]: means for index, means in envelopes.items()})


def sums_of_speakers(cache: SpeechCache) -> dict[tuple[str, str], EnvelopeSums]:
    """Returns the sums of each speaker of one corpus, by its name and theirs."""
    sums: dict[tuple[str, str], EnvelopeSums] = {}
    for index, row in enumerate(cache.rows):
        if "speaker" not in row:
            continue
        speaker = sums.setdefault((cache.name, row["speaker"]), EnvelopeSums())
        if speaker.num_steps < MOST_STEPS:
            waveform, labels = cache.piece(index)
            speaker.add(waveform, without_boundaries(labels))
    return sums


def without_boundaries(labels: np.ndarray) -> np.ndarray:
    """Returns `labels` as int64 with silence for word boundaries."""
    return np.where(labels == WORD_BOUNDARY, BLANK, labels).astype(np.int64)
