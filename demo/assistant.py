"""An assistant in ten lines: wakes, records the command until you are silent, and hands it on.

Launch:
    python demo/assistant.py hey_computer                              # prints the file of each command
    python demo/assistant.py hey_computer --exec 'whisper-cli -f'      # runs a program on it
    python demo/assistant.py hey_computer --file talk.wav              # hears a recording instead of the microphone
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import kws
from kws.audio.io import write_audio
from kws.audio.samples import Waveform
from kws.audio.source import file_source
from kws.audio.takes import TakeConfig, TakeListener
from kws.detect.detector import Detector
from kws.errors import AudioError

COMMAND = TakeConfig(max_s=8.0, pause_s=0.8, room_s=0.5)
WORD_ENDS_S = 0.2
"""A detection comes while the wake word still sounds."""


def assist(detector: Detector, source: Iterable[Waveform], hand_on: Callable[[Waveform], object]) -> None:
    """Calls `hand_on` with each command, (num_samples,) float32, 16 kHz, that is spoken after a wake word."""
    blocks, stream = iter(source), detector.stream()
    commands = TakeListener(blocks, COMMAND)
    commands.measure_room()
    for block in blocks:
        if stream.feed(block):
            commands.wait(WORD_ENDS_S)
            command = commands.take().waveform
            if command.size:
                hand_on(command)
            stream.reset()


def main() -> None:
    """Listens until Ctrl-C, or to the end of the recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a wake word: folder, .kws file, or a name `kws models` lists")
    parser.add_argument("--exec", default="", help="program that is run with the command's file as last argument")
    parser.add_argument("--device", help="microphone: index, or part of its name")
    parser.add_argument("--file", type=Path, help="recording to hear instead")
    parser.add_argument("--out", type=Path, help="folder of the commands; a temporary one without it")
    arguments = parser.parse_args()
    folder = arguments.out or Path(tempfile.mkdtemp(prefix="kws-commands-"))

    def hand_on(command: Waveform) -> None:
        path = folder / f"command-{len(list(folder.glob('*.wav'))) + 1}.wav"
        write_audio(path, command)
        print(path, flush=True)
        if arguments.exec:
            subprocess.run([*shlex.split(arguments.exec), str(path)], check=False)

    source = file_source(arguments.file) if arguments.file else kws.Microphone(arguments.device)
    try:
        with source:
            assist(kws.load(arguments.model), source, hand_on)
    except (KeyboardInterrupt, AudioError):  # the recording ended while a command was awaited
        return


if __name__ == "__main__":
    main()
