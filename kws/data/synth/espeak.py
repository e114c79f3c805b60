"""The eSpeak NG synthesiser: all English accents times about ninety voice variants, with word and phone times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kws.data.synth.espeak_library import EspeakLibrary, Mark, load_espeak
from kws.data.synth.speech import FACTORS, Segment, Speech, Voice, finish
from kws.errors import SynthesisError

_WORDS_PER_MINUTE = 175
_INT16_SCALE = np.float32(1 / 32768)
_PITCH_FACTORS = (0.75, 0.82, 1.0, 1.29, 1.66)
"""Measured fundamental frequency at espeakPITCH = 0, 25, 50, 75, 100, relative to 50 (plain en-us voice)."""
_PITCH_VALUES = (0, 25, 50, 75, 100)
_UNUSABLE_LANGUAGES = {"en-shaw"}
"""Reads the Shavian alphabet only and spells Latin letters out."""
_UNUSABLE = {
    "under 60 % of the frames voiced": "whisper whisperf croak grandpa klatt klatt2",
    "under −30 dB of the energy above 2 kHz": "Jacky Lee UniRobot david",
    "its voice file turns voicing off": "caleb",
    "reaches full scale even at low volume": "iven antonio",
    "the same as another in spectrum and pitch": "fast RicishayMax3 steph3",
    "a robot, monster or loudspeaker by its name": (
        "Demonic Storm announcer anikaRobot robosoft robosoft2 robosoft3 robosoft4 robosoft5 "
        "robosoft6 robosoft7 robosoft8"
    ),
}
UNUSABLE_VARIANTS = frozenset(name for names in _UNUSABLE.values() for name in names.split())
"""Variants left out: by measurements on one sentence in en-us, caleb by its file, the last group by name alone.

Nobody has listened to those kept, and no recogniser has judged them."""
_AROUND_WORDS = ' \t\n.,;:!?"()'
_VOLUME = 40
"""Of 100, where about a fifth of the variants reach full scale."""


class EspeakSynthesizer:
    """Speaks with eSpeak NG.

    Voices are named "language+variant" ("en-us+f3"), or the language alone for its plain voice. The library keeps a
    little state between calls (the phase of the pitch flutter): the same calls in the same order in a fresh process
    give the same samples; in another order, the samples differ by less than is heard.

    Raises:
        SynthesisError: the library is missing or broken.
    """

    name = "espeak"
    factors = FACTORS
    speaks_phones = True

    def __init__(self) -> None:
        self._library: EspeakLibrary = load_espeak()
        usable = [code for code in self._library.languages() if code.split("-")[0] == "en"]
        self._languages = [code for code in usable if code not in _UNUSABLE_LANGUAGES]
        self._variants = ["", *(name for name in self._library.variants() if name not in UNUSABLE_VARIANTS)]

    def languages(self) -> list[str]:
        """Returns the codes of the English accents, such as "en-us" and "en-gb-scotland"."""
        return list(self._languages)

    def variants(self) -> list[str]:
        """Returns the names of the usable variants; the first is "", the plain voice."""
        return list(self._variants)

    def voices(self) -> list[str]:
        """Returns every accent with every variant."""
        return [f"{code}+{name}" if name else code for code in self._languages for name in self._variants]

    def say(self, text: str, voice: Voice) -> Speech:
        """Returns `text` spoken by `voice`, with its words and phones (mnemonics of eSpeak).

        A stop's closure belongs to the phone before it inside a word, and to its own word at a word's start.

        Raises:
            SynthesisError: an unknown voice, or text without anything to say.
        """
        language, _, variant = voice.name.partition("+")
        if language not in self._languages or variant not in self._variants:
            raise SynthesisError(f"eSpeak NG has no voice {voice.name!r}; see EspeakSynthesizer().voices()")
        pcm16, marks = self._library.speak(text, language, variant, **_parameters(voice))
        if not any(mark.phone and not mark.phone.startswith("_") for mark in marks):
            raise SynthesisError(f"nothing to say in {text!r}; use a text with pronounceable words")
        marks = _split_linked(marks)
        rate = self._library.sample_rate
        words, phones = _words(text, marks, rate, len(pcm16)), _phones(marks, rate, len(pcm16))
        return finish(pcm16 * _INT16_SCALE, rate, voice, words, phones)


def _parameters(voice: Voice) -> dict[str, int]:
    pitch = float(np.interp(voice.pitch * voice.tract, _PITCH_FACTORS, _PITCH_VALUES))
    return {
        "volume": _VOLUME,
        "rate": round(_WORDS_PER_MINUTE * voice.rate * voice.tract),
        "pitch": round(pitch),
        "range": round(50 * voice.pitch_range),
    }


def _split_linked(marks: list[Mark]) -> list[Mark]:
    """Returns `marks` with the word marks that eSpeak sets too early moved.

    Where a sonorant runs on into the next word's vowel ("turn on"), both the word and the sonorant are marked at the
    sonorant's start, and the vowel in its own middle; half-way between lies within
    about 20 ms of the change in the spectrum (four word pairs looked at, plain en-us voice).
    """
    moved = list(marks)
    for index in range(1, len(marks) - 1):
        before, mark, after = marks[index - 1 : index + 2]
        if mark.phone is None and before.phone is not None and before.sample == mark.sample and after.phone:
            middle = (mark.sample + after.sample) // 2
            moved[index] = replace(mark, sample=middle)
            moved[index + 1] = replace(after, sample=middle)
    return moved


def _phones(marks: list[Mark], sample_rate: int, num_samples: int) -> tuple[Segment, ...]:
    ends = [mark.sample for mark in marks[1:]] + [num_samples]
    return tuple(
        Segment(mark.phone.strip("',"), mark.sample / sample_rate, end / sample_rate)
        for mark, end in zip(marks, ends)
        if mark.phone and mark.phone.strip("',") and not mark.phone.startswith("_")
    )


def _words(text: str, marks: list[Mark], sample_rate: int, num_samples: int) -> tuple[Segment, ...]:
    starts = [
        index for index, mark in enumerate(marks) if mark.phone is None and _begins_word(text, mark.text_position)
    ]
    words = []
    for index, following in zip(starts, [*starts[1:], len(marks)]):
        text_end = marks[following].text_position if following < len(marks) else len(text)
        label = text[marks[index].text_position : text_end].split("]]")[0].strip(_AROUND_WORDS)
        pauses = (mark.sample for mark in marks[index:following] if mark.phone and mark.phone.startswith("_"))
        end = next(pauses, marks[following].sample if following < len(marks) else num_samples)
        words.append(Segment(label, marks[index].sample / sample_rate, end / sample_rate))
    return tuple(words)


def _begins_word(text: str, position: int) -> bool:
    """Returns whether a word of `text` begins at `position`, or after the space there, and not a part of one."""
    if text[position : position + 1].isspace():
        return True
    before = text[:position].rstrip("'\",([;:.")
    return not before or before[-1].isspace() or text[position - 1].isspace()
