"""Calibration: the threshold really gives the rate, no more is claimed than was heard, only wakeword.json changes."""

import json
import zipfile

import numpy as np
import pytest

from kws.audio.io import write_audio
from kws.detect.detector import Detector
from kws.errors import ArtefactError, AudioError
from kws.evaluate.calibrate import (
    allowed_alarms,
    calibrate,
    check_length,
    format_calibration,
    least_hours,
    own_artefact,
    save_threshold,
)
from kws.evaluate.metrics import count_firings, hours_to_prove, mcnemar, rate_bound
from kws.evaluate.room import Heard, hear_files, take_minutes
from kws.frames import SAMPLE_RATE
from kws.model.artefact import load_wakeword
from kws.model.settings import TriggerConfig

HOP_S = 0.02
TRIGGER = TriggerConfig(threshold=0.5, smoothing_frames=1, refractory_s=1.0)


def room(hours, peaks):
    """Returns `hours` of scores in two streams, with single frames that reach `peaks`, far apart."""
    scores = np.full((round(hours * 3600 / HOP_S), 1), 0.01)
    scores[1_000 * (1 + np.arange(len(peaks))), 0] = peaks
    half = len(scores) // 2
    return Heard(HOP_S, ["morning", "evening"], [scores[:half], scores[half:]])


def test_bounds_against_published_values():
    assert rate_bound(0, 1.0) == pytest.approx(2.996, abs=1e-3)  # "the rule of three"
    assert rate_bound(1, 2.0) == pytest.approx(4.744 / 2, abs=1e-3)
    assert rate_bound(3, 0.0) == float("inf")
    assert hours_to_prove(0.5) == pytest.approx(5.99, abs=0.01)
    assert hours_to_prove(0.5, 1) == pytest.approx(9.49, abs=0.01)


def test_mcnemar_by_hand():
    first = [True] * 8 + [False] + [True] * 20 + [False] * 5
    second = [False] * 8 + [True] + [True] * 20 + [False] * 5
    only_first, only_second, p_value = mcnemar(first, second)
    assert (only_first, only_second) == (8, 1)
    assert p_value == pytest.approx(2 * (1 + 9) / 2**9)  # at most one of nine on the rarer side, twice
    assert mcnemar(first, first) == (0, 0, 1.0)


def test_how_much_audio_is_too_little():
    assert least_hours(0.5) == pytest.approx(np.log(2) / 0.5)
    assert [allowed_alarms(0.5, hours) for hours in (1.38, 1.39, 3.35, 3.36)] == [-1, 0, 0, 1]
    assert allowed_alarms(1.0, 1000.0) == 999  # in the long run it is counting
    with pytest.raises(
        AudioError, match=r"0\.50 h of audio are too few for 0\.5 .* at least 1\.39 h \(6\.0 h to prove"
    ):
        check_length(0.5, 0.5)
    check_length(1.4, 0.5)  # what its message proposes


def test_the_threshold_gives_the_rate_and_none_lower_does():
    heard = room(3.0, [0.9, 0.8, 0.7, 0.6, 0.3])
    found = calibrate(heard, 0, "hey", TRIGGER, 1.0)
    assert 0.7 < found.after.threshold < 0.72
    assert found.after.num_false_alarms == 2 == allowed_alarms(1.0, 3.0)
    assert found.before.num_false_alarms == 4
    assert found.after.hours == pytest.approx(3.0)
    assert found.after.false_alarms_per_hour <= 1.0
    alarms = [
        sum(
            count_firings(scores[:, 0], TriggerConfig(threshold, smoothing_frames=1), HOP_S) for scores in heard.streams
        )
        for threshold in (found.after.threshold, 0.7)
    ]
    assert alarms == [2, 3]
    assert [round(score, 2) for _, _, score in found.loudest] == [0.9, 0.8, 0.7, 0.6, 0.3]
    assert found.loudest[0][:2] == ("morning", pytest.approx(20.02))


def test_the_count_is_the_live_triggers():
    """Two peaks within the refractory period are one alarm."""
    scores = np.full((540_000, 1), 0.01)
    scores[[1_000, 1_020, 5_000, 5_030, 9_000], 0] = [0.9, 0.9, 0.8, 0.8, 0.7]
    found = calibrate(Heard(HOP_S, ["room"], [scores]), 0, "hey", TRIGGER, 1.0)
    assert found.after.num_false_alarms == 2
    assert 0.7 < found.after.threshold < 0.72


def test_what_is_proven_and_what_is_missing():
    quiet = calibrate(room(3.0, []), 0, "hey", TRIGGER, 1.0)
    assert quiet.is_proven
    assert quiet.hours_missing() == 0
    assert quiet.after.num_false_alarms == 0
    assert "proven at 95 %: at most 1 an hour" in format_calibration(quiet)
    assert "the threshold went down" in format_calibration(quiet)
    noisy = calibrate(room(3.0, [0.9, 0.8, 0.7]), 0, "hey", TRIGGER, 1.0)
    assert not noisy.is_proven
    assert noisy.hours_missing() == pytest.approx(6.296 - 3.0, abs=0.01)  # two alarms need 6.3 h, three 7.75 h
    assert noisy.hours_missing(1) == pytest.approx(7.754 - 3.0, abs=0.01)
    text = format_calibration(noisy)
    assert "not proven: this audio only shows that it is at most 2.1 an hour" in text
    assert "3.3 h more must pass without an alarm, or 4.8 h with one" in text
    values = json.loads(json.dumps(noisy.to_dict(), allow_nan=False))
    assert values["after"]["num_false_alarms"] == 2
    assert values["after"]["num_missed"] is None


def test_misses_are_counted_before_and_after():
    positives = [np.array([0.0, height, 0.0]) for height in (0.95, 0.75, 0.6, 0.2)]
    found = calibrate(room(3.0, [0.9, 0.8, 0.7]), 0, "hey", TRIGGER, 1.0, positives)
    assert (found.before.num_missed, found.after.num_missed) == (1, 2)
    assert "misses of 4: 1 before, 2 now (50.0%" in format_calibration(found)


def test_a_wake_word_that_always_fires_is_refused():
    heard = Heard(HOP_S, ["room"], [np.ones((540_000, 1))])
    with pytest.raises(AudioError, match="no threshold is high enough"):
        calibrate(heard, 0, "hey", TRIGGER, 1.0)


@pytest.mark.parametrize("name", ["hey", "hey.kws"])
def test_only_the_threshold_changes_and_the_one_before_is_kept(make_wakeword, tmp_path, name):
    path = make_wakeword("hey", "you").save(tmp_path / name, card="a card")

    def members():
        if path.is_dir():
            return {file.name: file.read_bytes() for file in path.iterdir()}
        with zipfile.ZipFile(path) as archive:
            return {member: archive.read(member) for member in archive.namelist()}

    before = members()
    first = calibrate(room(3.0, [0.9, 0.8, 0.7]), 0, "you", TRIGGER, 1.0)
    save_threshold(own_artefact(str(path)), 1, first)
    save_threshold(path, 1, calibrate(room(3.0, []), 0, "you", TRIGGER, 1.0))
    after = members()
    assert {name for name in before if before[name] != after[name]} == {"wakeword.json"}
    wakeword = load_wakeword(path)
    assert wakeword.keywords[0].trigger.threshold == 0.5
    assert wakeword.keywords[1].trigger.threshold < 0.02
    kept = wakeword.details["calibrations"]
    assert [record["previous_threshold"] for record in kept] == [0.5, 0.5]
    assert kept[0]["threshold"] == first.after.threshold
    assert kept[0]["num_false_alarms"] == 2
    assert kept[0]["hours"] == pytest.approx(3.0)
    assert wakeword.details["seed"] == 0


def test_what_is_not_the_users_own_is_not_changed(tmp_path):
    with pytest.raises(ArtefactError, match="no wake word of your own"):
        own_artefact("streaming-small")
    with pytest.raises(ArtefactError, match="can't be changed"):
        save_threshold(tmp_path / "gone.kws", 0, calibrate(room(3.0, []), 0, "hey", TRIGGER, 1.0))


def test_recordings_are_heard_one_by_one_and_bad_ones_left_out(tiny_wakeword, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(2):
        write_audio(tmp_path / f"{index}.wav", (0.1 * rng.standard_normal(SAMPLE_RATE)).astype(np.float32))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    skipped, detector = [], Detector([tiny_wakeword])
    heard = hear_files(detector, sorted(tmp_path.glob("*.wav")), skip=skipped.append)
    assert heard.hours * 3600 == pytest.approx(2 * 49 * HOP_S)  # a second has 49 whole frames
    assert len(skipped) == 1 and "bad.wav" in skipped[0]
    with pytest.raises(AudioError, match=r"not one of the recordings can be read:\n.*bad\.wav"):
        hear_files(detector, [tmp_path / "bad.wav"])


def test_a_microphone_is_heard_for_the_minutes_asked():
    blocks = [np.zeros(SAMPLE_RATE, np.float32)] * 200
    shown = []
    taken = list(take_minutes(blocks, 2.0, lambda done, total: shown.append((done, total))))
    assert len(taken) == 120
    assert shown == [(1, 2), (2, 2)]
