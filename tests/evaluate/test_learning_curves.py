"""Start, slope and end of hand-made curves, and verdicts that neither miss negative transfer nor invent it."""

import json

import numpy as np
import pytest

from kws.errors import ConfigError
from kws.evaluate.learning_curves import Cell, Curve, Study, mean_recall, verdict
from kws.evaluate.study_report import StudyReport, format_study, write_study_report

TRUTH = [0] * 40 + [1] * 80


def cell(mode, accuracy, seed=0, size=20, scores=(0.5, 0.6, 0.7), spread=0.0):
    """Returns a cell that hears `accuracy` of the clips of each label right, others for other seeds."""
    rng = np.random.default_rng([seed, size])
    truth = np.array(TRUTH)
    right = rng.random(len(truth)) < accuracy + spread * (seed % 2 - 0.5)
    predicted = np.where(right, truth, 1 - truth)
    final = (*scores[:-1], mean_recall(truth, predicted))
    return Cell(mode, size, seed, (1, 2, 4), final, tuple(map(int, predicted)), 10, 100, 3.6, "s")


def test_the_parts_of_a_curve():
    curve = Curve((1, 2, 4, 8), (0.5, 0.6, 0.7, 0.8), (0.4,) * 4, (0.9,) * 4)
    assert (curve.start, curve.end) == (0.5, 0.8)
    assert curve.slope == pytest.approx(0.1)  # each doubling adds ten points
    assert curve.reaches(0.65) == 4
    assert curve.reaches(0.9) is None
    assert Curve((5,), (0.5,), (0.5,), (0.5,)).slope == 0


def test_curves_are_means_over_seeds():
    cells = [cell("frozen", 1.0, 0, scores=(0.4, 0.6, 1)), cell("frozen", 1.0, 1, scores=(0.6, 0.8, 1))]
    study = Study(cells, TRUTH, ("word", "_other_"))
    curve = study.over_epochs("frozen", 20)
    assert curve.mean == pytest.approx((0.5, 0.7, 1.0))
    assert (curve.low[0], curve.high[0]) == (0.4, 0.6)
    assert study.over_sizes("frozen") == Curve((20,), (1.0,), (1.0,), (1.0,))


def test_mean_recall_counts_every_label_alike():
    truth, predicted = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 0])
    assert mean_recall(truth, predicted) == pytest.approx((1 / 2 + 3 / 4) / 2)


def test_confusion_and_accuracy():
    one = Cell("frozen", 5, 0, (1,), (0.5,), (0, 1, 1), 1, 1, 0.0)
    study = Study([one], [0, 0, 1], ("a", "b"))
    assert study.confusion("frozen", 5).tolist() == [[1, 1], [0, 1]]
    assert study.accuracy("frozen", 5) == pytest.approx(2 / 3)


def both(frozen, random, seeds=3, spread=0.0):
    cells = [cell("frozen", frozen, seed, spread=spread) for seed in range(seeds)]
    cells += [cell("random", random, seed + 100, spread=spread) for seed in range(seeds)]
    cells = [Cell(**{**vars(c), "seed": c.seed % 100}) for c in cells]
    return Study(cells, TRUTH, ("word", "_other_"))


@pytest.mark.parametrize(
    ("frozen", "random", "outcome"), [(0.95, 0.7, "ahead"), (0.6, 0.9, "behind"), (0.8, 0.8, "unclear")]
)
def test_outcomes(frozen, random, outcome):
    study = both(frozen, random)
    found = study.difference("frozen", "random", 20)
    assert found.outcome == outcome
    assert found.low <= found.difference <= found.high
    assert found.num_seeds == 3
    (sentence,) = verdict(study)
    assert ("NEGATIVE TRANSFER" in sentence) == (outcome == "behind")


def test_seeds_that_disagree_are_not_called_negative_transfer():
    """The mean is far lower, but one seed of three is far higher: that may be chance."""
    cells = [cell("random", 0.8, seed) for seed in range(3)]
    cells += [cell("frozen", accuracy, seed) for seed, accuracy in enumerate((0.4, 0.4, 1.0))]
    study = Study(cells, TRUTH, ("word", "_other_"))
    assert study.difference("frozen", "random", 20).difference < -0.1
    assert study.difference("frozen", "random", 20).outcome == "unclear"


def test_no_difference_is_seldom_called_one():
    outcomes = []
    for trial in range(30):
        cells = [
            Cell(**{**vars(cell(mode, 0.8, 10 * trial + seed + offset)), "seed": seed})
            for mode, offset in (("frozen", 0), ("random", 5000))
            for seed in range(3)
        ]
        outcomes.append(Study(cells, TRUTH, ("word", "_other_")).difference("frozen", "random", 20).outcome)
    assert outcomes.count("unclear") >= 27  # 95 % intervals: one or two of thirty are expected outside


def test_seeds_that_only_one_mode_has_are_not_compared():
    study = Study([cell("frozen", 0.8, 1), cell("random", 0.8, 2)], TRUTH, ("word", "_other_"))
    assert study.difference("frozen", "random", 20) is None


def test_one_seed_proves_nothing():
    study = both(0.5, 1.0, seeds=1)
    assert study.difference("frozen", "random", 20).outcome == "unclear"
    assert "--seeds 2" in verdict(study)[0]


def test_without_training_from_nothing_there_is_no_verdict():
    study = Study([cell("frozen", 0.9)], TRUTH, ("word", "_other_"))
    assert "nothing to compare" in verdict(study)[0]


def test_transfer_is_compared_with_the_best_from_nothing():
    cells = [cell(mode, accuracy, seed) for mode, accuracy in (("random", 0.5), ("small", 0.9)) for seed in (0, 1)]
    study = Study([*cells, *(cell("frozen", 0.7, seed) for seed in (0, 1))], TRUTH, ("a", "b"))
    assert study.reference(20) == "small"
    assert "NEGATIVE TRANSFER" in verdict(study)[0]  # ahead of "random" alone it would have been
    assert study.difference("frozen", "random", 20).outcome == "ahead"


def test_a_cell_survives_json_and_a_damaged_one_is_refused():
    one = cell("frozen", 0.9)
    assert Cell.read(json.loads(json.dumps(one.to_dict()))) == one
    with pytest.raises(ConfigError):
        Cell.read({"mode": "frozen"})


def test_the_report_shows_numbers_pictures_and_the_verdict(tmp_path):
    study = both(0.6, 0.9)
    report = StudyReport("alexa <1>", study, "tiny", "ab" * 32, 10.0, {"epochs": 4}, 6, ("a note",))
    page = write_study_report(tmp_path, report)
    html = page.read_text()
    assert "alexa &lt;1&gt;" in html
    assert "NEGATIVE TRANSFER" in html
    assert "a note" in html
    values = json.loads((tmp_path / "study.json").read_text())
    assert values["modes"]["frozen"]["energy_wh_estimated"] == pytest.approx(3.6 * 10 / 3600)
    assert values["encoder_sha256"] == "ab" * 32
    assert values["differences"][0]["outcome"] == "behind"
    for theme in ("light", "dark"):
        picture = (tmp_path / f"study-{theme}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 100_000
    assert "NEGATIVE TRANSFER" in format_study(report)
