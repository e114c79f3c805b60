"""Texts that resemble a phrase but aren't it: parts of it, its words swapped, near misses; none sounds like the phrase.

Every text is plain or eSpeak phone input (`[[...]]`), and can be handed to `kws.data.synth.speak`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice, permutations

import numpy as np

from kws.data.accents import exchanges
from kws.data.phone_search import fewest_edits
from kws.data.phones import ARPABET, BOUNDARY, CONSONANTS, VOWELS, from_arpabet, phones_of
from kws.data.text import normalize, random_word, vocabulary
from kws.errors import ConfigError

_SIMILAR = {
    **{"P": "B T F", "B": "P D V", "T": "D K P", "D": "T G B", "K": "G T", "G": "K D", "CH": "JH SH T"},
    **{"JH": "CH ZH D", "F": "TH P V", "V": "F DH B", "TH": "F S T", "DH": "V Z D", "S": "Z SH TH", "Z": "S ZH DH"},
    **{"SH": "S CH ZH", "ZH": "SH JH Z", "HH": "F K", "M": "N B", "N": "M NG L", "NG": "N M", "L": "R W N"},
    **{"R": "L W", "W": "R V L", "Y": "L W", "AA": "AE AW", "AE": "EH AA", "AH": "AE UH", "AO": "OW UH"},
    **{"AW": "AA OW", "AY": "EY OY", "EH": "AE IH EY", "ER": "IY OW", "EY": "EH AY IY", "IH": "EH IY", "IY": "IH EY"},
    **{"OW": "UW AO", "OY": "AY OW", "UH": "UW AH", "UW": "UH OW IY"},
}
"""Phones apart by one feature: voicing, place or manner; height or backness."""
_NUM_UNLIKE = 3
"""Phones further apart that are put in the place of each as well."""
_CLASSES = ("P B", "T D TH DH", "K G", "S Z", "F V W", "CH JH SH ZH", "N NG", " ".join(VOWELS))
"""Phones that count as the same when words are compared with a phrase; all others stand for themselves."""
_CLASS_OF = {phone: index for index, group in enumerate(_CLASSES) for phone in group.split()}
_NUM_PAIRS = 20_000
"""Pairs of words among which those that are close to a phrase are looked for."""
_INSERTABLE = ("S", "L", "R", "T", "N", "K", "M", "D")
_MIN_PART_PHONES = 2
_MAX_REORDERINGS = 24
_CLOSE_DISTANCE = 0.6


def word_parts(phrase: str) -> list[str]:
    """Returns the proper parts of `phrase` in whole words: first words, last words, single words; none of one word.

    Raises:
        ConfigError: a phrase without words.
        SynthesisError: no eSpeak library.
    """
    words = _words(phrase)
    pieces = [" ".join(words[:size]) for size in range(1, len(words))]
    pieces += [" ".join(words[-size:]) for size in range(1, len(words))]
    return _distinct(pieces + words[1:-1], phrase)


def partial_phrases(phrase: str) -> list[str]:
    """Returns the proper parts of `phrase`: in whole words, and beginnings and ends of its phones.

    Parts of phones ("hey com", "puter") hold a vowel and lack at least two phones.

    Raises:
        ConfigError: a phrase without words.
        SynthesisError: no eSpeak library.
    """
    phones = phones_of(phrase)
    cuts = range(_MIN_PART_PHONES, len(phones) - _MIN_PART_PHONES + 1)
    parts = [phones[:cut] for cut in cuts] + [phones[cut:] for cut in cuts]
    pieces = [from_arpabet(_trim(part)) for part in parts if _is_pronounceable(part)]
    return _distinct([*word_parts(phrase), *pieces], phrase)


def swapped_phrases(phrase: str, rng: np.random.Generator, num_replacements: int = 4) -> list[str]:
    """Returns `phrase` with its words in other orders, and with each word replaced by random other words.

    Args:
        phrase: the wake phrase.
        rng: the only source of randomness.
        num_replacements: how many random words stand in for each word.

    Raises:
        ConfigError: a phrase without words.
        SynthesisError: no eSpeak library.
    """
    words = _words(phrase)
    pieces = [" ".join(order) for order in islice(permutations(words), 1, 1 + _MAX_REORDERINGS)]
    for index in range(len(words)):
        for _ in range(num_replacements):
            pieces.append(" ".join([*words[:index], random_word(rng, phrase), *words[index + 1 :]]))
    return _distinct(pieces, phrase)


def near_misses(phrase: str, rng: np.random.Generator, num_edits: int = 24, num_words: int = 16) -> list[str]:
    """Returns phone inputs one phone away from `phrase`, and texts with one of its words replaced by a close one.

    Changes that people make when they do say the phrase are left out: what other accents exchange
    (`kws.data.accents`), a lost schwa, h, y or final t, an r lost after a vowel, a nasal assimilated ("conputer").

    Args:
        phrase: the wake phrase.
        rng: the only source of randomness.
        num_edits: at most so many edited phone inputs, drawn at random.
        num_words: at most so many close words for each word of the phrase, nearest first.

    Raises:
        ConfigError: a phrase without words.
        SynthesisError: no eSpeak library.
    """
    words = _words(phrase)
    edited = _distinct((from_arpabet(_trim(phones)) for phones in _edits(phones_of(phrase), rng)), phrase)
    chosen = [edited[index] for index in rng.permutation(len(edited))[:num_edits]]
    close = []
    for index, word in enumerate(words):
        for other in _close_words(word)[:num_words]:
            close.append(" ".join([*words[:index], other, *words[index + 1 :]]))
    return chosen + _distinct(close, phrase)


def close_speech(phrase: str, rng: np.random.Generator, num_texts: int = 40) -> list[str]:
    """Returns words and pairs of words in which a stretch of sounds comes closest to `phrase`, such as "garden is".

    What differs from it by no more than an accent is left out.

    Args:
        phrase: the wake phrase.
        rng: the only source of randomness.
        num_texts: at most so many, closest first.

    Raises:
        ConfigError: a phrase without words.
        SynthesisError: no eSpeak library.
    """
    target = _classes(phones_of(" ".join(_words(phrase))))
    words = [(word, _classes(sounds)) for word, sounds in _vocabulary_sounds()]
    alone = [fewest_edits(classes, target) for _, classes in words]
    scored = [(edits, rng.random(), word) for edits, (word, _) in zip(alone, words)]
    for first, second in rng.integers(len(words), size=(_NUM_PAIRS, 2)):
        edits = fewest_edits(words[first][1] + words[second][1], target)
        if edits < min(alone[first], alone[second]):
            scored.append((edits, rng.random(), f"{words[first][0]} {words[second][0]}"))
    close = [text for edits, _, text in sorted(scored) if edits]
    return _distinct(close[: 2 * num_texts], phrase)[:num_texts]


def sounds_like(text: str, phrase: str) -> bool:
    """Returns whether the sounds of `phrase` occur in `text` (plain or phone input), homophones and accents merged.

    Raises:
        SynthesisError: no eSpeak library.
    """
    whole, part = _sound_key(phones_of(text)), _sound_key(phones_of(phrase))
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


def _words(phrase: str) -> list[str]:
    words = normalize(phrase).split()
    if not words:
        raise ConfigError(f"the phrase {phrase!r} has no words; write it as it is spoken, such as 'hey computer'")
    return words


def _sound_key(phones: Sequence[str]) -> list[str]:
    """Returns `phones` without boundaries and stress, with what accents merge made equal and doubled sounds single."""
    sounds = [phone for phone in phones if phone != BOUNDARY]
    key: list[str] = []
    for index, phone in enumerate(sounds):
        bare = phone.rstrip("012")
        following = sounds[index + 1] if index + 1 < len(sounds) else ""
        is_flapped = bare == "T" and bool(key) and key[-1] in VOWELS and following.endswith("0")
        merged = "D" if is_flapped else "AA" if bare == "AO" else "AH" if phone == "IH0" else bare
        if not key or key[-1] != merged:
            key.append(merged)
    return key


def _classes(sounds: Iterable[str]) -> list[int]:
    """Returns a number for each of `sounds`, the same for those that accents exchange."""
    bare = [sound.rstrip("012") for sound in sounds if sound != BOUNDARY]
    return [_CLASS_OF.get(phone, len(_CLASSES) + ARPABET.index(phone)) for phone in bare]


def _edits(phones: Sequence[str], rng: np.random.Generator) -> list[list[str]]:
    results = []
    for index, phone in enumerate(phones):
        bare, digit = phone.rstrip("012"), phone[len(phone.rstrip("012")) :]
        before = list(phones[:index])
        after = list(phones[index + 1 :])
        if phone != BOUNDARY and not _is_weak(phone):
            others = [other for other in _others(bare, rng) if not _is_assimilated(bare, other, after)]
            results += [[*before, other + digit * (other in VOWELS), *after] for other in others]
            if not _is_often_dropped(phones, index):
                results.append(before + after)
        results.append([*before, str(rng.choice(_INSERTABLE)), *phones[index:]])
    return [edited for edited in results if _is_pronounceable(edited)]


def _others(bare: str, rng: np.random.Generator) -> list[str]:
    """Returns phones that make another word: consonants of another place or manner, and a few unlike phones."""
    passing = [phone for change in exchanges(bare) for phone in change]
    similar = [phone for phone in _SIMILAR[bare].split() if phone not in passing]
    kind = VOWELS if bare in VOWELS else CONSONANTS
    unlike = [phone for phone in kind if phone not in (bare, *passing, *_SIMILAR[bare].split())]
    drawn = [unlike[index] for index in rng.permutation(len(unlike))[:_NUM_UNLIKE]]
    return drawn if kind is VOWELS else similar + drawn


def _is_weak(phone: str) -> bool:
    return phone in ("AH0", "IH0")


def _is_often_dropped(phones: Sequence[str], index: int) -> bool:
    phone = phones[index]
    follows_vowel = index > 0 and phones[index - 1].rstrip("012") in VOWELS
    is_word_final = index + 1 == len(phones) or phones[index + 1] == BOUNDARY
    return phone in ("HH", "Y") or (phone == "R" and follows_vowel) or (phone in ("T", "D") and is_word_final)


def _is_assimilated(phone: str, other: str, after: Sequence[str]) -> bool:
    following = after[0].rstrip("012") if after else ""
    is_nasal_before_stop = {phone, other} <= {"M", "N", "NG"} and following in ("P", "B", "T", "D", "K", "G")
    return is_nasal_before_stop or ({phone, other} == {"K", "G"} and following in ("S", "Z"))


def _is_pronounceable(phones: Sequence[str]) -> bool:
    return any(phone.rstrip("012") in VOWELS for phone in phones)


def _trim(phones: Sequence[str]) -> list[str]:
    """Returns `phones` without boundaries that have no phones on both sides."""
    words = [word.split() for word in " ".join(phones).split(BOUNDARY)]
    return [phone for word in words if word for phone in (BOUNDARY, *word)][1:]


def _distinct(texts: Iterable[str], phrase: str) -> list[str]:
    return [text for text in dict.fromkeys(texts) if not sounds_like(text, phrase)]


@lru_cache(maxsize=64)
def _close_words(word: str) -> tuple[str, ...]:
    """Returns the vocabulary's words within a relative phone edit distance of `word`, nearest first, no homophones."""
    target = _sound_key(phones_of(word))
    scored = []
    for other, key in _vocabulary_sounds():
        distance = _edit_distance(target, list(key)) / max(len(target), len(key))
        if 0 < distance <= _CLOSE_DISTANCE:
            scored.append((distance, other))
    return tuple(other for _, other in sorted(scored))


@lru_cache(maxsize=1)
def _vocabulary_sounds() -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((word, tuple(_sound_key(phones_of(word)))) for word in vocabulary())


def _edit_distance(first: Sequence[str], second: Sequence[str]) -> float:
    """Returns the edit distance; a substitution by a similar phone costs half."""
    row = np.arange(len(second) + 1, dtype=float)
    for index, phone in enumerate(first, 1):
        previous, row = row, np.full(len(second) + 1, float(index))
        for column, other in enumerate(second, 1):
            similar = other in _SIMILAR[phone].split() or phone in _SIMILAR[other].split()
            cost = 0.0 if phone == other else 0.5 if similar else 1.0
            row[column] = min(previous[column] + 1, row[column - 1] + 1, previous[column - 1] + cost)
    return float(row[-1])
