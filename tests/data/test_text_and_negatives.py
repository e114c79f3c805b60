"""Filler sentences and negatives: varied, repeatable, and never the phrase."""

from __future__ import annotations

import numpy as np
import pytest

from kws.data.accents import accented, exchanges
from kws.data.negatives import close_speech, near_misses, partial_phrases, sounds_like, swapped_phrases
from kws.data.phones import from_arpabet, phones_of, to_arpabet
from kws.data.synth import Voice
from kws.data.text import contains_phrase, normalize, random_sentence, shares_neighbours, vocabulary
from kws.errors import ConfigError

PHRASES = ["hey computer", "alexa", "okay kitchen light", "jarvis", "go go", "turn on the light"]


def test_vocabulary_is_clean():
    assert 800 <= len(vocabulary()) <= 2000
    assert all(normalize(word) == word and " " not in word for word in vocabulary())


def test_sentences_are_varied_within_bounds_and_repeatable():
    first, second = ([random_sentence(np.random.default_rng(s), 2, 7) for s in range(300)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 290
    assert {len(sentence.split()) for sentence in first} <= set(range(2, 8))


@pytest.mark.parametrize("phrase", ["the apple", "hey", "will not"])
def test_sentences_avoid_the_phrase(rng, phrase):
    assert not any(shares_neighbours(random_sentence(rng, 1, 12, avoid=phrase), phrase) for _ in range(500))


def test_impossible_lengths_are_refused(rng):
    with pytest.raises(ConfigError, match="min_words"):
        random_sentence(rng, 5, 2)


def test_contains_phrase_counts_whole_words():
    assert contains_phrase("Well, HEY computer!", "hey computer")
    assert not contains_phrase("they computer", "hey computer")
    assert not contains_phrase("hey the computer", "hey computer")


@pytest.mark.parametrize("phrase", PHRASES)
def test_negatives_never_sound_like_the_phrase_and_can_be_spoken(espeak, rng, phrase):
    groups = [partial_phrases(phrase), swapped_phrases(phrase, rng), near_misses(phrase, rng)]
    groups.append(close_speech(phrase, rng, num_texts=10))
    assert all(groups)
    for text in (text for group in groups for text in group):
        assert not sounds_like(text, phrase), text
        assert not contains_phrase(text, phrase), text
        spoken = espeak.say(text, Voice("espeak", "en-us"))
        assert spoken.duration_s > 0.04, text


def test_parts_of_several_words_and_of_one(espeak):
    assert {"hey", "computer"} <= set(partial_phrases("hey computer"))
    assert {"turn on", "on the light", "the"} <= set(partial_phrases("turn on the light"))
    assert from_arpabet(["K", "AH0", "M"]) in partial_phrases("computer")  # "com"
    assert from_arpabet(["P", "Y", "UW1", "T", "ER0"]) in partial_phrases("computer")  # "puter"


def test_swaps_reorder_and_replace(espeak, rng):
    swapped = swapped_phrases("hey computer", rng, num_replacements=3)
    assert "computer hey" in swapped
    assert sum(text.startswith("hey ") for text in swapped) == 3
    assert "go go" not in swapped_phrases("go go", rng)


def test_near_misses_hold_close_words_and_repeat(espeak):
    first, second = (near_misses("hey computer", np.random.default_rng(2)) for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first) >= 20
    assert any(text.endswith(" computer") for text in first)
    assert any(text.startswith("[[") for text in first)


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("write", "right", True),
        ("hay computer please", "hey computer", True),
        ("hey commuter", "hey computer", False),
        ("bus top", "bus stop", True),
        ("computer", "hey computer", False),
    ],
)
def test_sounds_like_hears_homophones(espeak, text, phrase, expected):
    assert sounds_like(text, phrase) is expected
    assert to_arpabet(text)


@pytest.mark.parametrize("phrase", ["", " ?! "])
def test_a_phrase_without_words_is_refused(phrase, rng):
    for make in (partial_phrases, lambda text: swapped_phrases(text, rng), lambda text: near_misses(text, rng)):
        with pytest.raises(ConfigError, match="no words"):
            make(phrase)


@pytest.mark.parametrize("phrase", PHRASES)
def test_accents_exchange_some_phones_and_can_be_spoken(espeak, rng, phrase):
    plain = phones_of(phrase)
    said = [accented(phrase, rng) for _ in range(40)]
    assert len(set(said)) >= 5
    for text in said:
        assert len(plain) - plain.count("Y") <= len(phones_of(text)) <= len(plain)
        assert espeak.say(text, Voice("espeak", "en-us")).duration_s > 0.1
    changed = [phones_of(text) for text in said if len(phones_of(text)) == len(plain)]
    shares = [np.mean([one != other for one, other in zip(phones, plain)]) for phones in changed]
    assert 0.1 < np.mean(shares) < 0.6


def test_voiced_stops_pass_for_those_without_breath(espeak, rng):
    said = [phones_of(accented("computer", rng)) for _ in range(100)]
    assert any({"G", "B", "D"} <= set(phones) for phones in said)
    assert ["AE1"] in exchanges("AA1")


@pytest.mark.parametrize("phrase", PHRASES)
def test_what_an_accent_exchanges_is_no_near_miss(espeak, rng, phrase):
    plain = phones_of(phrase)
    accents = {
        from_arpabet([*plain[:index], *other, *plain[index + 1 :]])
        for index, phone in enumerate(plain)
        for other in exchanges(phone)
    }
    assert not accents & set(near_misses(phrase, rng, num_edits=1000))


def test_close_speech_is_words_of_the_vocabulary_nearer_than_most(espeak):
    first, second = (close_speech("jarvis", np.random.default_rng(4)) for _ in range(2))
    assert first == second
    assert len(first) == len(set(first)) == 40
    assert all(word in vocabulary() for text in first for word in text.split())
    assert any(len(text.split()) == 2 for text in first)
    initials = [phones_of(word)[0] for text in first for word in text.split()]
    share = np.mean([initial in ("JH", "CH", "SH") for initial in initials])
    usual = np.mean([phones_of(word)[0] in ("JH", "CH", "SH") for word in vocabulary()])
    assert share > 2 * usual
