"""A phrase nobody said, put together from what one person did say: phones ─▶ half phones in context ─▶ joined waveform.

Speech with a phone label every 10 ms is enough. Joins lie in the middle of phones, where sounds are steady, or there is
none, where the phones followed each other anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import soxr

from kws.data.alignment import NUM_CLASSES, STEP, class_of
from kws.data.negatives import word_parts
from kws.data.phone_search import holds_phrase
from kws.data.phones import pronounce
from kws.data.pool import PoolConfig, Speaker, Take, draw_texts, draw_texts_instead
from kws.data.synth.arpabet import VOWELS, from_espeak_input
from kws.data.synth.speech import is_phone_input
from kws.data.text import normalize
from kws.frames import SAMPLE_RATE

MAX_COST_A_PHONE = 1.3
"""Above this a phrase is not put together: the speaker's phones don't fit. Halves with wrong neighbours cost 1 each."""
JOIN_COST, SEAM_COST = 0.6, 2.2
"""Of a join in the middle of a phone, and of one between two phones that did not follow each other."""
DURATION_WEIGHT = 0.4
TEMPOS = (0.8, 1.7)
"""Phones of so many times the usual length are preferred, one factor a phrase: read sentences are faster than calls."""
NUM_CANDIDATES = 70
CHANCE = 0.35
"""How far random costs spread the choice among phones that fit about as well."""
SHORTEST_STEPS, LONGEST_STEPS = 2, 40
SPEEDS = (0.88, 1.14)
"""Each speaker's clips are played at one of these; pitch and formants move along, which makes more voices of a few."""
CROSSFADE = 128
SEARCH, SEARCH_STRIDE = 80, 4
"""Samples by which a piece may move so that its wave continues the one before."""
OTHER_SPEECH_S = 6

_KINDS = (
    *("P T K", "B D G", "CH JH", "F TH S SH HH", "V DH Z ZH", "M N NG", "L R ER", "W Y UW UH"),
    *("AA AO AH AW OW", "AE EH AY EY", "IH IY OY"),
)
"""Phones that colour their neighbours alike."""


class LabelledSpeech(Protocol):
    """One utterance."""

    @property
    def waveform(self) -> np.ndarray:
        """(num_samples,) float32, 16 kHz."""

    @property
    def labels(self) -> np.ndarray:
        """(num_steps,) phone class of every 10 ms (`kws.data.alignment`), 0 for silence."""


class PhoneInventory:
    """The phones that one speaker said, each with its neighbours."""

    def __init__(self, utterances: Sequence[LabelledSpeech]) -> None:
        self.utterances = utterances
        self.num_steps = sum(len(utterance.labels) for utterance in utterances)
        runs = [_runs(index, utterance.labels) for index, utterance in enumerate(utterances)]
        self._utterance, self._start, self._length, self._label, self._before, self._after = np.concatenate(runs).T
        usable = (self._length >= SHORTEST_STEPS) & (self._length <= LONGEST_STEPS)
        self._said = {label: np.flatnonzero(usable & (self._label == label)) for label in range(1, NUM_CLASSES)}

    def splice(self, phones: Sequence[int], rng: np.random.Generator) -> np.ndarray | None:
        """Returns `phones`, classes, as one waveform (num_samples,) float32; None where the speaker's don't fit."""
        if not phones or any(len(self._said[phone]) == 0 for phone in phones):
            return None
        path, cost = self._select(phones, rng)
        return self._render(self._pieces(path)) if cost <= MAX_COST_A_PHONE else None

    def _select(self, phones: Sequence[int], rng: np.random.Generator) -> tuple[list[tuple[int, int]], float]:
        """Returns the runs whose first and second half stand for each phone, and the cost a phone, by Viterbi search.

        Source: Hunt and Black 1996, "Unit selection in a concatenative speech synthesis system", eq. 1-5.
        """
        tempo = float(np.exp(rng.uniform(*np.log(TEMPOS))))
        candidates = [self._candidates(phones, place, tempo, rng) for place in range(len(phones))]
        links: list[np.ndarray] = []
        runs, cost, _ = candidates[0]
        for place, (following, first_costs, second_costs) in enumerate(candidates):
            if place:
                seams = cost[:, None] + np.where(runs[:, None] + 1 == following, 0.0, SEAM_COST)
                links.append(seams.argmin(0))
                cost = seams.min(0) + first_costs
            best = int(cost.argmin())
            stays = cost <= cost[best] + JOIN_COST
            links.append(np.where(stays, np.arange(len(cost)), best))
            cost = np.where(stays, cost, cost[best] + JOIN_COST) + second_costs
            runs = following
        index, path = int(cost.argmin()), []
        for place in reversed(range(len(phones))):
            first = int(links[2 * place][index])
            path.append((int(candidates[place][0][first]), int(candidates[place][0][index])))
            index = int(links[2 * place - 1][first]) if place else first
        return path[::-1], float(cost.min()) / len(phones)

    def _candidates(
        self, phones: Sequence[int], place: int, tempo: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns runs of the phone at `place` and what their first and second halves cost."""
        runs = self._said[phones[place]]
        first, second = np.zeros(len(runs)), np.where(self._after[runs] == 0, 0.0, 0.3)
        if place > 0:
            first = _MISMATCH[self._before[runs], phones[place - 1]]
        if place + 1 < len(phones):
            second = _MISMATCH[self._after[runs], phones[place + 1]]
        lengths = self._length[runs]
        duration = DURATION_WEIGHT * np.abs(np.log(lengths / (np.median(lengths) * tempo)))
        chosen = np.argsort(first + second + duration + CHANCE * rng.gumbel(size=len(runs)))[:NUM_CANDIDATES]
        chance = CHANCE / 2 * rng.gumbel(size=(2, len(chosen)))
        return runs[chosen], (first + duration / 2)[chosen] + chance[0], (second + duration / 2)[chosen] + chance[1]

    def _pieces(self, path: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
        """Returns (utterance, first sample, sample after the last) of the stretches, halves that touch made one."""
        pieces: list[tuple[int, int, int]] = []
        for run, is_second in [(run, half) for halves in path for half, run in enumerate(halves)]:
            utterance, begin, length = (int(part[run]) for part in (self._utterance, self._start, self._length))
            middle = begin * STEP + length * STEP // 2
            start, end = (middle, (begin + length) * STEP) if is_second else (begin * STEP, middle)
            if pieces and pieces[-1][0] == utterance and pieces[-1][2] == start:
                start = pieces.pop()[1]
            pieces.append((utterance, start, end))
        return pieces

    def _render(self, pieces: list[tuple[int, int, int]]) -> np.ndarray:
        """Returns the stretches cross-faded, each moved so that it correlates best with the end of the one before."""
        rise = np.linspace(0, 1, CROSSFADE, dtype=np.float32)
        margin = CROSSFADE // 2 + SEARCH
        joined = np.zeros(0, np.float32)
        for utterance, start, end in pieces:
            piece = _cut(self.utterances[utterance].waveform, start - margin, end + margin)
            if not len(joined):
                joined = piece[SEARCH:-SEARCH].copy()
                continue
            tail = joined[-CROSSFADE:]
            offsets = range(0, 2 * SEARCH + 1, SEARCH_STRIDE)
            best = max(offsets, key=lambda offset: _correlation(tail, piece[offset : offset + CROSSFADE]))
            piece = piece[best:-SEARCH]
            overlap = tail * rise[::-1] + piece[:CROSSFADE] * rise
            joined = np.concatenate([joined[:-CROSSFADE], overlap, piece[CROSSFADE:]])
        joined[:CROSSFADE] *= rise
        joined[-CROSSFADE:] *= rise[::-1]
        return joined


def spliced_speaker(
    phrase: str,
    confusables: list[str],
    inventory: PhoneInventory,
    num_phrases: int,
    config: PoolConfig,
    rng: np.random.Generator,
) -> Speaker | None:
    """Returns a speaker who "says" the phrase and what sounds like it, and otherwise what he did say; None if he can't.

    `confusables` are the texts that sound like it (`confusable_texts`), of which he says some.

    Raises:
        SynthesisError: no eSpeak library to pronounce the phrase.
    """
    speed = float(rng.uniform(*SPEEDS))
    target = phone_classes(phrase)
    spliced = [inventory.splice(target, rng) for _ in range(num_phrases)]
    takes = [_take(_played(clip, speed)) for clip in spliced if clip is not None]
    if not takes:
        return None
    chosen = draw_texts(confusables, config.confusables, rng)
    instead = draw_texts_instead(confusables, word_parts(phrase), config.word_parts, rng)
    parts, close = ([_take(clip) for clip in _spliced(texts, inventory, speed, rng)] for texts in instead)
    sentences = [clip[: OTHER_SPEECH_S * SAMPLE_RATE] for clip in other_speech(inventory, target, num_phrases, rng)]
    others = [_played(clip, speed) for clip in sentences]
    return Speaker(takes, _spliced(chosen, inventory, speed, rng), others, parts, close)


def _spliced(texts: list[str], inventory: PhoneInventory, speed: float, rng: np.random.Generator) -> list[np.ndarray]:
    spliced = (inventory.splice(phone_classes(text), rng) for text in texts)
    return [_played(clip, speed) for clip in spliced if clip is not None]


def _take(waveform: np.ndarray) -> Take:
    return Take(waveform, len(waveform) / SAMPLE_RATE)


def other_speech(
    inventory: PhoneInventory, phones: Sequence[int], num_clips: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Returns up to `num_clips` utterances of the speaker in which `phones` are not said, as waveforms."""
    order = (inventory.utterances[index] for index in rng.permutation(len(inventory.utterances)))
    return [utterance.waveform for utterance in islice(_without(order, phones), num_clips)]


def _without(utterances: Iterable[LabelledSpeech], phones: Sequence[int]) -> Iterator[LabelledSpeech]:
    return (utterance for utterance in utterances if not holds_phrase(utterance.labels, phones))


def phone_classes(text: str) -> list[int]:
    """Returns the phone classes of `text`, plain or `[[...]]` input.

    Raises:
        SynthesisError: no eSpeak library to pronounce it.
    """
    words = from_espeak_input(text) if is_phone_input(text) else pronounce(normalize(text))
    return [class_of(phone) for word in words for phone in word]


def _played(clip: np.ndarray, speed: float) -> np.ndarray:
    return soxr.resample(clip, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32, copy=False)


def _runs(utterance: int, labels: np.ndarray) -> np.ndarray:
    """Returns (num_runs, 6) of equal labels: utterance, first step, steps, label, label before, label after."""
    starts = np.flatnonzero(np.diff(labels.astype(np.int64), prepend=-1))
    found = labels[starts].astype(np.int64)
    lengths = np.diff(starts, append=len(labels))
    return np.stack(
        [np.full(len(starts), utterance), starts, lengths, found, np.r_[0, found[:-1]], np.r_[found[1:], 0]], axis=1
    )


def _cut(waveform: np.ndarray, start: int, end: int) -> np.ndarray:
    """Returns samples `start` to `end`, silence beyond the ends."""
    inside = waveform[max(0, start) : max(0, end)]
    return np.pad(inside, (max(0, -start), end - max(0, start) - len(inside)))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.sqrt((first @ first) * (second @ second) + 1e-9))


def _mismatch() -> np.ndarray:
    """Returns (classes, classes): what it costs that the one stands where the other is wanted."""
    kind = np.zeros(NUM_CLASSES, np.int64)
    is_vowel = np.zeros(NUM_CLASSES, bool)
    for index, phones in enumerate(_KINDS, 1):
        kind[[class_of(phone) for phone in phones.split()]] = index
    is_vowel[[class_of(phone) for phone in VOWELS]] = True
    cost = np.where(is_vowel[:, None] == is_vowel, 0.8, 1.0)
    cost = np.where(kind[:, None] == kind, 0.35, cost)
    np.fill_diagonal(cost, 0.0)
    return cost


_MISMATCH = _mismatch()
