"""What a transfer study measured: cells ─▶ start, slope and end of each mode ─▶ a verdict that chance can't explain.

"Transfer" is compared with training from nothing on the same clips, with whatever does best there.

Source of the three parts: Torrey & Shavlik 2009, "Transfer Learning" (Handbook of Research on Machine Learning
Applications, chapter 11), the figure "Three ways in which transfer might improve learning": a higher start, a higher
slope, a higher asymptote. Taylor & Stone 2009, JMLR 10, add the time to a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from kws.config import from_dict

START, SLOPE, END = "start", "slope", "end"
NOTHING = ("random", "small")
"""Modes that begin with nothing: the same network from random weights, and a small one."""
NUM_RESAMPLES = 2000
TAIL = 0.025
"""On each side of a 95 % interval."""

Outcome = Literal["ahead", "behind", "unclear"]


@dataclass(frozen=True)
class Cell:
    """One training run of the study, measured on the test.

    Attributes:
        mode: what was carried over.
        size: clips of each label (of the word, where there is only one) that it learned from.
        seed: of the draw of clips, of weights and of batches.
        epochs: after which it was measured, rising.
        scores: mean recall over the labels after each of them, 0 to 1.
        predicted: label of each test clip after the last.
        trained_parameters: numbers that training changed.
        parameters: numbers in the whole network.
        cpu_s: CPU seconds of training, encoding included, measuring left out.
        setting: fingerprint of everything else that decides the result.
    """

    mode: str
    size: int
    seed: int
    epochs: tuple[int, ...]
    scores: tuple[float, ...]
    predicted: tuple[int, ...]
    trained_parameters: int
    parameters: int
    cpu_s: float
    setting: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it for JSON."""
        return asdict(self)

    @classmethod
    def read(cls, values: dict[str, Any]) -> Cell:
        """Returns the cell that `to_dict` gave; raises ConfigError if it is none."""
        return from_dict(cls, values)


@dataclass(frozen=True)
class Curve:
    """A learning curve with the three parts that transfer may raise.

    Attributes:
        at: epochs, or clips of each label, rising.
        mean: score at each, mean over the seeds.
        low: the lowest of the seeds.
        high: the highest of the seeds.
    """

    at: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def start(self) -> float:
        """The score at the first point: after the first epoch, or with the fewest clips."""
        return self.mean[0]

    @property
    def end(self) -> float:
        """The score at the last point."""
        return self.mean[-1]

    @property
    def slope(self) -> float:
        """The mean rise each time that epochs (or clips) double, by least squares; 0 with a single point."""
        if len(self.at) < 2:
            return 0.0
        return float(np.polyfit(np.log2(self.at), self.mean, 1)[0])

    def reaches(self, score: float) -> int | None:
        """Returns the first point whose mean is at least `score`, None if there is none."""
        return next((at for at, mean in zip(self.at, self.mean) if mean >= score), None)

    def to_dict(self) -> dict[str, Any]:
        """Returns the curve and its three parts for JSON."""
        return asdict(self) | {START: self.start, SLOPE: self.slope, END: self.end}


@dataclass(frozen=True)
class Difference:
    """A mode's end against training from nothing, on the same clips.

    Attributes:
        mode: the one compared.
        reference: what it is compared with.
        size: clips of each label.
        difference: of the scores, positive where `mode` is better.
        low: of the 95 % interval.
        high: likewise.
        num_seeds: that both have.
    """

    mode: str
    reference: str
    size: int
    difference: float
    low: float
    high: float
    num_seeds: int

    @property
    def outcome(self) -> Outcome:
        """Whether the interval leaves zero out, and on which side; one seed alone proves nothing."""
        if self.num_seeds < 2 or self.low <= 0 <= self.high:
            return "unclear"
        return "ahead" if self.low > 0 else "behind"

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it for JSON."""
        return asdict(self) | {"outcome": self.outcome}


class Study:
    """All cells of one study.

    Args:
        cells: one or more, each (mode, size, seed) once.
        truth: (num_clips,) label of each test clip.
        labels: their names.
    """

    def __init__(self, cells: Sequence[Cell], truth: Sequence[int], labels: Sequence[str]) -> None:
        self.cells, self.labels = list(cells), tuple(labels)
        self.truth = np.asarray(truth, np.int64)
        self.modes = list(dict.fromkeys(cell.mode for cell in self.cells))
        self.sizes = sorted({cell.size for cell in self.cells})

    def reference(self, size: int) -> str | None:
        """Returns the mode from nothing that ends highest with `size` clips; None if there is none."""
        found = {mode: self.of(mode, size) for mode in NOTHING}
        ends = {mode: np.mean([cell.scores[-1] for cell in cells]) for mode, cells in found.items() if cells}
        return max(ends, key=lambda mode: ends[mode]) if ends else None

    def of(self, mode: str, size: int) -> list[Cell]:
        """Returns the cells of `mode` and `size`, by seed."""
        found = [cell for cell in self.cells if cell.mode == mode and cell.size == size]
        return sorted(found, key=lambda cell: cell.seed)

    def over_epochs(self, mode: str, size: int) -> Curve:
        """Returns the learning curve of `mode` over epochs, with `size` clips of each label."""
        cells = self.of(mode, size)
        return _curve(cells[0].epochs, [cell.scores for cell in cells])

    def over_sizes(self, mode: str) -> Curve:
        """Returns the learning curve of `mode` over data, each point after the last epoch."""
        ends = {size: [cell.scores[-1] for cell in self.of(mode, size)] for size in self.sizes}
        ends = {size: scores for size, scores in ends.items() if scores}
        return Curve(tuple(ends), *(tuple(float(f(s)) for s in ends.values()) for f in (np.mean, np.min, np.max)))

    def largest_size(self, mode: str) -> int:
        """Returns the most clips that `mode` was trained with."""
        return max(cell.size for cell in self.cells if cell.mode == mode)

    def difference(self, mode: str, reference: str, size: int) -> Difference | None:
        """Returns by how much `mode` ends above `reference`, over the seeds that both have; None without such.

        The interval counts the chance in the test's clips and in the seeds (draw of clips, weights, batches), both
        drawn again with replacement. Source: the pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1(2),
        which errs on the wide side; clips are drawn within their label.
        """
        first, second = ({cell.seed: cell for cell in self.of(name, size)} for name in (mode, reference))
        seeds = sorted(first.keys() & second.keys())
        if not seeds:
            return None
        rows = [self._hits(first[seed]) - self._hits(second[seed]) for seed in seeds]
        values = np.stack(rows) * self._shares()  # (num_seeds, num_clips); a row's sum is a difference of scores
        low, high = np.quantile(self._resampled(values), [TAIL, 1 - TAIL])
        return Difference(mode, reference, size, float(values.sum(1).mean()), float(low), float(high), len(seeds))

    def confusion(self, mode: str, size: int) -> np.ndarray:
        """Returns (num_labels, num_labels) counts over the seeds: true label by row, heard label by column."""
        matrix = np.zeros((len(self.labels),) * 2, np.int64)
        for cell in self.of(mode, size):
            np.add.at(matrix, (self.truth, np.asarray(cell.predicted)), 1)
        return matrix

    def accuracy(self, mode: str, size: int) -> float:
        """Returns the share of test clips that `mode` hears right, mean over the seeds."""
        return float(np.mean([self._hits(cell).mean() for cell in self.of(mode, size)]))

    def _hits(self, cell: Cell) -> np.ndarray:
        return (np.asarray(cell.predicted) == self.truth).astype(np.float64)

    def _shares(self) -> np.ndarray:
        """Returns (num_clips,) what each clip counts, so that every label counts the same."""
        counts = np.bincount(self.truth, minlength=len(self.labels))
        return 1 / (np.count_nonzero(counts) * counts[self.truth])

    def _resampled(self, values: np.ndarray) -> np.ndarray:
        """Returns (NUM_RESAMPLES,) sums over clips, mean over seeds, of seeds and clips drawn with replacement."""
        rng = np.random.default_rng(0)
        num_seeds = len(values)
        by_seed = np.zeros((NUM_RESAMPLES, num_seeds))
        for label in np.unique(self.truth):
            group = np.flatnonzero(self.truth == label)
            times = rng.multinomial(len(group), np.full(len(group), 1 / len(group)), NUM_RESAMPLES)
            by_seed += times @ values[:, group].T
        seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), NUM_RESAMPLES)
        return (by_seed * seeds).sum(1) / num_seeds


def mean_recall(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the share of each label's clips that are heard right, mean over the labels: chance is 1 / labels."""
    return float(np.mean([(predicted[truth == label] == label).mean() for label in np.unique(truth)]))


def differences(study: Study, mode: str) -> list[Difference]:
    """Returns how `mode` ends against the best from nothing, by size, where both have a seed in common."""
    references = {size: study.reference(size) for size in study.sizes}
    pairs = [(size, name) for size, name in references.items() if name not in (None, mode)]
    found = [study.difference(mode, name or "", size) for size, name in pairs]
    return [difference for difference in found if difference]


def verdict(study: Study) -> list[str]:
    """Returns what the study shows, a sentence or two for each mode; "negative transfer" only where it is shown."""
    if not set(NOTHING) & set(study.modes):
        return [f"Nothing was trained from nothing ({', '.join(NOTHING)}), so there is nothing to compare with."]
    return [_verdict_on(study, mode) for mode in study.modes if mode not in NOTHING]


def _verdict_on(study: Study, mode: str) -> str:
    found = differences(study, mode)
    if not found:
        return f"{mode}: no run of it can be compared with one from nothing yet."
    last, points = found[-1], _points
    ends = (
        f"{mode} ends at {study.over_epochs(mode, last.size).end:.1%} with {last.size} clips, '{last.reference}' from "
        f"nothing at {study.over_epochs(last.reference, last.size).end:.1%}: {points(last.difference)} "
        f"(95 % interval {100 * last.low:+.1f} to {100 * last.high:+.1f})"
    )
    conclusion = {
        "ahead": "transfer helps.",
        "behind": "NEGATIVE TRANSFER: training from nothing ends higher; don't carry this encoder over to this task.",
        "unclear": "no difference that these seeds and this test can show.",
    }[last.outcome]
    if last.num_seeds < 2:
        conclusion = "one seed can't tell this from chance; run with --seeds 2 or more."
    return " ".join([f"{ends}: {conclusion}", *_smaller_sizes(found[:-1]), _start_and_slope(study, last)])


def _smaller_sizes(found: Sequence[Difference]) -> list[str]:
    words = {"ahead": "ahead", "behind": "BEHIND (negative transfer)", "unclear": "no clear difference"}
    parts = [f"{one.size} clips {_points(one.difference)}, {words[one.outcome]}" for one in found]
    return [f"With fewer: {'; '.join(parts)}."] if parts else []


def _start_and_slope(study: Study, last: Difference) -> str:
    ours, theirs = (study.over_epochs(mode, last.size) for mode in (last.mode, last.reference))
    reached = ours.reaches(theirs.end)
    when = "never reaches the latter's end" if reached is None else f"reaches the latter's end in epoch {reached}"
    return (
        f"Start {ours.start:.1%} against {theirs.start:.1%}, rise a doubling of epochs {_points(ours.slope)} against "
        f"{_points(theirs.slope)}; it {when}."
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _curve(at: Sequence[int], rows: Sequence[Sequence[float]]) -> Curve:
    scores = np.asarray(rows, np.float64)
    return Curve(tuple(at), *(tuple(map(float, f(scores, axis=0))) for f in (np.mean, np.min, np.max)))
