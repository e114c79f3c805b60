"""Synthesisers that are programs: `flite`, and any command that writes an audio file."""

from __future__ import annotations

import shlex
import shutil
import string
import subprocess
import tempfile
from pathlib import Path

import soundfile

from kws.audio.io import read_audio
from kws.data.synth.arpabet import from_espeak_input
from kws.data.synth.speech import FACTORS, Segment, Speech, Voice, check_factors, finish, is_phone_input
from kws.errors import SynthesisError
from kws.frames import SAMPLE_RATE

_TIMEOUT_S = 60
_UNUSABLE_FLITE_VOICES = {"awb_time", "kal"}
"""A clock that knows only times of day, and an 8 kHz copy of kal16."""
_FLITE_PHONES = {"AH0": "ax"}
_PLACEHOLDERS = {"text", "output", "voice", "rate", "pitch"}


class FliteSynthesizer:
    """Speaks with CMU Flite, a program on the PATH; gives phone times, and word times for a single word.

    The voice rms keeps its own pitch whatever is asked (measured on flite 2.2).

    Raises:
        SynthesisError: no `flite` on the PATH.
    """

    name = "flite"
    factors = FACTORS - {"pitch_range"}
    speaks_phones = True

    def __init__(self) -> None:
        program = shutil.which("flite")
        if program is None:
            raise SynthesisError("no program 'flite' on the PATH; run: apt-get install flite (or your system's like)")
        self._program = program
        listed = _run([program, "-lv"]).partition(":")[2].split()
        self._voices = [name for name in listed if name not in _UNUSABLE_FLITE_VOICES]

    def voices(self) -> list[str]:
        """Returns the voices built into the program."""
        return list(self._voices)

    def say(self, text: str, voice: Voice) -> Speech:
        """Returns `text` spoken by `voice`, with its phones in flite's own lower-case notation.

        Raises:
            SynthesisError: an unknown voice, a factor it doesn't honour, or text without anything to say.
        """
        check_factors(voice, self)
        if voice.name not in self._voices:
            raise SynthesisError(f"flite has no voice {voice.name!r}; it has: {', '.join(self._voices)}")
        bends = [f"duration_stretch={1 / (voice.rate * voice.tract):.4f}", f"f0_shift={voice.pitch * voice.tract:.4f}"]
        options = ["-voice", voice.name, "-psdur", *(part for bend in bends for part in ("--setf", bend))]
        with tempfile.TemporaryDirectory(prefix="kws-flite-") as folder:
            output = Path(folder) / "speech.wav"
            printed = _run([self._program, *options, *_flite_input(text), "-o", str(output)])
            waveform, sample_rate = soundfile.read(output, dtype="float32")
        phones = _flite_phones(printed)
        if not phones:
            raise SynthesisError(f"nothing to say in {text!r}; use a text with pronounceable words")
        words = (Segment(text.strip(), phones[0].start_s, phones[-1].end_s),) if len(text.split()) == 1 else ()
        return finish(waveform, sample_rate, voice, words, phones)


class CommandSynthesizer:
    """Speaks with any program that writes an audio file.

    Args:
        template: the command, such as "piper --model {voice} --output-file {output} {text}". `{text}` and `{output}`
            are required; `{voice}`, `{rate}` and `{pitch}` (factors) are filled in where present. No shell is involved.
        voices: what `{voice}` can be.
        name: what `Voice.synthesizer` refers to.

    Raises:
        SynthesisError: a template without the required fields, or with unknown ones.
    """

    speaks_phones = False

    def __init__(self, template: str, voices: tuple[str, ...] = ("default",), name: str = "command") -> None:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        if not {"text", "output"} <= fields or not fields <= _PLACEHOLDERS:
            raise SynthesisError(
                f"the command {template!r} must contain {{text}} and {{output}}, and of others only "
                "{voice}, {rate} and {pitch}"
            )
        self.name = name
        self.factors = frozenset(fields & {"rate", "pitch"} | ({"tract"} if {"rate", "pitch"} <= fields else set()))
        self._parts = shlex.split(template)
        self._voices = voices

    def voices(self) -> list[str]:
        """Returns the voices given to the constructor."""
        return list(self._voices)

    def say(self, text: str, voice: Voice) -> Speech:
        """Returns `text` spoken by `voice`; words and phones aren't known.

        Raises:
            SynthesisError: an unknown voice, phones as text, or a command that fails or writes no audio.
        """
        check_factors(voice, self)
        if voice.name not in self._voices:
            raise SynthesisError(f"{self.name!r} has no voice {voice.name!r}; it has: {', '.join(self._voices)}")
        if is_phone_input(text):
            raise SynthesisError(f"{self.name!r} takes plain text, not phones ({text!r}); use espeak or flite for it")
        with tempfile.TemporaryDirectory(prefix="kws-command-") as folder:
            output = Path(folder) / "speech.wav"
            values = {"text": text, "output": str(output), "voice": voice.name}
            values |= {"rate": f"{voice.rate * voice.tract:.4f}", "pitch": f"{voice.pitch * voice.tract:.4f}"}
            _run([part.format(**values) for part in self._parts])
            if not output.exists():
                raise SynthesisError(
                    f"the command {shlex.join(self._parts)} wrote no file to {{output}}; try it by hand"
                )
            waveform = read_audio(output)
        return finish(waveform, SAMPLE_RATE, voice)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SynthesisError(f"can't run {shlex.join(command)}: {error}; check that the program works") from error
    if done.returncode != 0:
        raise SynthesisError(f"{shlex.join(command)} failed with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _flite_input(text: str) -> list[str]:
    if not is_phone_input(text):
        return ["-t", text]
    phones = [phone for word in from_espeak_input(text) for phone in word]
    spelled = [_FLITE_PHONES.get(phone, phone.rstrip("012").lower()) for phone in phones]
    return ["-p", " ".join(["pau", *spelled, "pau"])]


def _flite_phones(printed: str) -> tuple[Segment, ...]:
    phones, start_s = [], 0.0
    for item in printed.split():
        label, _, end = item.rpartition(":")
        if label and label != "pau":
            phones.append(Segment(label, start_s, float(end)))
        start_s = float(end)
    return tuple(phones)
