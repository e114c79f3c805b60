"""The wake words that come with the package: they load by name and hear their phrase from voices training never had."""

from __future__ import annotations

import numpy as np
import pytest

import kws
from kws.data.synth import draw_voice, speak
from kws.frames import SAMPLE_RATE
from kws.model.catalogue import list_shipped

BUNDLED = [entry for entry in list_shipped() if entry.kind == "wake word"]
NUM_TAKES = 8


def spoken(texts, rng):
    """Returns `texts`, each by a voice kept out of training, with pauses between."""
    pause = np.zeros(SAMPLE_RATE, np.float32)
    takes = [speak(text, draw_voice(rng, "validation")).waveform for text in texts]
    return np.concatenate([part for take in takes for part in (pause, take)] + [pause])


def test_four_come_with_the_package_two_of_one_word():
    phrases = [entry.keywords[0] for entry in BUNDLED if not entry.problem]
    assert len(phrases) >= 4
    assert sum(" " not in phrase for phrase in phrases) >= 2


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.name)
def test_a_bundled_wake_word_hears_its_phrase_and_nothing_else(entry):
    detector, rng = kws.load(entry.name), np.random.default_rng(0)
    phrase = entry.keywords[0]
    heard = detector.stream().feed(spoken([phrase] * NUM_TAKES, rng))
    assert len(heard) >= NUM_TAKES - 3
    others = ["good morning", "turn on the light", "what time is it", *phrase.split()[:-1]]
    assert not detector.stream().feed(spoken(others, rng))


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.name)
def test_the_card_of_a_bundled_wake_word_says_what_was_measured_on_people(entry):
    card = (entry.folder / "CARD.md").read_text(encoding="utf-8")
    assert "## Measured on people" in card
    assert "false alarms in" in card
