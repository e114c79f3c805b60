"""Phrases put together from labelled speech: the right sounds in the right order, of usual length, or none at all."""

from dataclasses import dataclass

import numpy as np
import pytest

from kws.data.alignment import STEP, class_of
from kws.data.pool import PoolConfig
from kws.data.splice import PhoneInventory, other_speech, spliced_speaker
from kws.frames import SAMPLE_RATE

STEPS = 10
JARVIS = [class_of(phone) for phone in ("JH", "AA", "R", "V", "IH", "S")]
CLOSE = ["jar", "office"]


@dataclass
class Utterance:
    waveform: np.ndarray
    labels: np.ndarray


def pitch_hz(label):
    return 200 + 150 * label if label else 0


def speech(labels, steps=STEPS):
    """Every phone a tone of its own; silence is 0."""
    times_s = np.arange(steps * STEP) / SAMPLE_RATE
    tones = [0.3 * np.sin(2 * np.pi * pitch_hz(label) * times_s) * bool(label) for label in labels]
    return Utterance(np.concatenate(tones).astype("f4"), np.repeat(labels, steps).astype(np.uint8))


def scattered(labels, rng, count=30):
    """Utterances in which each label occurs, its neighbours at random."""
    return [speech([0, *rng.permutation(labels), 0]) for _ in range(count)]


def loudest_hz(piece):
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 1 << 14))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / (1 << 14)


@pytest.mark.parametrize("seed", range(5))
def test_the_phones_sound_in_their_order(seed):
    rng = np.random.default_rng(seed)
    spliced = None
    inventory = PhoneInventory(scattered(JARVIS, rng))
    while spliced is None:
        spliced = inventory.splice(JARVIS, rng)
    width = len(spliced) / len(JARVIS)
    assert width == pytest.approx(STEPS * STEP, rel=0.15)
    middles = [round((index + 0.5) * width) for index in range(len(JARVIS))]
    heard = [loudest_hz(spliced[middle - 240 : middle + 240]) for middle in middles]
    assert heard == pytest.approx([pitch_hz(label) for label in JARVIS], abs=40)


def test_what_was_said_as_a_whole_is_taken_as_a_whole():
    rng = np.random.default_rng(0)
    whole = speech([0, *JARVIS, 0])
    spliced = PhoneInventory([whole]).splice(JARVIS, rng)
    said = whole.waveform[STEPS * STEP : -STEPS * STEP]
    np.testing.assert_allclose(spliced[200:1600], said[200 - 64 : 1600 - 64], atol=1e-6)


def test_each_half_comes_from_where_its_neighbour_was_right():
    """The first half of AA is taken after JH, where it is loud; the second before R, where it is quiet."""
    jh, aa, r, p = (class_of(phone) for phone in ("JH", "AA", "R", "P"))
    loud, quiet = speech([0, jh, aa, p, 0]), speech([0, p, aa, r, 0])
    quiet.waveform *= 0.2
    clips = [PhoneInventory([loud, quiet]).splice([jh, aa, r], np.random.default_rng(seed)) for seed in range(5)]
    for clip in (clip for clip in clips if clip is not None):
        third = len(clip) // 3
        before, after = clip[third + 100 : third + 500], clip[2 * third - 500 : 2 * third - 100]
        assert np.std(before) > 3 * np.std(after)


def test_joins_make_no_clicks():
    rng = np.random.default_rng(1)
    utterances = scattered(JARVIS, rng)
    loudest = max(np.abs(np.diff(utterance.waveform)).max() for utterance in utterances)
    inventory = PhoneInventory(utterances)
    clips = [clip for _ in range(20) if (clip := inventory.splice(JARVIS, rng)) is not None]
    assert clips
    assert max(np.abs(np.diff(clip)).max() for clip in clips) < 1.2 * loudest


def test_a_phone_that_was_never_said_gives_nothing():
    inventory = PhoneInventory([speech([0, *JARVIS[:-1], 0])])
    assert inventory.splice(JARVIS, np.random.default_rng(0)) is None
    assert spliced_speaker("jarvis", CLOSE, inventory, 2, PoolConfig(confusables=2), np.random.default_rng(0)) is None


def test_phones_between_wrong_neighbours_alone_are_refused():
    apart = [speech([class_of("P"), label, class_of("P")]) for label in JARVIS]
    assert PhoneInventory(apart).splice(JARVIS, np.random.default_rng(0)) is None


def test_a_spliced_speaker_says_the_phrase_near_misses_and_his_own_sentences():
    rng = np.random.default_rng(3)
    inventory = PhoneInventory([speech([0, *JARVIS, 0]), *scattered(range(1, 40), rng, 12)])
    speaker = spliced_speaker("jarvis", CLOSE, inventory, 3, PoolConfig(confusables=6), np.random.default_rng(0))
    again = spliced_speaker("jarvis", CLOSE, inventory, 3, PoolConfig(confusables=6), np.random.default_rng(0))
    assert len(speaker.phrases) == 3
    assert speaker.confusables
    assert len(speaker.sentences) == 3
    assert speaker.close and not speaker.parts  # a phrase of one word has words close to it where others have parts
    assert all(take.end_s == pytest.approx(len(take.waveform) / SAMPLE_RATE) for take in speaker.phrases)
    np.testing.assert_array_equal(speaker.phrases[0].waveform, again.phrases[0].waveform)


def test_utterances_with_the_phrase_are_no_other_speech():
    inventory = PhoneInventory([speech([0, *JARVIS, 0]), *scattered(range(1, 40), np.random.default_rng(3), 3)])
    clips = other_speech(inventory, JARVIS, 9, np.random.default_rng(0))
    assert sorted(map(len, clips)) == sorted(len(utterance.waveform) for utterance in inventory.utterances[1:])
