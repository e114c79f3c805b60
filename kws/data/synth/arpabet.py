"""ARPAbet ↔ eSpeak phoneme mnemonics, both as plain tables; no library needed."""

from __future__ import annotations

import re

from kws.errors import SynthesisError

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R"),
    *("S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
ARPABET = tuple(sorted(VOWELS + CONSONANTS))
"""The 39 phones of the CMU dictionary, without stress."""

_TO_ESPEAK = {
    **{"AA": "A:", "AE": "a", "AH": "V", "AO": "O:", "AW": "aU", "AY": "aI", "EH": "E", "ER": "3:", "EY": "eI"},
    **{"IH": "I", "IY": "i:", "OW": "oU", "OY": "OI", "UH": "U", "UW": "u:", "HH": "h", "CH": "tS", "JH": "dZ"},
    **{"TH": "T", "DH": "D", "SH": "S", "ZH": "Z", "NG": "N", "Y": "j", "R": "r"},
    **{phone: phone.lower() for phone in "BDFGKLMNPSTVWZ"},
}
_REDUCED = {"AH": "@", "ER": "3", "IY": "i"}
"""Vowels that eSpeak writes otherwise when they carry no stress."""

_SYNONYMS = {
    **{"AH": "@2 @5 @- a# V", "IH": "I2 I#", "AA": "0 0# A~", "AO": "O O2", "AE": "aa", "AY": "aI2", "ER": "IR"},
    **{"T": "t# t2 t[ ?", "D": "d#", "R": "r-", "L": "l#", "W": "w#", "Z": "z#", "K": "x", "HH": "C"},
    **{"EY": "e", "OW": "o", "UW": "u"},
    **{"AA R": "A@", "AO R": "o@ O@", "IH R": "i@3", "UH R": "U@", "EH R": "e@", "AH R": "VR", "IY AH": "i@"},
    **{"AY ER": "aI3", "AW ER": "aU3 aU@", "AY AH": "aI@", "AH L": "@L", "AH N": "n-", "AH M": "m-"},
    **{"": "_ _: ; -"},
}
"""Other mnemonics of the English accents, by what they are in ARPAbet; pauses and marks are nothing."""
_FROM_ESPEAK = {
    **{mnemonic: (phone,) for phone, mnemonic in (*_TO_ESPEAK.items(), *_REDUCED.items())},
    **{mnemonic: tuple(phones.split()) for phones, group in _SYNONYMS.items() for mnemonic in group.split()},
}
_STRESS = {"'": "1", ",": "2"}
_FUNCTION_MARKS = re.compile(r"[',%=|]+")


def from_espeak(mnemonic: str, stress: bool = False) -> list[str]:
    """Returns the ARPAbet phones of one eSpeak phoneme, such as ["AA", "R"] for "'A@".

    Args:
        mnemonic: with or without stress marks before it.
        stress: append "1", "2" or "0" to each vowel, as the CMU dictionary does.

    Raises:
        SynthesisError: a phoneme without an English counterpart.
    """
    bare = _FUNCTION_MARKS.sub("", mnemonic)
    if bare not in _FROM_ESPEAK:
        raise SynthesisError(f"eSpeak's phoneme {mnemonic!r} has no ARPAbet counterpart; spell the word another way")
    digit = next((_STRESS[mark] for mark in mnemonic if mark in _STRESS), "0")
    phones = []
    for phone in _FROM_ESPEAK[bare]:
        phones.append(phone + digit if stress and phone in VOWELS else phone)
        digit = "0" if phone in VOWELS else digit
    return phones


def to_espeak(phones: list[str] | tuple[str, ...]) -> str:
    """Returns one word's ARPAbet `phones` as eSpeak mnemonics, such as "h'eI"; a trailing digit is the stress.

    Without any stress digits the first vowel is stressed.

    Raises:
        SynthesisError: a phone that isn't one of the 39.
    """
    bare = [phone.rstrip("012") for phone in phones]
    unknown = [phone for phone in bare if phone not in _TO_ESPEAK]
    if unknown or not bare:
        raise SynthesisError(f"not ARPAbet phones: {unknown or phones}; allowed: {' '.join(ARPABET)}, stress 0 1 2")
    stresses = [phone[len(name) :] for phone, name in zip(phones, bare)]
    if not any(stresses):
        first = next((index for index, name in enumerate(bare) if name in VOWELS), None)
        stresses = ["1" if index == first else "" for index in range(len(bare))]
    marks = {"1": "'", "2": ","}
    spelled = []
    for name, digit in zip(bare, stresses):
        mnemonic = _TO_ESPEAK[name] if digit in marks else _REDUCED.get(name, _TO_ESPEAK[name])
        spelled.append(marks.get(digit, "") + mnemonic)
    return _join(spelled)


def from_espeak_input(text: str) -> list[list[str]]:
    """Returns the words of `[[...]]` input that `to_espeak` made, each as ARPAbet phones with stress."""
    words = text.strip().removeprefix("[[").removesuffix("]]").split()
    return [[phone for token in _tokens(word) for phone in from_espeak(token, stress=True)] for word in words]


def _join(mnemonics: list[str]) -> str:
    """Returns the mnemonics written together, with "|" where two of them would read as another one."""
    joined = ""
    for mnemonic in mnemonics:
        separator = "" if not joined or _tokens(joined + mnemonic) == [*_tokens(joined), mnemonic] else "|"
        joined += separator + mnemonic
    return joined


def _tokens(word: str) -> list[str]:
    tokens, longest, position = [], max(map(len, _FROM_ESPEAK)), 0
    while position < len(word):
        marks = _FUNCTION_MARKS.match(word, position)
        start = marks.end() if marks else position
        size = next((size for size in range(longest, 0, -1) if word[start : start + size] in _FROM_ESPEAK), 0)
        if size == 0:
            raise SynthesisError(f"can't read the eSpeak phonemes {word!r} at {word[start:]!r}")
        tokens.append(word[position : start + size].replace("|", ""))
        position = start + size
    return tokens
