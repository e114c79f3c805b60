"""One client's audio: blocks ─▶ bounded queue ─▶ a worker at a time, turn by turn with other clients ─▶ what was heard.

The event loop only queues; workers decode, resample and detect. A session has one job in the pool at most, so clients
take turns, and a client whose audio piles up is worked off in larger pieces, which cost less a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from kws.audio.samples import Waveform
from kws.detect.detector import Detection
from kws.frames import SAMPLE_RATE
from kws.serve.metrics import Metrics
from kws.serve.pcm import PIECE_S, PcmDecoder, PcmFormat
from kws.serve.settings import ServeConfig

AHEAD_S = 2.0
"""Audio that came so much earlier than it can have been spoken is a recording; satellites keep no more back."""
FAST_CLOCK = 1.01
"""How fast a live client's sample clock may be; real ones are right to a ten-thousandth."""
MARKS_S = 5.0
"""How long the timestamps of blocks are kept: detections come after their last frame, by the encoder's block."""
CANCEL_S = 0.1
"""How long a task that was cancelled may take before it is cancelled again."""


class AudioStream(Protocol):
    """What a session needs of a `kws.detect.detector.Stream`."""

    recent_scores: np.ndarray

    def feed(self, chunk: Any) -> list[Detection]:
        """Returns the keywords that fired, given the next `chunk`."""

    def flush(self) -> list[Detection]:
        """Returns what fires in the last frames, at the end of the audio."""


class Listens(Protocol):
    """What a session needs of a `kws.detect.detector.Detector`."""

    keywords: list[str]

    @property
    def thresholds(self) -> list[float]:
        """The threshold of each keyword."""

    def stream(self) -> AudioStream:
        """Returns a fresh stream."""


class Engine:
    """What all clients share: the detector, the workers and the counts.

    Args:
        detector: the wake words.
        config: limits.
    """

    def __init__(self, detector: Listens, config: ServeConfig) -> None:
        self.detector = detector
        self.config = config
        self.metrics = Metrics()
        self.pool = ThreadPoolExecutor(config.num_workers, "kws-detect")

    def close(self) -> None:
        """Ends the workers, after what they are at; idempotent."""
        self.pool.shutdown(cancel_futures=True)


class Heard(NamedTuple):
    """What a piece of audio brought.

    Attributes:
        detections: in the client's time: seconds since its first sample, lost ones included.
        timestamps: of the block in which each detection fired, as the client stated it.
        scores: (num_keywords,) the highest of each keyword.
        end_s: where the piece ends.
    """

    detections: list[Detection]
    timestamps: list[int | None]
    scores: np.ndarray
    end_s: float


class _Block(NamedTuple):
    data: bytes
    duration_s: float
    timestamp: int | None
    arrived_s: float


class Session:
    """The stream of one client. Use it in an `async with` block, all calls from one task.

    Args:
        engine: what all clients share.
        protocol: label of the counts.
        deliver: awaited with what each piece of audio brought; while it waits, this client's audio queues.

    Attributes:
        keywords: what is listened for; detections of others are left out.
        dropped_blocks: blocks lost since the connection began.
        dropped_s: their length, in seconds.
        task: works the queue off; it ends early only with an error.
    """

    def __init__(self, engine: Engine, protocol: str, deliver: Callable[[Heard], Awaitable[None]]) -> None:
        self.dropped_blocks = 0
        self.dropped_s = 0.0
        self._engine, self._deliver = engine, deliver
        self._audio_s = engine.metrics.audio_s.labels(protocol)
        self._blocks: deque[_Block] = deque()
        self._has_work, self._has_room, self._is_idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._is_idle.set()
        self._detector = engine.detector
        self.keywords = frozenset(self._detector.keywords)
        self._fresh(PcmFormat())

    async def __aenter__(self) -> Session:
        self.task = asyncio.create_task(self._work_off(), name="kws session")
        return self

    async def __aexit__(self, *exception: object) -> None:
        await end_task(self.task)

    @property
    def is_idle(self) -> bool:
        """Whether all that came was heard."""
        return self._is_idle.is_set()

    @property
    def format(self) -> PcmFormat:
        """What `feed` takes."""
        return self._decoder.format

    async def start(self, pcm: PcmFormat, detector: Listens | None = None) -> None:
        """Begins a new stream of audio in the format `pcm`, once what is queued of the last one was heard.

        With a `detector`, that one hears it and what follows, in place of the one that all share.
        """
        await self._is_idle.wait()
        if detector is not None:
            self._detector, self.keywords = detector, frozenset(detector.keywords)
        self._fresh(pcm)

    async def feed(self, data: bytes, timestamp: int | None = None) -> None:
        """Queues `data`, in the format that `start` was given.

        Where the queue is full, a client that sends a recording, faster than anybody speaks, waits; a live one loses
        its oldest blocks, which are counted, for what comes late is of no use to it.
        """
        for piece in self.format.pieces(data):
            duration_s = len(piece) / self.format.bytes_per_second
            self._received_s += duration_s
            while self._blocks and self._queued_s + duration_s > self._engine.config.max_queued_s:
                await self._make_room()
            self._blocks.append(_Block(piece, duration_s, timestamp, time.monotonic()))
            self._queued_s += duration_s
            self._is_idle.clear()
            self._has_work.set()

    async def stop(self) -> Heard:
        """Returns what is heard in the last frames, once all that is queued was heard; the stream is then fresh."""
        await self._is_idle.wait()
        heard = await asyncio.get_running_loop().run_in_executor(self._engine.pool, self._flush)
        self._fresh(self.format)
        return heard

    async def drain(self) -> None:
        """Returns once all that is queued was heard."""
        await self._is_idle.wait()

    def _fresh(self, pcm: PcmFormat) -> None:
        self._decoder, self._stream = PcmDecoder(pcm), self._detector.stream()
        self._queued_s = self._received_s = self._lost_s = 0.0
        self._num_samples, self._is_recorded = 0, False
        self._marks: deque[tuple[float, int | None]] = deque()
        self._began_s = time.monotonic()

    async def _make_room(self) -> None:
        elapsed_s = time.monotonic() - self._began_s
        ahead_s = self._received_s - FAST_CLOCK * elapsed_s
        self._is_recorded = self._is_recorded or ahead_s > min(AHEAD_S, self._engine.config.max_queued_s)
        if self._is_recorded or ahead_s > 0:
            self._has_room.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._has_room.wait(), None if self._is_recorded else ahead_s)
            return
        block = self._blocks.popleft()
        self._queued_s -= block.duration_s
        self._lost_s += block.duration_s
        self.dropped_blocks += 1
        self.dropped_s += block.duration_s
        self._engine.metrics.dropped_blocks.inc()
        self._engine.metrics.dropped_s.inc(block.duration_s)

    async def _work_off(self) -> None:
        try:
            while True:
                await self._has_work.wait()
                await self._work()
                if not self._blocks:
                    self._has_work.clear()
                    self._is_idle.set()
        finally:
            self._is_idle.set()  # nobody shall wait for what has ended

    async def _work(self) -> None:
        blocks = self._take()
        loop, pool = asyncio.get_running_loop(), self._engine.pool
        heard = await loop.run_in_executor(pool, self._hear, blocks, self._lost_s)
        self._has_room.set()
        self._engine.metrics.lag_s.observe(time.monotonic() - blocks[0].arrived_s)
        await self._deliver(heard)

    def _take(self) -> list[_Block]:
        blocks: list[_Block] = []
        duration_s = 0.0
        while self._blocks and (not blocks or duration_s + self._blocks[0].duration_s <= PIECE_S):
            blocks.append(self._blocks.popleft())
            duration_s += blocks[-1].duration_s
        self._queued_s = max(0.0, self._queued_s - duration_s)
        return blocks

    def _hear(self, blocks: list[_Block], lost_s: float) -> Heard:
        """Runs in a worker."""
        began_s = time.perf_counter()
        waveforms = []
        for block in blocks:
            waveforms.append(self._decoder.feed(block.data))
            self._num_samples += waveforms[-1].size
            self._marks.append((self._num_samples / SAMPLE_RATE, block.timestamp))
        heard = self._heard(self._stream.feed(np.concatenate(waveforms)), lost_s)
        self._engine.metrics.busy_s.inc(time.perf_counter() - began_s)
        self._audio_s.inc(sum(block.duration_s for block in blocks))
        return heard

    def _flush(self) -> Heard:
        """Runs in a worker."""
        rest: Waveform = self._decoder.flush()
        self._num_samples += rest.size
        return self._heard(self._stream.feed(rest) + self._stream.flush(), self._lost_s)

    def _heard(self, detections: list[Detection], lost_s: float) -> Heard:
        detections = [detection for detection in detections if detection.keyword in self.keywords]
        for detection in detections:
            self._engine.metrics.detections.labels(detection.keyword).inc()
        timestamps = [self._timestamp(detection.end_s) for detection in detections]
        end_s = self._num_samples / SAMPLE_RATE
        while self._marks and self._marks[0][0] < end_s - MARKS_S:
            self._marks.popleft()
        moved = [replace(one, start_s=one.start_s + lost_s, end_s=one.end_s + lost_s) for one in detections]
        return Heard(moved, timestamps, self._stream.recent_scores, end_s + lost_s)

    def _timestamp(self, end_s: float) -> int | None:
        """Returns the timestamp of the block in which the stream's time `end_s` lies."""
        stated = [timestamp for block_end_s, timestamp in self._marks if block_end_s >= end_s]
        return stated[0] if stated else self._marks[-1][1] if self._marks else None


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancels `task` and returns when it has ended.

    More than one attempt can be needed: `asyncio.wait_for` of Python 3.11 and older loses a cancellation that comes at
    the moment at which what it waits for is done (https://github.com/python/cpython/issues/86296).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_S)
