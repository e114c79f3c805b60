"""Asynchronous iteration and callbacks give what the synchronous loop gives, and end when told to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from kws.audio.io import write_audio
from kws.audio.samples import Waveform
from kws.audio.source import file_source
from kws.detect.aio import Listener, listen
from kws.detect.detector import Detection, Detector
from kws.errors import AudioError
from kws.model.artefact import WakeWord

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def detector(tiny_wakeword: WakeWord) -> Detector:
    """Returns a detector that fires on anything."""
    return Detector([tiny_wakeword.with_threshold(0.0)])


@pytest.fixture(scope="module")
def expected(detector: Detector, noise: np.ndarray) -> list[Detection]:
    stream = detector.stream()
    return stream.feed(noise) + stream.flush()


def blocks(waveform: np.ndarray) -> Iterator[Waveform]:
    yield from (waveform[start : start + 1280] for start in range(0, len(waveform), 1280))


async def async_blocks(waveform: np.ndarray) -> AsyncIterator[Waveform]:
    for block in blocks(waveform):
        await asyncio.sleep(0)
        yield block


async def collect(source: object, detector: Detector) -> list[Detection]:
    return [detection async for detection in listen(detector, source)]  # type: ignore[arg-type]


@pytest.mark.parametrize("make_source", [blocks, async_blocks])
def test_listening_gives_what_the_loop_gives(make_source, detector, noise, expected) -> None:
    assert asyncio.run(collect(make_source(noise), detector)) == expected


def test_the_event_loop_runs_on_while_a_source_is_silent(detector: Detector, noise: np.ndarray) -> None:
    """The source waits for the event loop: were that held up, neither would go on."""

    async def run() -> int:
        go_on = threading.Event()

        def source() -> Iterator[Waveform]:
            assert go_on.wait(PATIENCE_S)
            yield from blocks(noise)

        asyncio.get_running_loop().call_later(0.05, go_on.set)
        return len([detection async for detection in listen(detector, source())])

    assert asyncio.run(run()) > 0


def test_two_listeners_share_a_detector(detector, noise, expected) -> None:
    async def both() -> list[list[Detection]]:
        return await asyncio.gather(collect(blocks(noise), detector), collect(async_blocks(noise), detector))

    assert asyncio.run(both()) == [expected, expected]


def test_bad_audio_is_raised(detector: Detector) -> None:
    with pytest.raises(AudioError, match="NaN"):
        asyncio.run(collect([np.full(1280, np.nan, np.float32)], detector))


class TestListener:
    def test_calls_back(self, detector, noise, expected) -> None:
        heard: list[Detection] = []
        ends: list[Exception | None] = []
        with Listener(detector, blocks(noise), heard.append, ends.append) as listener:
            assert listener.wait(PATIENCE_S)
        assert heard == expected
        assert ends == [None]

    def test_an_error_is_told(self, detector: Detector) -> None:
        ends: list[Exception | None] = []
        with Listener(detector, [np.zeros((2, 2))], print, ends.append) as listener:  # type: ignore[list-item]
            assert listener.wait(PATIENCE_S)
        assert isinstance(ends[0], AudioError)

    def test_close_ends_a_source_that_goes_on(self, detector: Detector, noise: np.ndarray, tmp_path) -> None:
        write_audio(tmp_path / "long.wav", np.tile(noise, 30))
        heard, ends = threading.Event(), []
        source = file_source(tmp_path / "long.wav", is_realtime=True)
        began_s = time.monotonic()
        with Listener(detector, source, lambda detection: heard.set(), ends.append) as listener:
            assert heard.wait(PATIENCE_S)
        assert listener.wait(0)
        assert ends == [None]
        assert time.monotonic() - began_s < 50  # the recording lasts a minute

    def test_close_from_a_callback(self, detector: Detector, noise: np.ndarray) -> None:
        ends: list[Exception | None] = []
        listener = Listener(detector, blocks(np.tile(noise, 10)), lambda detection: listener.close(), ends.append)
        listener.start()
        assert listener.wait(PATIENCE_S)
        listener.close()
        assert ends == [None]
