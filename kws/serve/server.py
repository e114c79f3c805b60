"""The server: listens on Wyoming and web addresses, shares one detector among all clients, ends gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace

from aiohttp import web as web_server

from kws.errors import ConfigError, DependencyError
from kws.serve.client import Clients, Report, guard_socket
from kws.serve.discovery import Announcement
from kws.serve.session import Engine, Listens
from kws.serve.settings import Address, ServeConfig, parse_address
from kws.serve.websocket import make_app
from kws.serve.wyoming import WyomingClient
from kws.serve.wyoming_events import MAX_HEADER_BYTES

_OWNER_ONLY = 0o177
_CANT_BIND = (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL)


class Server:
    """Serves a detector while it is open. Use it in an `async with` block.

    Args:
        detector: the wake words.
        wyoming: addresses for Wyoming: `tcp://HOST:PORT`, `unix:///PATH`.
        web: addresses for WebSocket and metrics: `http://HOST:PORT`, `unix:///PATH`.
        config: limits.
        report: called with lines for people.
        version: told to Wyoming clients.
        is_announced: whether addresses that other machines reach are announced by zeroconf, where it is installed.
        web_app: makes what is served on the web addresses of the engine, the clients, and whether only this machine
            can connect.

    Attributes:
        engine: the detector, its workers and the counts.
        clients: who is connected.
        addresses: where it listens; ports that the system chose are filled in.

    Raises:
        ConfigError: no address, a wrong one, or one that can't be listened on.
    """

    def __init__(
        self,
        detector: Listens,
        wyoming: Sequence[str] = (),
        web: Sequence[str] = (),
        config: ServeConfig = ServeConfig(),
        report: Report = lambda line: None,
        version: str = "",
        is_announced: bool = False,
        web_app: Callable[[Engine, Clients, bool], web_server.Application] = make_app,
    ) -> None:
        self._wyoming = [parse_address(uri, "tcp", "unix") for uri in wyoming]
        self._web = [parse_address(uri, "http", "unix") for uri in web]
        if not self._wyoming + self._web:
            raise ConfigError("there is no address to listen on; give --uri or --web")
        self.engine = Engine(detector, config)
        self.clients = Clients(config, self.engine.metrics, report)
        self.addresses: list[Address] = []
        self._report, self._version, self._is_announced = report, version, is_announced
        self._web_app = web_app
        self._closing = contextlib.AsyncExitStack()
        self._servers: list[asyncio.AbstractServer] = []
        self._sites: list[web_server.BaseSite] = []

    async def __aenter__(self) -> Server:
        self._closing.callback(self.engine.close)
        try:
            for address in self._web:
                await self._listen_web(address)
            for address in self._wyoming:
                await self._listen_wyoming(address)
        except BaseException:
            await self._stop_listening()
            await self._closing.aclose()
            raise
        self._closing.push_async_callback(self.clients.end)
        self._closing.push_async_callback(self._stop_listening)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stops listening, lets what is queued be heard for a moment, and ends all clients."""
        await self._closing.aclose()

    async def _listen_wyoming(self, address: Address) -> None:
        listener = self._bind(address)
        start = asyncio.start_unix_server if address.scheme == "unix" else asyncio.start_server
        server = await start(self._serve_wyoming, sock=listener, limit=MAX_HEADER_BYTES)  # type: ignore[operator]
        self._servers.append(server)
        if self._is_announced and address.scheme == "tcp":
            await self._announce(self.addresses[-1])

    async def _serve_wyoming(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guard_socket(writer.get_extra_info("socket"))
        with contextlib.suppress(asyncio.CancelledError):  # asyncio 3.11 logs a fault for it
            await WyomingClient(self.engine, self.clients, reader, writer, self._version).run()

    async def _listen_web(self, address: Address) -> None:
        app = self._web_app(self.engine, self.clients, address.is_local)
        runner = web_server.AppRunner(app, access_log=None, shutdown_timeout=self.engine.config.drain_s)
        await runner.setup()
        self._closing.push_async_callback(runner.cleanup)
        self._sites.append(web_server.SockSite(runner, self._bind(address)))
        await self._sites[-1].start()

    async def _announce(self, address: Address) -> None:
        if address.is_local:
            self._report(f"{address} is for this machine only, so it is not announced; --uri tcp://0.0.0.0:10400 is")
            return
        try:
            announcement = Announcement(address)
            await announcement.open()
        except (DependencyError, OSError) as error:
            self._report(f"not announced by zeroconf: {error}")
            return
        self._closing.push_async_callback(announcement.close)
        self._report(f"announced by zeroconf as {announcement.name}")

    def _bind(self, address: Address) -> socket.socket:
        try:
            listener = _unix_socket(address.path) if address.scheme == "unix" else _tcp_socket(address)
        except OSError as error:
            reason = error.strerror or str(error)
            remedy = "choose another" if error.errno in _CANT_BIND else "check its spelling"
            raise ConfigError(f"can't listen on {address} ({reason}); {remedy}") from error
        if address.scheme == "unix":
            self._closing.callback(_unlink, address.path)
        else:
            address = replace(address, port=listener.getsockname()[1])
        self.addresses.append(address)
        if not address.is_local:
            self._report(f"{address} is open to the network, without password or encryption")
        return listener

    async def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        for site in self._sites:
            await site.stop()


async def run_server(server: Server, report: Report, on_open: Callable[[Server], object] = lambda server: None) -> None:
    """Serves until SIGINT or SIGTERM, then ends gracefully; `on_open` is called once it listens."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows; there Ctrl-C cancels this coroutine
            loop.add_signal_handler(number, ended.set)
    async with server:
        for address in server.addresses:
            report(f"listening on {address}")
        on_open(server)
        await ended.wait()
    metrics = server.engine.metrics
    heard_s = sum(metrics.value("kws_audio_seconds_total", protocol=name) for name in ("wyoming", "websocket"))
    dropped = metrics.value("kws_dropped_blocks_total")
    report(f"served {heard_s:.1f} s of audio; dropped blocks: {dropped:.0f}")


def _tcp_socket(address: Address) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError:
        listener.close()
        raise
    return listener


def _unix_socket(path: str) -> socket.socket:
    """Returns a socket at `path` that its owner alone may use; one that a dead server left there is replaced."""
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError(f"this system has no Unix sockets, so unix://{path} can't be; use tcp:// or http://")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode) and not _answers(path):
            os.unlink(path)
        mask = os.umask(_OWNER_ONLY)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
    except OSError:
        listener.close()
        raise
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
