"""Wake words on the same audio: who misses fewer at the same false alarms an hour, and whether that can be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kws.detect.detector import Detector
from kws.evaluate.cost import Cost
from kws.evaluate.material import CLEAN, Scores
from kws.evaluate.metrics import (
    CONFIDENCE,
    REPORTED_FALSE_ALARMS_PER_HOUR,
    OperatingPoint,
    count_firings,
    mcnemar,
    point_at,
)
from kws.evaluate.protocol import evaluate

VERDICT_RATE = 0.5
"""False alarms an hour at which the verdict is given, on clean recordings: one test, chosen before looking."""


@dataclass(frozen=True)
class Contender:
    """One wake word, as measured.

    Attributes:
        name: how the user named it.
        points: what it gives at each reported rate, by condition.
        hits: (num_positives,) bool, which recordings it heard, by rate and condition.
        cost: of one live stream; None if it was not measured.
    """

    name: str
    points: Mapping[float, Mapping[str, OperatingPoint]]
    hits: Mapping[float, Mapping[str, np.ndarray]]
    cost: Cost | None = None

    def meets(self, rate: float) -> bool:
        """Returns whether some threshold keeps it at or under `rate` false alarms an hour."""
        return all(point.false_alarms_per_hour <= rate for point in self.points[rate].values())


@dataclass(frozen=True)
class PairedTest:
    """One wake word against the first on the same recordings.

    Attributes:
        name: the other wake word.
        condition: in which they were heard.
        false_alarms_per_hour: at most so many, for both.
        only_first: recordings that the first alone heard.
        only_other: recordings that the other alone heard.
        p_value: of McNemar's exact test, two-sided.
    """

    name: str
    condition: str
    false_alarms_per_hour: float
    only_first: int
    only_other: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the values, for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Comparison:
    """Wake words, the first against each other one."""

    contenders: Sequence[Contender]
    tests: Sequence[PairedTest]

    @property
    def least_p_value(self) -> float:
        """What a p value must be under so that the table as a whole errs in one of twenty (Bonferroni)."""
        return (1 - CONFIDENCE) / max(1, len(self.tests))

    def to_dict(self) -> dict[str, Any]:
        """Returns counts, rates, intervals and tests, for JSON."""
        return {
            "models": [
                {
                    "model": contender.name,
                    "conditions": {
                        condition: {str(rate): points[condition].to_dict() for rate, points in contender.points.items()}
                        for condition in self.conditions
                    },
                    "cost": None if contender.cost is None else contender.cost.to_dict(),
                }
                for contender in self.contenders
            ],
            "tests": [test.to_dict() for test in self.tests],
            "verdicts": verdicts(self),
        }

    @property
    def conditions(self) -> list[str]:
        """The names of the conditions."""
        return list(next(iter(self.contenders[0].points.values())))


def contend(name: str, detector: Detector, keyword: str, scores: Scores, cost: Cost | None = None) -> Contender:
    """Returns how `keyword` of `detector` does at each reported rate of false alarms.

    Raises:
        ConfigError: the detector has no such keyword.
    """
    evaluation = evaluate(detector, keyword, scores.positives, scores.negatives)
    column = detector.keywords.index(keyword)
    points = {
        rate: {condition: point_at(curve, rate) for condition, curve in evaluation.curves.items()}
        for rate in reversed(REPORTED_FALSE_ALARMS_PER_HOUR)
    }

    def hits(point: OperatingPoint, condition: str) -> np.ndarray:
        trigger = evaluation.trigger_at(point.threshold)
        clips = scores.positives[condition]
        return np.array([bool(count_firings(clip[:, column], trigger, evaluation.hop_s)) for clip in clips], bool)

    return Contender(
        name,
        points,
        {rate: {condition: hits(point, condition) for condition, point in at.items()} for rate, at in points.items()},
        cost,
    )


def compare(contenders: Sequence[Contender]) -> Comparison:
    """Returns the first of `contenders`, two or more, against each other one, on the same recordings."""
    first, *others = contenders
    tests = [
        PairedTest(other.name, condition, rate, *mcnemar(hits, other.hits[rate][condition]))
        for other in others
        for rate, at in first.hits.items()
        for condition, hits in at.items()
    ]
    return Comparison(contenders, tests)


def verdicts(comparison: Comparison) -> list[str]:
    """Returns a sentence for each other wake word: better, worse, or not to be told apart from the first."""
    first = comparison.contenders[0]
    sentences = []
    for other in comparison.contenders[1:]:
        test = _deciding(comparison, other.name)
        misses, first_misses = (one.points[VERDICT_RATE][CLEAN] for one in (other, first))
        rates = f"{misses.false_rejection_rate:.1%} against {first_misses.false_rejection_rate:.1%}"
        alone = f"{test.only_other} recordings were heard by it alone, {test.only_first} by the first alone"
        unmet = [one.name for one in (first, other) if not one.meets(VERDICT_RATE)]
        if unmet:
            sentences.append(
                f"No verdict: no threshold holds {unmet[0]} to {VERDICT_RATE:g} false alarms an hour here."
            )
            continue
        if test.p_value >= 1 - CONFIDENCE:
            claim = f"{other.name} can't be told apart from {first.name}"
        else:
            claim = f"{other.name} misses {'fewer' if test.only_other > test.only_first else 'more'} than {first.name}"
        sentences.append(
            f"{claim} on clean recordings at {VERDICT_RATE:g} false alarms an hour: {rates} missed; {alone} "
            f"(McNemar's exact test, p = {test.p_value:.2g})."
        )
    return sentences


def helps(comparison: Comparison, name: str) -> bool:
    """Returns whether the wake word `name` misses fewer than the first by more than chance, as `verdicts` says it."""
    test = _deciding(comparison, name)
    both = [one for one in comparison.contenders if one is comparison.contenders[0] or one.name == name]
    is_met = all(one.meets(VERDICT_RATE) for one in both)
    return is_met and test.only_other > test.only_first and test.p_value < 1 - CONFIDENCE


def _deciding(comparison: Comparison, name: str) -> PairedTest:
    wanted = (name, CLEAN, VERDICT_RATE)
    return next(test for test in comparison.tests if (test.name, test.condition, test.false_alarms_per_hour) == wanted)


def format_comparison(comparison: Comparison) -> str:
    """Returns the comparison as text: a table for each condition, cost, and the verdict."""
    first = comparison.contenders[0]
    any_point = next(iter(first.points.values()))[CLEAN]
    width = max(map(len, [*comparison.conditions, *(contender.name for contender in comparison.contenders)]))
    lines = [
        f"misses of {any_point.num_positives} at false alarms an hour, in {any_point.hours:.2f} h without the phrase"
    ]
    for condition in comparison.conditions:
        heads = "".join(f"{f'{rate:g}/h':>22}" for rate in first.points)
        lines.append(f"\n{condition:{width}}{heads}")
        for contender in comparison.contenders:
            cells = "".join(_cell(comparison, contender, rate, condition) for rate in first.points)
            lines.append(f"{contender.name:{width}}{cells}")
    lines.append("")
    for contender in comparison.contenders:
        if contender.cost is not None:
            memory = contender.cost.peak_memory_mb
            peak = f", {memory:.0f} MB at most" if memory is not None else ""
            lines.append(
                f"{contender.name:{width}}  {contender.cost.cpu_s_per_s:.4f} CPU s for a second of audio{peak}"
            )
    lines.append("")
    lines += verdicts(comparison)
    lines.append(
        f"p: against the first, McNemar's exact test; * under {comparison.least_p_value:.2g}, which allows for "
        f"{len(comparison.tests)} tests. Thresholds were chosen on the same audio and are taken as given."
    )
    if any_point.hours * min(first.points) < 1:
        lines.append(f"In {any_point.hours:.2f} h, rates under {1 / any_point.hours:.2g}/h all mean: not one alarm.")
    return "\n".join(lines)


def _cell(comparison: Comparison, contender: Contender, rate: float, condition: str) -> str:
    share = f"{contender.points[rate][condition].false_rejection_rate:.1%}"
    found = [
        test
        for test in comparison.tests
        if (test.name, test.condition, test.false_alarms_per_hour) == (contender.name, condition, rate)
    ]
    if contender is comparison.contenders[0] or not found:
        return f"{share:>11}{'':11}"
    mark = "*" if found[0].p_value < comparison.least_p_value else " "
    return f"{share:>11} {f'p={found[0].p_value:.2g}{mark}':<10}"
