"""Comparison: counts by hand, the paired test, and a verdict that claims nothing the test doesn't carry."""

import json

import numpy as np
import pytest

from kws.detect.detector import Detector
from kws.evaluate.compare import Contender, compare, contend, format_comparison, helps, verdicts
from kws.evaluate.cost import Cost
from kws.evaluate.material import Scores
from kws.evaluate.metrics import OperatingPoint
from kws.evaluate.protocol import NegativeScores

RATES = (2.0, 1.0, 0.5, 0.1)


def contender(name, hits, num_alarms=0, cost=None):
    hits = np.asarray(hits, bool)
    point = OperatingPoint(0.5, int((~hits).sum()), len(hits), num_alarms, 10.0)
    at = {"clean": point, "10 dB": point}
    heard = {"clean": hits, "10 dB": hits}
    return Contender(name, dict.fromkeys(RATES, at), dict.fromkeys(RATES, heard), cost)


def test_a_clear_difference_is_stated_with_its_counts():
    first = contender("old", [True] * 10 + [False] * 20)
    other = contender("new", [True] * 9 + [False] + [True] * 12 + [False] * 8)
    comparison = compare([first, other])
    assert len(comparison.tests) == 8  # four rates, two conditions
    test = comparison.tests[0]
    assert (test.only_first, test.only_other) == (1, 12)
    assert test.p_value == pytest.approx(2 * (1 + 13) / 2**13)
    (sentence,) = verdicts(comparison)
    assert sentence.startswith("new misses fewer than old on clean recordings at 0.5 false alarms an hour")
    assert "30.0% against 66.7% missed; 12 recordings were heard by it alone, 1 by the first alone" in sentence
    assert "p=0.0034*" in format_comparison(comparison)  # under 0.05 / 8
    assert helps(comparison, "new")
    assert not helps(compare([other, first]), "old")


def test_a_small_difference_is_none():
    comparison = compare([contender("old", [True, True, False]), contender("new", [True, False, False])])
    (sentence,) = verdicts(comparison)
    assert sentence.startswith("new can't be told apart from old")
    assert not helps(comparison, "new")
    assert "*" not in format_comparison(comparison).partition("p: against")[0]


def test_no_verdict_where_the_rate_is_not_reached():
    comparison = compare([contender("old", [True, False]), contender("new", [True, True], num_alarms=50)])
    assert verdicts(comparison) == ["No verdict: no threshold holds new to 0.5 false alarms an hour here."]


def test_each_is_held_to_its_own_threshold(tiny_wakeword):
    """Scores of another scale make no difference: each threshold comes from its own false alarms."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (30, 50, 1))
    negatives = rng.normal(-3, 2, (6_000, 1))

    def scores(shift):
        sigmoid = [1 / (1 + np.exp(-(values + shift))) for values in (logits, negatives)]
        return Scores({"clean": list(sigmoid[0])}, [NegativeScores("talk", [sigmoid[1]])])

    detector = Detector([tiny_wakeword])
    first, other = (contend(name, detector, "tiny", scores(shift)) for name, shift in (("a", 0.0), ("b", 0.0)))
    comparison = compare([first, other])
    assert all((test.only_first, test.only_other, test.p_value) == (0, 0, 1.0) for test in comparison.tests)
    assert first.meets(0.1)
    shifted = contend("c", detector, "tiny", scores(1.5))
    for rate in RATES:
        assert int((~shifted.hits[rate]["clean"]).sum()) == shifted.points[rate]["clean"].num_missed
        assert shifted.points[rate]["clean"].num_missed == pytest.approx(first.points[rate]["clean"].num_missed, abs=3)


def test_json_has_counts_intervals_cost_and_verdict():
    comparison = compare([contender("a", [True, False], cost=Cost(0.02, 130.0)), contender("b", [True, True])])
    values = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    first, other = values["models"]
    assert first["cost"] == {"cpu_s_per_s": 0.02, "peak_memory_mb": 130.0}
    assert other["cost"] is None
    assert first["conditions"]["clean"]["0.5"]["num_missed"] == 1
    assert len(first["conditions"]["10 dB"]["0.5"]["false_rejection_rate_interval"]) == 2
    assert values["tests"][0]["name"] == "b"
    assert len(values["verdicts"]) == 1
    assert "0.0200 CPU s for a second of audio, 130 MB at most" in format_comparison(comparison)
