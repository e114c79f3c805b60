"""The web side of a server: `/ws` takes audio and answers in JSON, `/metrics` is for Prometheus, `/health` for scripts.

A WebSocket client sends raw audio in binary messages, and JSON in text messages:

    {"type": "start", "rate": 48000, "width": 2, "channels": 1, "float": false,
     "keywords": ["hey computer"], "scores": true}
        begins a stream. All fields but `type` may be left out: 16000 Hz, 2 bytes, 1 channel, integers, all keywords, no
        scores. Without it, the first audio begins a stream of that kind. `width` is 1 (unsigned), 2, 3 or 4 bytes,
        little endian; "float": true with "width": 4 is what browsers give.
    {"type": "stop"}
        ends the stream.

It receives text messages:

    {"type": "ready", "keywords": […], "thresholds": […], "rate": …, "width": …, "channels": …, "float": …}
        on connecting and after each start.
    {"type": "detection", "keyword": …, "score": …, "start_s": …, "end_s": …}
        times in seconds since the stream's first sample.
    {"type": "scores", "end_s": …, "scores": {keyword: 0 to 1}}
        the highest since the last such message; only if asked for, and left out while the client reads too slowly.
    {"type": "dropped", "blocks": …}
        so many blocks were lost, since the server was too slow.
    {"type": "stopped", "end_s": …, "detections": …, "dropped_blocks": …}
        all audio before a stop was heard; `detections` of this stream, `dropped_blocks` of this connection.
    {"type": "error", "text": …}
        what the client did wrong; the connection is then closed (1008, or 1009 for a message that is too long).
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from kws.errors import AudioError, KwsError
from kws.serve.client import MAX_UNREAD_BYTES, Clients, LossReport, choose_keywords, first_of, guard_socket
from kws.serve.metrics import CONTENT_TYPE
from kws.serve.pcm import PcmFormat
from kws.serve.session import Engine, Heard, Session
from kws.serve.settings import ProtocolError, is_loopback

PROTOCOL = "websocket"
HEARTBEAT_S = 30.0


def make_app(engine: Engine, clients: Clients, is_local: bool) -> web.Application:
    """Returns the web application.

    Args:
        engine: what all clients share.
        clients: who is connected.
        is_local: whether only this machine can connect; names of other machines are then refused, so that no web page
            reaches the server by a name that it makes point here.
    """
    app = web.Application(middlewares=[make_guard(engine, is_local)], client_max_size=1 << 16)

    async def websocket(request: web.Request) -> web.StreamResponse:
        return await serve_socket(WebSocketClient(engine, clients, request))

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=engine.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"keywords": engine.detector.keywords, "clients": len(clients.sessions)})

    app.add_routes([web.get("/ws", websocket), web.get("/metrics", metrics), web.get("/health", health)])
    return app


def make_guard(engine: Engine, is_local: bool) -> Any:
    """Returns the middleware that turns away pages of other addresses, and with `is_local` other names of this one."""
    allowed_hosts = {urlsplit(origin).hostname for origin in engine.config.allowed_origins}

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        host = urlsplit(f"//{request.host}").hostname or ""
        if is_local and not is_loopback(host) and host not in allowed_hosts:
            raise web.HTTPForbidden(text=f"this server answers to localhost only, not to '{host}'\n")
        origin = request.headers.get("Origin")
        is_own = origin is None or urlsplit(origin).netloc == request.host
        if not is_own and origin not in engine.config.allowed_origins:
            raise web.HTTPForbidden(text=f"pages of {origin} may not connect; --allow-origin lets them\n")
        return await handler(request)

    return guard


async def serve_socket(client: SocketClient) -> web.StreamResponse:
    """Serves `client` to its end, if there is a place for it."""
    if client.clients.is_full(PROTOCOL, client.peer):
        raise web.HTTPServiceUnavailable(text="this server has as many clients as it allows; try again later\n")
    with client.clients.connected(PROTOCOL, client.session):
        return await client.run()


class SocketClient(ABC):
    """Serves one connection: audio in binary messages, JSON in text messages.

    Attributes:
        session: takes its audio.
        peer: how reports call it.
        clients: who is connected.

    Args:
        engine: what all clients share.
        clients: who is connected.
        request: what it began with.
    """

    def __init__(self, engine: Engine, clients: Clients, request: web.Request) -> None:
        self._engine, self.clients, self._request = engine, clients, request
        self.peer = f"websocket {request.remote or 'at the socket'}"
        self._socket = web.WebSocketResponse(
            timeout=engine.config.drain_s,
            heartbeat=HEARTBEAT_S,
            max_msg_size=engine.config.max_message_bytes,
            compress=False,
        )
        self.session = Session(engine, PROTOCOL, self.deliver)
        self._losses = LossReport(clients, self.peer, self.session)

    @abstractmethod
    def ready(self) -> dict[str, Any]:
        """Returns what the client is told first."""

    @abstractmethod
    async def handle(self, values: dict[str, Any]) -> None:
        """Does what the message `values` asks for; it has a `type`."""

    @abstractmethod
    async def deliver(self, heard: Heard) -> None:
        """Sends what was `heard` in a piece of audio."""

    async def run(self) -> web.WebSocketResponse:
        """Answers until the client ends, breaks the rules, or takes no answer."""
        await self._socket.prepare(self._request)
        if self._request.transport is not None:
            guard_socket(self._request.transport.get_extra_info("socket"))
        try:
            await self.send(self.ready())
            async with self.session as session:
                await first_of(self._read(), session.task)
        except KwsError as error:
            text = self.clients.failed(PROTOCOL, self.peer, error)
            await self._refuse(text)
        except (OSError, asyncio.TimeoutError) as error:  # it went away, or reads nothing
            self.clients.failed(PROTOCOL, self.peer, error)
        except asyncio.CancelledError:  # the server ends
            await self._socket.close(code=WSCloseCode.GOING_AWAY)
            raise
        finally:
            self._losses.tell(is_last=True)
            self._abort_if_unread()
        return self._socket

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message.type == WSMsgType.BINARY:
                await self.session.feed(message.data)
            elif message.type == WSMsgType.TEXT:
                await self.handle(_parse(message.data))
            elif message.type == WSMsgType.ERROR:
                raise ProtocolError(f"a message could not be read: {message.data}")
            else:  # closing, by either side
                return

    async def _receive(self) -> WSMessage:
        idle_s = self._engine.config.idle_s
        try:
            return await self._socket.receive(idle_s)
        except asyncio.TimeoutError as error:
            raise ProtocolError(f"nothing came for {idle_s:g} s") from error

    async def tell_losses(self) -> None:
        """Tells the client how many blocks were lost since it was last told."""
        if num_lost := self._losses.tell():
            await self.send({"type": "dropped", "blocks": num_lost})

    @property
    def reads_in_time(self) -> bool:
        """Whether the client reads what it is sent."""
        return self._num_unread() < MAX_UNREAD_BYTES

    async def send(self, values: dict[str, Any]) -> None:
        """Sends `values`; raises TimeoutError if the client doesn't take it in time."""
        text = json.dumps(values, ensure_ascii=False)
        await asyncio.wait_for(self._socket.send_str(text), self._engine.config.send_s)

    async def _refuse(self, text: str) -> None:
        try:
            if not self._socket.closed:
                await self.send({"type": "error", "text": text})
                await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=text.encode()[:100])
        except (OSError, asyncio.TimeoutError):
            return

    def _num_unread(self) -> int:
        transport = self._request.transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def _abort_if_unread(self) -> None:
        """Closes without waiting for a client that does not read."""
        transport = self._request.transport
        if transport is not None and self._num_unread():
            transport.abort()


class WebSocketClient(SocketClient):
    """Speaks what the head of this file says."""

    def __init__(self, engine: Engine, clients: Clients, request: web.Request) -> None:
        super().__init__(engine, clients, request)
        self._names = choose_keywords(None, engine.detector.keywords)
        self._has_scores = False
        self._num_detections = 0

    async def handle(self, values: dict[str, Any]) -> None:
        if values["type"] == "start":
            pcm, names = parse_format(values), choose_keywords(values.get("keywords"), self._engine.detector.keywords)
            await self.session.start(pcm)
            self._names, self._num_detections = names, 0
            self.session.keywords = frozenset(names)
            self._has_scores = values.get("scores") is True
            await self.send(self.ready())
        elif values["type"] == "stop":
            heard = await self.session.stop()
            await self.deliver(heard)
            counts = {"detections": self._num_detections, "dropped_blocks": self.session.dropped_blocks}
            await self.send({"type": "stopped", "end_s": round(heard.end_s, 4)} | counts)
            self._num_detections = 0
        else:
            raise ProtocolError(f"a message of type {str(values['type'])[:80]!r} came; expected 'start' or 'stop'")

    async def deliver(self, heard: Heard) -> None:
        await self.tell_losses()
        for one in heard.detections:
            self._num_detections += 1
            self.clients.report(f"{self.peer}: {one.keyword} ({one.score:.2f})")
            times = {"start_s": round(one.start_s, 4), "end_s": round(one.end_s, 4)}
            name = self._names[one.keyword]
            await self.send({"type": "detection", "keyword": name, "score": round(one.score, 4)} | times)
        if self._has_scores and self.reads_in_time:
            scores = dict(zip(self._engine.detector.keywords, heard.scores.tolist()))
            chosen = {self._names[keyword]: round(scores[keyword], 4) for keyword in self._names}
            await self.send({"type": "scores", "end_s": round(heard.end_s, 4), "scores": chosen})

    def ready(self) -> dict[str, Any]:
        detector, pcm = self._engine.detector, self.session.format
        thresholds = dict(zip(detector.keywords, detector.thresholds))
        return {
            "type": "ready",
            "keywords": list(self._names.values()),
            "thresholds": [thresholds[keyword] for keyword in self._names],
            "rate": pcm.rate,
            "width": pcm.width,
            "channels": pcm.channels,
            "float": pcm.is_float,
        }


def _parse(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a text message is not JSON ({error})") from error
    if not isinstance(values, dict) or "type" not in values:
        raise ProtocolError("a text message is no JSON object with a 'type'; expected 'start' or 'stop'")
    return values


def parse_format(values: dict[str, Any]) -> PcmFormat:
    """Returns the format that a `start` message states; raises AudioError on an impossible one."""
    is_float = values.get("float", False)
    if not isinstance(is_float, bool):
        raise AudioError(f"audio with float {str(is_float)[:20]!r} was announced; expected true or false")
    stated = {name: values[name] for name in ("rate", "width", "channels") if name in values}
    return PcmFormat(**{"width": 4 if is_float else 2} | stated, is_float=is_float)
