"""One Wyoming client: describe, detect, audio-start, audio-chunk, audio-stop ─▶ info, detection, not-detected, error.

Source: https://github.com/OHF-Voice/wyoming, the protocol of Home Assistant's voice assistants.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.info import Attribution, Describe, Info, WakeModel, WakeProgram
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from kws.errors import KwsError
from kws.serve.client import Clients, LossReport, choose_keywords, first_of
from kws.serve.pcm import PcmFormat
from kws.serve.session import Engine, Heard, Listens, Session
from kws.serve.settings import ProtocolError
from kws.serve.wyoming_events import MAX_HEADER_BYTES, read_event

PROTOCOL = "wyoming"
LINGER_S = 1.0
"""How long a client is given to take the error that ends its connection."""


class WyomingClient:
    """Serves one connection.

    Args:
        engine: what all clients share.
        clients: who else is connected.
        reader: from the client.
        writer: to the client.
        version: of this program, for `describe`.
    """

    def __init__(
        self,
        engine: Engine,
        clients: Clients,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        version: str,
    ) -> None:
        self.peer = f"wyoming {_peer(writer)}"
        self.session = Session(engine, PROTOCOL, self._deliver)
        self._losses = LossReport(clients, self.peer, self.session)
        self._engine, self._clients = engine, clients
        self._reader, self._writer = reader, writer
        self._version = version
        self._names = choose_keywords(None, engine.detector.keywords)
        self._context: dict[str, Any] | None = None
        self._is_within_audio = self._is_detected = False
        self._seen_s = time.monotonic()

    async def run(self) -> None:
        """Answers until the client ends, breaks the rules, or takes no answer; never raises for its faults."""
        try:
            if self._clients.is_full(PROTOCOL, self.peer):
                await self._send(Error("this server has as many clients as it allows; try again later", "full").event())
                return
            with self._clients.connected(PROTOCOL, self.session):
                watch = asyncio.create_task(self._watch())
                try:
                    async with self.session as session:
                        await first_of(self._read(), session.task)
                finally:
                    watch.cancel()
        except KwsError as error:
            await self._refuse(error)
        except (OSError, asyncio.TimeoutError) as error:  # it went away, or reads nothing
            self._clients.failed(PROTOCOL, self.peer, error)
        except Exception as error:  # a fault of this program ends one client, not the server
            self._clients.failed(PROTOCOL, self.peer, error)
            raise
        finally:
            self._losses.tell(is_last=True)
            self._writer.close()

    async def _read(self) -> None:
        while (event := await read_event(self._reader, self._engine.config.max_message_bytes)) is not None:
            self._seen_s = time.monotonic()
            await self._handle(event)
        await self.session.drain()

    async def _handle(self, event: Event) -> None:
        if AudioChunk.is_type(event.type):
            await self._on_chunk(event)
        elif AudioStart.is_type(event.type):
            await self._start(_format(event))
        elif AudioStop.is_type(event.type):
            await self._on_stop()
        elif Detect.is_type(event.type):
            self._names = choose_keywords(event.data.get("names"), self._engine.detector.keywords)
            context = event.data.get("context")
            self._context = context if isinstance(context, dict) else None
            await self._start(self.session.format)
            self._is_within_audio = False
        elif Describe.is_type(event.type):
            await self._send(describe(self._engine.detector, self._version).event())
        elif Ping.is_type(event.type):
            await self._send(Pong(Ping.from_event(event).text).event())

    async def _on_chunk(self, event: Event) -> None:
        pcm, timestamp = _format(event), event.data.get("timestamp")
        if not self._is_within_audio or pcm != self.session.format:  # satellites send no audio-start
            await self._start(pcm)
        if event.payload:
            await self.session.feed(event.payload, timestamp if isinstance(timestamp, int) else None)

    async def _on_stop(self) -> None:
        await self._deliver(await self.session.stop())
        if not self._is_detected:
            await self._send(NotDetected(self._context).event())
        self._is_within_audio = self._is_detected = False

    async def _start(self, pcm: PcmFormat) -> None:
        await self.session.start(pcm)
        self.session.keywords = frozenset(self._names)
        self._is_within_audio, self._is_detected = True, False

    async def _deliver(self, heard: Heard) -> None:
        self._losses.tell()
        for detection, timestamp in zip(heard.detections, heard.timestamps):
            self._is_detected = True
            self._clients.report(f"{self.peer}: {detection.keyword} ({detection.score:.2f})")
            stated = round(1000 * detection.end_s) if timestamp is None else timestamp
            await self._send(Detection(self._names[detection.keyword], stated, context=self._context).event())

    async def _send(self, event: Event) -> None:
        await asyncio.wait_for(async_write_event(event, self._writer), self._engine.config.send_s)

    async def _refuse(self, error: KwsError) -> None:
        text = self._clients.failed(PROTOCOL, self.peer, error)
        code = "protocol" if isinstance(error, ProtocolError) else "audio"
        try:
            await self._send(Error(text, code).event())
            self._writer.write_eof()
            await asyncio.wait_for(self._skip_rest(), LINGER_S)
        except (KwsError, OSError, asyncio.TimeoutError):
            return

    async def _skip_rest(self) -> None:
        """Reads on: closing a socket that holds unread audio would take the error back from a client that sends."""
        while await self._reader.read(MAX_HEADER_BYTES):
            pass

    async def _watch(self) -> None:
        idle_s = self._engine.config.idle_s
        while (left_s := self._seen_s + idle_s - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        self._reader.set_exception(ProtocolError(f"nothing came for {idle_s:g} s"))


def describe(detector: Listens, version: str) -> Info:
    """Returns what this server tells about itself: one wake-word program, a model for each keyword."""
    maker = Attribution(name="kws", url="")
    models = [
        WakeModel(
            name=keyword,
            attribution=maker,
            installed=True,
            description=keyword,
            version=version,
            languages=["en"],
            phrase=keyword,
        )
        for keyword in detector.keywords
    ]
    return Info(wake=[WakeProgram("kws", maker, True, "wake words from a typed phrase", version, models)])


def _format(event: Event) -> PcmFormat:
    values = {name: event.data.get(name) for name in ("rate", "width", "channels")}
    return PcmFormat(**values)  # type: ignore[arg-type]


def _peer(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "at the socket"
