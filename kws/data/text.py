"""Random English sentences from this project's own word list and a small grammar, for filler speech and negatives."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

import numpy as np

from kws.data.words import WORDS
from kws.errors import ConfigError

_TEMPLATES = (
    "the noun verb_s the noun",
    "determiner adjective noun verb_s adverb",
    "pronoun modal verb determiner noun",
    "pronoun modal not verb determiner adjective noun preposition determiner noun",
    "verb determiner noun preposition the noun",
    "question modal pronoun verb determiner noun",
    "question verb_s the adjective noun",
    "there was determiner adjective noun preposition the place",
    "name and name verb_d preposition the place",
    "name verb_d determiner noun time",
    "pronoun verb_d the noun because determiner noun verb_d",
    "time pronoun modal verb preposition the place",
    "interjection name modal pronoun verb the noun time",
    "number noun_s verb_d preposition the place adverb",
    "determiner noun is adjective but the noun is adjective",
    "please verb the noun preposition number minutes",
    "conjunction the noun_s verb_d pronoun modal verb adverb",
    "interjection",
    "adjective noun",
    "name",
    "number",
)
_MAX_TRIES = 1000


def random_sentence(rng: np.random.Generator, min_words: int = 1, max_words: int = 12, avoid: str = "") -> str:
    """Returns a random sentence, lower-case, without punctuation.

    Args:
        rng: the only source of randomness.
        min_words: fewest words.
        max_words: most words.
        avoid: a phrase no two of whose neighbouring words stand next to each other in the result; of a one-word phrase,
            the word itself is left out.

    Raises:
        ConfigError: a length that is impossible.
    """
    if not 1 <= min_words <= max_words:
        raise ConfigError(f"min_words = {min_words}, max_words = {max_words}; allowed: 1 <= min_words <= max_words")
    for _ in range(_MAX_TRIES):
        words: list[str] = []
        while len(words) < min_words:
            words += _sentence(rng)
        words = words[: int(rng.integers(min_words, max_words + 1))] if len(words) > max_words else words
        if not avoid or not shares_neighbours(" ".join(words), avoid):
            return " ".join(words)
    raise ConfigError(f"no sentence of {min_words}..{max_words} words without {avoid!r}; allow more words")


def random_word(rng: np.random.Generator, avoid: str = "") -> str:
    """Returns a random word of the vocabulary that isn't a word of `avoid`."""
    banned = set(normalize(avoid).split())
    while True:
        word = vocabulary()[int(rng.integers(len(vocabulary())))]
        if word not in banned:
            return word


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Returns every word the sentences are made of, sorted."""
    listed = {word for kind in WORDS.values() for phrase in kind for word in phrase.split()}
    fixed = {word for template in _TEMPLATES for word in template.split() if word not in WORDS}
    return tuple(sorted(listed | fixed))


def normalize(text: str) -> str:
    """Returns `text` in lower case, with nothing but letters, digits, apostrophes and single spaces."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("’", "'")))


def contains_phrase(text: str, phrase: str) -> bool:
    """Returns whether the words of `phrase` stand in `text`, in order and side by side."""
    return f" {normalize(phrase)} " in f" {normalize(text)} "


def shares_neighbours(text: str, phrase: str) -> bool:
    """Returns whether two neighbouring words of `phrase` (or its one word) stand side by side in `text`."""
    words = normalize(phrase).split()
    pairs = [" ".join(pair) for pair in pairwise(words)] or words
    return any(contains_phrase(text, pair) for pair in pairs)


def _sentence(rng: np.random.Generator) -> list[str]:
    template = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
    words: list[str] = []
    for slot in template.split():
        choices = WORDS.get(slot)
        words += choices[int(rng.integers(len(choices)))].split() if choices else [slot]
    return words
