"""Pronunciations: known ones are right, and phones survive the way through a synthesiser."""

from __future__ import annotations

import pytest

from kws.data.phones import ARPABET, from_arpabet, pronounce, to_arpabet
from kws.data.synth import Voice
from kws.data.synth.arpabet import from_espeak, from_espeak_input
from kws.data.text import vocabulary
from kws.errors import SynthesisError

WORDS = (
    "computer alexa jarvis kitchen light measure church judge thing this bird near poor fire tower boy little "
    "button water nurse yellow question value garage house out strengths sixths window about uncle"
)

KNOWN = {
    "computer": "K AH M P Y UW T ER",
    "hey": "HH EY",
    "church": "CH ER CH",
    "measure": "M EH ZH ER",
    "water": "W AO T ER",
    "thing": "TH IH NG",
    "this": "DH IH S",
    "boy": "B OY",
    "house": "HH AW S",
    "light": "L AY T",
    "button": "B AH T AH N",
    "start": "S T AA R T",
    "good": "G UH D",
}


@pytest.mark.parametrize("word", KNOWN)
def test_known_pronunciations(espeak, word):
    assert to_arpabet(word) == KNOWN[word].split()


def test_stress_is_marked_on_vowels_only(espeak):
    assert to_arpabet("computer", stress=True) == ["K", "AH0", "M", "P", "Y", "UW1", "T", "ER0"]


@pytest.mark.parametrize("word", WORDS.split())
def test_phones_survive_being_spoken(espeak, word):
    phones = to_arpabet(word, stress=True)
    spelled = from_arpabet(phones)
    assert from_espeak_input(spelled) == [phones]
    spoken = espeak.say(spelled, Voice("espeak", "en-us")).phones
    heard = [phone for segment in spoken for phone in from_espeak(segment.label)]
    assert heard == [phone.rstrip("012") for phone in phones]


def test_every_word_of_the_vocabulary_has_phones(espeak):
    for word in vocabulary():
        assert set(to_arpabet(word)) <= set(ARPABET), word
        assert to_arpabet(word), word


def test_words_stay_apart(espeak):
    assert len(pronounce("turn on the light")) == 4
    assert from_arpabet(["HH", "EY", "|", "T", "AA", "M"]) == "[[h'eI t'A:m]]"


@pytest.mark.parametrize("phones", [[], ["QQ"], ["HH", "EY", "|"]])
def test_what_is_not_arpabet_is_refused(phones):
    with pytest.raises(SynthesisError, match="not ARPAbet"):
        from_arpabet(phones)
