"""Clips of a phrase on disk: phrase ──▶ drawn voices ──▶ a WAV file each, named after its voice."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kws.audio.io import write_audio
from kws.data.synth.speech import Synthesizer, Voice
from kws.data.synth.voices import HELD_OUT_SHARE, available_synthesizers, draw_voice, speak
from kws.errors import SynthesisError

_PEAK = 0.5


def list_voice_names() -> list[str]:
    """Returns every voice of this machine as "synthesiser:voice"."""
    return [f"{synthesizer.name}:{voice}" for synthesizer in available_synthesizers() for voice in synthesizer.voices()]


def write_clips(phrase: str, folder: Path, count: int, seed: int, voice_names: Sequence[str] = ()) -> Iterator[Path]:
    """Writes `count` clips of `phrase` to `folder` and yields each one's path; the same seed gives the same clips.

    Args:
        phrase: what is said.
        folder: made if need be; files of the same name are replaced.
        count: how many.
        seed: of the draw of voices, tempos and pitches.
        voice_names: speak with these only, in turn; "synthesiser:voice" or the voice's name alone.

    Raises:
        SynthesisError: no synthesiser, an unknown voice, or a phrase that can't be spoken.
        AudioError: `folder` can't be written.
    """
    rng = np.random.default_rng(seed)
    chosen = [_find_voice(name) for name in voice_names]
    for index in range(count):
        voice = _bent(rng, *chosen[index % len(chosen)]) if chosen else _any_voice(rng)
        waveform = speak(phrase, voice).waveform
        path = folder / f"{file_stem(phrase)}-{index:04d}-{file_stem(f'{voice.synthesizer}-{voice.name}')}.wav"
        write_audio(path, waveform * (_PEAK / np.abs(waveform).max()))
        yield path


def file_stem(text: str) -> str:
    """Returns `text` in lower case with everything but letters, digits, plus and minus as underscores."""
    return re.sub(r"[^\w+-]+", "_", text.lower()).strip("_")


def _any_voice(rng: np.random.Generator) -> Voice:
    return draw_voice(rng, "validation" if rng.random() < HELD_OUT_SHARE else "train")


def _bent(rng: np.random.Generator, synthesizer: Synthesizer, name: str) -> Voice:
    return dataclasses.replace(draw_voice(rng, synthesizers=[synthesizer]), name=name)


def _find_voice(name: str) -> tuple[Synthesizer, str]:
    owner, _, alone = name.rpartition(":")
    for synthesizer in available_synthesizers():
        if owner in ("", synthesizer.name) and alone in synthesizer.voices():
            return synthesizer, alone
    known = [voice for synthesizer in available_synthesizers() for voice in synthesizer.voices()]
    nearest = difflib.get_close_matches(alone, known, n=1, cutoff=0.0)
    raise SynthesisError(
        f"no voice '{name}' on this machine; did you mean '{nearest[0]}'? All of them: kws synth --list-voices"
    )
