"""A phrase as people of many accents say it: phones exchanged for those that pass for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kws.data.phones import VOWELS, from_arpabet, phones_of

_EXCHANGED = {
    **{"P": "B", "B": "P", "T": "D", "D": "T", "K": "G", "G": "K", "CH": "JH SH", "JH": "CH ZH", "SH": "ZH CH"},
    **{"ZH": "SH JH", "S": "Z", "Z": "S", "F": "V", "V": "F B W", "W": "V", "TH": "T S F", "DH": "D Z V", "NG": "N"},
    **{"AA": "AE AO AH", "AE": "EH AA", "AH": "AA AE UH", "AO": "OW AA", "AW": "AA OW", "AY": "EY OY", "ER": "AH"},
    **{"EH": "AE IH EY", "EY": "EH AY", "IH": "IY EH", "IY": "IH", "OW": "AO UW", "OY": "AY OW", "UH": "UW"},
    **{"UW": "UH IY"},
}
"""Voicing (a stop without breath, as in Spanish, French or Hindi, passes for the voiced one), stops and fricatives for
TH and DH, V for W, and vowels for their neighbours."""
_BREATHED = ("P", "T", "K")
"""Who speaks one of these stops without breath does so with all."""
_UNBREATHED_SHARE = 0.5
"""Share of the accents that have no breath in them."""
_EXCHANGED_SHARE = 0.3
"""Share of the other phones that are exchanged."""
_DROPPED = "Y"
"""May be lost altogether."""


def accented(phrase: str, rng: np.random.Generator) -> str:
    """Returns `phrase` as phone input, three in ten of its phones as another accent may have them.

    In half of the accents P, T and K have no breath.

    Args:
        phrase: as it is spoken.
        rng: the only source of randomness.

    Raises:
        SynthesisError: no eSpeak library.
    """
    stops_share = 1.0 if rng.random() < _UNBREATHED_SHARE else 0.0
    phones: list[str] = []
    for phone in phones_of(phrase):
        others = exchanges(phone)
        share = stops_share if phone in _BREATHED else _EXCHANGED_SHARE
        is_exchanged = bool(others) and rng.random() < share
        phones += others[int(rng.integers(len(others)))] if is_exchanged else [phone]
    return from_arpabet(phones)


def exchanges(phone: str) -> list[Sequence[str]]:
    """Returns what accents put in the place of `phone` (ARPAbet, with its stress): one phone each, or none."""
    bare = phone.rstrip("012")
    digit = phone[len(bare) :]
    others: list[Sequence[str]] = [[other + digit * (other in VOWELS)] for other in _EXCHANGED.get(bare, "").split()]
    return [*others, []] if bare == _DROPPED else others
