"""A server on loopback ports that the system chooses, and clients for it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.ping import Ping
from wyoming.wake import Detect, Detection, NotDetected

from kws.audio.samples import pcm16_from_waveform as pcm16
from kws.detect.detector import Detector
from kws.serve.server import Server
from kws.serve.settings import ServeConfig

Result = TypeVar("Result")
PATIENCE_S = 60.0
"""How long a test waits for what should come at once: the machine may be busy."""
CHUNK = 1024


class Serving:
    """A server that runs in a thread of its own, as clients elsewhere would find it.

    Attributes:
        server: what runs; look at it only once it is quiet.
        reports: its lines.
        wyoming: its address.
        web: its address.
    """

    def __init__(self, detector: Detector, config: ServeConfig, **options: Any) -> None:
        self.reports: list[str] = []
        uris = {"wyoming": ["tcp://127.0.0.1:0"], "web": ["http://127.0.0.1:0"]} | options
        self.server = Server(detector, config=config, report=self.reports.append, version="0", **uris)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Serving:
        self._thread.start()
        self.call(self.server.__aenter__())
        named = {address.scheme: str(address) for address in self.server.addresses}
        self.wyoming, self.web = named.get("tcp", ""), named.get("http", "")
        return self

    def __exit__(self, *exception: object) -> None:
        self.call(self.server.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Returns the result of `coroutine`, run where the server runs."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Returns once `condition` holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, self.reports
            time.sleep(0.01)

    def metric(self, name: str, **labels: str) -> float:
        return self.server.engine.metrics.value(name, **labels)


Serve = Callable[..., AbstractContextManager[Serving]]


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Returns the result of `coroutine`, which must come in time."""
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))


def spoken(waveform: np.ndarray, chunk: int = CHUNK) -> Iterator[Event]:
    """Yields the events in which the package's own client sends `waveform`."""
    pcm = {"rate": 16_000, "width": 2, "channels": 1}
    yield AudioStart(**pcm, timestamp=0).event()
    for start in range(0, len(waveform), chunk):
        audio = pcm16(waveform[start : start + chunk]).tobytes()
        yield AudioChunk(**pcm, audio=audio, timestamp=1000 * start // 16_000).event()
    yield AudioStop(timestamp=1000 * len(waveform) // 16_000).event()


async def detect(uri: str, waveform: np.ndarray, names: list[str] | None = None, chunk: int = CHUNK) -> list[Detection]:
    """Returns what the package's own client is told of `waveform`, which it sends as fast as it can."""
    answers = await ask(uri, Detect(names).event(), *spoken(waveform, chunk))
    assert all(Detection.is_type(event.type) or NotDetected.is_type(event.type) for event in answers)
    return [Detection.from_event(event) for event in answers if Detection.is_type(event.type)]


async def ask(uri: str, *events: Event) -> list[Event]:
    """Returns all answers to `events`, which are sent as fast as the server takes them."""
    async with AsyncClient.from_uri(uri, read_timeout=PATIENCE_S) as client:
        answers = asyncio.create_task(_until_pong(client))
        for event in (*events, Ping("the end").event()):
            await client.write_event(event)
        return await answers


async def _until_pong(client: AsyncClient) -> list[Event]:
    answers = []
    while (event := await client.read_event()) is not None:
        if event.type == "pong" and event.data.get("text") == "the end":
            break
        answers.append(event)
    return answers


@contextmanager
def mute_client(uri: str, content: bytes = b"") -> Iterator[socket.socket]:
    """Yields a connection that sends `content` and never reads."""
    host, port = uri.partition("//")[2].split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(content)
        yield connection
