"""Pronunciations: text ──▶ ARPAbet by eSpeak's American English, and ARPAbet ──▶ input that a synthesiser speaks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from kws.data.synth.arpabet import ARPABET, CONSONANTS, VOWELS, from_espeak, from_espeak_input, to_espeak
from kws.data.synth.espeak_library import load_espeak
from kws.data.synth.speech import is_phone_input
from kws.data.text import normalize

__all__ = ["ARPABET", "CONSONANTS", "VOWELS", "from_arpabet", "phonemize", "phones_of", "pronounce", "to_arpabet"]

_LANGUAGE = "en-us"
BOUNDARY = "|"
"""Stands between words in phone lists, as in the encoder's vocabulary."""


@lru_cache(maxsize=8192)
def phonemize(text: str) -> tuple[str, ...]:
    """Returns the mnemonics of `text` as eSpeak speaks it in American English, with their stress marks.

    Raises:
        SynthesisError: no eSpeak library.
    """
    return tuple(load_espeak().phonemes(text, _LANGUAGE).split())


def to_arpabet(text: str, stress: bool = False) -> list[str]:
    """Returns the ARPAbet phones of `text`, one of 39 each; with `stress`, vowels end in 0, 1 or 2.

    Raises:
        SynthesisError: no eSpeak library, or a foreign phoneme.
    """
    return [phone for mnemonic in phonemize(text) for phone in from_espeak(mnemonic, stress)]


def pronounce(text: str, stress: bool = False) -> list[list[str]]:
    """Returns the ARPAbet phones of each word of `text`, words spoken by themselves.

    Raises:
        SynthesisError: no eSpeak library, or a foreign phoneme.
    """
    return [to_arpabet(word, stress) for word in text.split()]


def phones_of(text: str) -> list[str]:
    """Returns the ARPAbet phones of plain `text` or phone input, vowels with their stress, "|" between words.

    Raises:
        SynthesisError: no eSpeak library, or a foreign phoneme.
    """
    spoken = from_espeak_input(text) if is_phone_input(text) else pronounce(normalize(text), stress=True)
    return [phone for word in spoken for phone in (BOUNDARY, *word)][1:]


def from_arpabet(phones: Sequence[str]) -> str:
    """Returns `phones` as `[[...]]` input for a synthesiser; "|" in `phones` stands between words.

    Args:
        phones: ARPAbet, stress digits optional; the first vowel of a word without any is stressed.

    Raises:
        SynthesisError: a phone that isn't one of the 39, or no phones.
    """
    words: list[list[str]] = [[]]
    for phone in phones:
        if phone == BOUNDARY:
            words.append([])
        else:
            words[-1].append(phone)
    return f"[[{' '.join(to_espeak(word) for word in words)}]]"
