"""The speech that training windows are cut from: voices ─▶ the phrase, near misses, other speech."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from kws.audio.quality import measure_speech
from kws.config import check
from kws.data.accents import accented
from kws.data.negatives import close_speech, near_misses, partial_phrases, swapped_phrases, word_parts
from kws.data.synth import Speech, Split, Synthesizer, Voice, VoiceConfig, draw_voice, speak
from kws.data.synth.speech import RATE_RANGE, is_phone_input
from kws.data.synth.timbre import Timbres, move
from kws.data.text import normalize, random_sentence
from kws.errors import SynthesisError
from kws.frames import SAMPLE_RATE

MAX_FAILED_SHARE = 0.2
"""Share of utterances that may fail to be spoken (a voice without a phone) before that is an error."""

MARGIN_S = 0.1
"""Kept before and after the speech in a recording."""
RUNNING_SHARE = 0.3
"""Share of the takes in which a sentence follows the phrase without a pause."""

Say = Callable[[str, Voice], Speech]


@dataclass(frozen=True)
class PoolConfig:
    """How much is spoken.

    Attributes:
        num_voices: voices drawn for training.
        num_validation_voices: voices drawn, from those kept out of training, for validation.
        phrases: times each voice says the phrase.
        accented: share of these that are of another accent than the voice's (`kws.data.accents`).
        confusables: near misses, parts and swaps of the phrase that each voice says.
        word_parts: parts of a phrase of several words, in whole words ("hey"), or other words close to a single one,
            that each voice says to stand where the phrase does.
        sentences: other utterances of each voice.
        timbre_share: share of the voices that are moved towards the timbre of a real person (`pretrained/timbres`).
        timbre_strength: least and most of the way that they are moved.
    """

    num_voices: int = 1000
    num_validation_voices: int = 60
    phrases: int = 2
    accented: float = 0.4
    confusables: int = 3
    word_parts: int = 2
    sentences: int = 3
    timbre_share: float = 0.5
    timbre_strength: tuple[float, ...] = (0.3, 1.0)

    def __post_init__(self) -> None:
        for name in ("num_voices", "num_validation_voices", "phrases", "sentences"):
            check(1 <= getattr(self, name) <= 100_000, f"pool.{name}", getattr(self, name), "1 to 100000")
        for name in ("confusables", "word_parts"):
            check(0 <= getattr(self, name) <= 100, f"pool.{name}", getattr(self, name), "0 to 100")
        for name in ("accented", "timbre_share"):
            check(0 <= getattr(self, name) <= 1, f"pool.{name}", getattr(self, name), "0 to 1")
        strength = self.timbre_strength
        is_range = len(strength) == 2 and 0 <= strength[0] <= strength[1] <= 2
        check(is_range, "pool.timbre_strength", strength, "two numbers, low and high, within 0..2")


@dataclass(frozen=True, eq=False)
class Take:
    """The phrase, spoken or recorded once.

    Attributes:
        waveform: (num_samples,) float32, 16 kHz; other words may follow the phrase.
        end_s: where the phrase ends in it, in seconds.
    """

    waveform: np.ndarray
    end_s: float


@dataclass(frozen=True, eq=False)
class Speaker:
    """What one speaker said; waveforms are (num_samples,) float32, 16 kHz, without silence at the ends.

    Attributes:
        phrases: the phrase.
        confusables: what sounds like it.
        sentences: other things.
        parts: some words of the phrase without the others.
        close: other words that come close to a phrase of a single word.
    """

    phrases: list[Take]
    confusables: list[np.ndarray]
    sentences: list[np.ndarray]
    parts: list[Take] = field(default_factory=list)
    close: list[Take] = field(default_factory=list)


def speak_pool(
    phrase: str,
    num_voices: int,
    split: Split,
    config: PoolConfig,
    voices: VoiceConfig,
    rng: np.random.Generator,
    synthesizers: list[Synthesizer] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    timbres: Timbres | None = None,
) -> list[Speaker]:
    """Returns `num_voices` speakers of `split`, each saying the phrase, what sounds like it, and other things.

    Args:
        phrase: the wake word.
        num_voices: how many speakers.
        split: which voices may speak.
        config: how much each says.
        voices: how far they are bent.
        rng: of every draw.
        synthesizers: in place of those found on this machine.
        progress: called with (done, total) speakers.
        timbres: of real people, for a share of the speakers.

    Raises:
        SynthesisError: no synthesiser, or the phrase can't be spoken.
        ConfigError: a phrase without words.
    """
    confusables, parts = confusable_texts(phrase, rng), word_parts(phrase)
    speakers: list[Speaker] = []
    num_failed = 0
    while len(speakers) < num_voices:
        progress(len(speakers), num_voices)
        voice = draw_voice(rng, split, synthesizers, voices)
        try:
            say = mouth(voice, config, rng, timbres, synthesizers)
            speakers.append(_speak(phrase, confusables, parts, voice, config, rng, say))
        except SynthesisError:
            num_failed += 1
            if num_failed > MAX_FAILED_SHARE * num_voices + 5:
                raise
    progress(num_voices, num_voices)
    return speakers


def mouth(
    voice: Voice,
    config: PoolConfig,
    rng: np.random.Generator,
    timbres: Timbres | None = None,
    synthesizers: list[Synthesizer] | None = None,
) -> Say:
    """Returns what speaks a text in `voice`, now and then with the timbre of a real person."""
    if timbres is None or voice.synthesizer != timbres.synthesizer or rng.random() >= config.timbre_share:
        return lambda text, voice: speak(text, voice, synthesizers)
    least, most = config.timbre_strength
    log_gains = timbres.draw(rng) * np.float32(rng.uniform(least, most))
    return lambda text, voice: move(speak(text, voice, synthesizers), log_gains)


def _speak(
    phrase: str,
    confusables: list[str],
    parts: list[str],
    voice: Voice,
    config: PoolConfig,
    rng: np.random.Generator,
    say: Say,
) -> Speaker:
    chosen = draw_texts(confusables, config.confusables, rng)
    parts, close = draw_texts_instead(confusables, parts, config.word_parts, rng)
    sentences = [random_sentence(rng, 1, 10, avoid=phrase) for _ in range(config.sentences)]

    def takes(texts: list[str]) -> list[Take]:
        return [Take(speech.waveform, speech.duration_s) for speech in (say(text, voice) for text in texts)]

    return Speaker(
        [speak_phrase(phrase, voice, rng, say, config.accented) for _ in range(config.phrases)],
        [say(text, voice).waveform for text in chosen],
        [say(sentence, voice).waveform for sentence in sentences],
        takes(parts),
        takes(close),
    )


def speak_phrase(
    phrase: str, voice: Voice, rng: np.random.Generator, say: Say = speak, accented_share: float = 0.0
) -> Take:
    """Returns `phrase` spoken by `voice` at a drawn tempo and intonation, now and then running into a sentence.

    `accented_share` of the takes are of another accent than the voice's own, and stand alone.

    Raises:
        SynthesisError: it can't be spoken.
    """
    text = normalize(phrase)
    low, high = RATE_RANGE
    voice = replace(voice, rate=float(np.clip(voice.rate * rng.uniform(0.9, 1.1), low, high)))
    if rng.random() < accented_share:
        speech = say(accented(phrase, rng), voice)
        return Take(speech.waveform, speech.duration_s)
    if rng.random() < RUNNING_SHARE:
        speech = say(f"{text} {random_sentence(rng, 2, 6, avoid=phrase)}", voice)
        num_words = len(text.split())
        if len(speech.words) > num_words:
            return Take(speech.waveform, speech.words[num_words - 1].end_s)
    speech = say(text + str(rng.choice(["", ".", "!", "?", ","])), voice)
    return Take(speech.waveform, speech.duration_s)


def confusable_texts(phrase: str, rng: np.random.Generator) -> list[str]:
    """Returns what must not fire: parts of the phrase, near misses, other words that come close, its words swapped."""
    texts = partial_phrases(phrase) * 3 + near_misses(phrase, rng) + close_speech(phrase, rng)
    if len(normalize(phrase).split()) > 1:
        texts += swapped_phrases(phrase, rng) * 2
    return texts


def draw_texts(texts: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """Returns at most `count` of `texts`, at random."""
    return [texts[index] for index in rng.permutation(len(texts))[:count]]


def draw_texts_instead(
    confusables: list[str], parts: list[str], count: int, rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Returns what is said where positives have the phrase: some of its `parts`, or words close to a single one.

    Args:
        confusables: `confusable_texts` of the phrase.
        parts: `word_parts` of it, none of a phrase of one word.
        count: most of each.
        rng: the only source of randomness.
    """
    close = [] if parts else [text for text in confusables if not is_phone_input(text)]
    return draw_texts(parts, count, rng), draw_texts(close, count, rng)


def take_from_recording(waveform: np.ndarray) -> Take:
    """Returns a recording of the phrase, cut to where `measure_speech` hears somebody speak, and a moment around it."""
    levels = measure_speech(waveform)
    margin = round(MARGIN_S * SAMPLE_RATE)
    start, end = round(levels.start_s * SAMPLE_RATE), round(levels.end_s * SAMPLE_RATE)
    first, stop = max(0, start - margin), min(len(waveform), end + margin)
    return Take(waveform[first:stop], (end - first) / SAMPLE_RATE)
