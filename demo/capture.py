"""Listens, and with `--capture DIR` keeps what fired, to train on later; without it nothing is ever written.

Launch:
    python demo/capture.py hey_computer                                # keeps nothing
    python demo/capture.py hey_computer --capture fired                # keeps two seconds before and one after each

Ask everybody who may be heard before you capture: these are recordings of people. Listen to what was kept and sort it:

    kws train 'hey computer' --positives fired/right --negatives fired/wrong
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import kws
from kws.audio.io import write_audio
from kws.audio.samples import Waveform
from kws.audio.source import file_source
from kws.data.synth.clips import file_stem
from kws.detect.aio import listen
from kws.detect.detector import Detection, Detector
from kws.frames import SAMPLE_RATE

BEFORE_S, AFTER_S = 2.0, 1.0


class Recorder:
    """Passes the blocks of `source` on, and keeps the last few seconds, in memory only, until `keep` is called."""

    def __init__(self, source: Iterable[Waveform], folder: Path) -> None:
        self._source, self._folder = source, folder
        self._recent: deque[Waveform] = deque()
        self._num_recent = self._num_left = 0
        self._detection: Detection | None = None

    def __iter__(self) -> Iterator[Waveform]:
        for block in self._source:
            self._add(block)
            yield block
        self._write()

    def keep(self, detection: Detection) -> None:
        """Writes what was heard around now, once a little more was heard."""
        if self._detection is None:
            self._detection, self._num_left = detection, round(AFTER_S * SAMPLE_RATE)

    def _add(self, block: Waveform) -> None:
        self._recent.append(block)
        self._num_recent += len(block)
        while self._num_recent - len(self._recent[0]) > (BEFORE_S + AFTER_S) * SAMPLE_RATE:
            self._num_recent -= len(self._recent.popleft())
        self._num_left -= len(block)
        if self._num_left <= 0:
            self._write()

    def _write(self) -> None:
        detection, self._detection = self._detection, None
        if detection is not None:
            when = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
            name = f"{file_stem(detection.keyword)}-{when}-{detection.score:.2f}.wav"
            write_audio(self._folder / name, np.concatenate(list(self._recent)))


async def run(detector: Detector, source: Iterable[Waveform], folder: Path | None) -> None:
    """Prints the detections in `source`; keeps what fired in `folder`, if there is one."""
    recorder = Recorder(source, folder) if folder else None
    async for detection in listen(detector, recorder or source):
        print(f"{detection.end_s:.2f} s  {detection.keyword}  {detection.score:.2f}", flush=True)
        if recorder is not None:
            recorder.keep(detection)


def main() -> None:
    """Listens until Ctrl-C, or to the end of the recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a wake word: folder, .kws file, or a name `kws models` lists")
    parser.add_argument("--capture", type=Path, metavar="DIR", help="keep what fired in this folder; off without it")
    parser.add_argument("--device", help="microphone: index, or part of its name")
    parser.add_argument("--file", type=Path, help="recording to hear instead")
    arguments = parser.parse_args()
    if arguments.capture:
        print(f"what fires is kept in {arguments.capture}: does everybody here know?")
    source = file_source(arguments.file) if arguments.file else kws.Microphone(arguments.device)
    try:
        with source:
            asyncio.run(run(kws.load(arguments.model), source, arguments.capture))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
