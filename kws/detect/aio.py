"""Live detection in programs that wait for other things too: asynchronous iteration, and callbacks from a thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kws.audio.samples import Waveform
from kws.detect.detector import Detection, Detector
from kws.detect.live import follow

CLOSE_S = 5.0
"""How long `Listener.close` waits for a source that can't be interrupted; its thread is then left to end by itself."""

Source = Iterable[Waveform] | AsyncIterable[Waveform]


async def listen(detector: Detector, source: Source) -> AsyncIterator[Detection]:
    """Yields the detections in `source` as they come, without holding up the event loop.

    Waiting for blocks and detecting happen in one thread of its own; leave the iteration with the source closed, since
    a thread that waits for a block can't be interrupted.

    Args:
        detector: the wake words.
        source: blocks of any length, (num_samples,) int16 or float in −1..1, 16 kHz: an open `Microphone`, a file
            source, or an asynchronous iterable such as one that reads a socket.

    Raises:
        AudioError: a block that is no such audio.
        MicrophoneError: the microphone was lost.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "kws-listen")
    try:
        if isinstance(source, AsyncIterable):
            stream = detector.stream()
            async for block in source:
                for detection in await loop.run_in_executor(thread, stream.feed, block):
                    yield detection
            for detection in await loop.run_in_executor(thread, stream.flush):
                yield detection
            return
        pieces = follow(detector, source)
        while (heard := await loop.run_in_executor(thread, next, pieces, None)) is not None:
            for detection in heard.detections:
                yield detection
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


class Listener:
    """Calls back for each detection in a source, from a thread of its own. Use it in a `with` block, or `start` it.

    Args:
        detector: the wake words.
        source: as for `listen`, but not asynchronous; with a `close`, such as a `Microphone`, it is closed at the end.
        on_detection: called with each detection; while it works, the source waits, or drops blocks and counts them.
        on_end: called once with None where the source ended or `close` was called, else with the error.
    """

    def __init__(
        self,
        detector: Detector,
        source: Iterable[Waveform],
        on_detection: Callable[[Detection], object],
        on_end: Callable[[Exception | None], object] = lambda error: None,
    ) -> None:
        self._detector, self._source = detector, source
        self._on_detection, self._on_end = on_detection, on_end
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kws-listen", daemon=True)

    def start(self) -> None:
        """Begins to listen; returns at once. Open the source before."""
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Returns whether the source has ended, which it waits for."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Ends the listening and closes the source; idempotent, and may be called from a callback."""
        self._is_closing.set()
        with contextlib.suppress(ValueError):  # a generator that is at work ends at its next block
            getattr(self._source, "close", lambda: None)()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)

    def __enter__(self) -> Listener:
        self.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            for heard in follow(self._detector, self._source):
                for detection in heard.detections:
                    self._on_detection(detection)
                if self._is_closing.is_set():
                    break
        except Exception as raised:  # a thread has no other way to tell
            error = raised
        self._on_end(error)
