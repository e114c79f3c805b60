"""An assistant that answers aloud and does not wake on its own voice: detection rests while it speaks.

Launch:
    python demo/speaking.py hey_computer
    python demo/speaking.py hey_computer --answer 'hey computer to you too'

What the microphone hears while the answer sounds, and a moment after, is thrown away; the stream then begins afresh.
With an echo canceller before the microphone (PulseAudio and PipeWire have one: module-echo-cancel) this is not needed,
and people can interrupt.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterable

import numpy as np

import kws
from kws.audio.samples import Waveform
from kws.detect.detector import Detector
from kws.frames import SAMPLE_RATE

ECHO_S = 0.3
"""How long a room goes on sounding after a loudspeaker ends."""


def converse(
    detector: Detector,
    source: Iterable[Waveform],
    answer: Callable[[], object],
    is_speaking: Callable[[], bool],
) -> int:
    """Calls `answer`, which must return at once, after each wake word; returns how many were heard.

    Args:
        detector: the wake words.
        source: blocks of (num_samples,) float32, 16 kHz.
        answer: begins to speak.
        is_speaking: whether it still speaks.
    """
    stream, num_heard, rest_s = detector.stream(), 0, 0.0
    for block in source:
        rest_s = ECHO_S if is_speaking() else rest_s - len(block) / SAMPLE_RATE
        if rest_s > 0:
            stream.reset()
        elif stream.feed(block):
            num_heard += 1
            answer()
    return num_heard


class Mouth:
    """Speaks a sentence through the loudspeaker, in a thread."""

    def __init__(self, sentence: str) -> None:
        from kws.data.synth import draw_voice, speak

        self._waveform = speak(sentence, draw_voice(np.random.default_rng(0), "validation")).waveform
        self._thread = threading.Thread()

    def is_speaking(self) -> bool:
        """Returns whether the sentence still sounds."""
        return self._thread.is_alive()

    def speak(self) -> None:
        """Begins the sentence; returns at once."""
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        import sounddevice

        sounddevice.play(self._waveform, SAMPLE_RATE, blocking=True)


def main() -> None:
    """Listens and answers until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a wake word: folder, .kws file, or a name `kws models` lists")
    parser.add_argument("--answer", default="yes?", help="what it says")
    parser.add_argument("--device", help="microphone: index, or part of its name")
    arguments = parser.parse_args()
    mouth = Mouth(arguments.answer)
    try:
        with kws.Microphone(arguments.device) as microphone:
            converse(kws.load(arguments.model), microphone, mouth.speak, mouth.is_speaking)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
