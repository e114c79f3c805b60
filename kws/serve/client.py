"""What Wyoming and WebSocket clients have in common: a place among the clients, and one end for every fault."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kws.serve.metrics import Metrics
from kws.serve.session import Session, end_task
from kws.serve.settings import ProtocolError, ServeConfig

Report = Callable[[str], object]
LOSS_REPORT_S = 10.0
"""Seconds between two reports of blocks that one client loses."""
MAX_UNREAD_BYTES = 1 << 16
"""Answers that wait for a client to read them; scores are left out meanwhile."""


class Clients:
    """Who is connected.

    Attributes:
        sessions: of each connection, by the task that serves it.

    Args:
        config: says how many may be.
        metrics: counts them.
        report: called with a line for each client refused, and for each closed with an error.
    """

    def __init__(self, config: ServeConfig, metrics: Metrics, report: Report) -> None:
        self.sessions: dict[asyncio.Task[Any], Session] = {}
        self.report = report
        self._config, self._metrics = config, metrics

    def is_full(self, protocol: str, peer: str) -> bool:
        """Returns whether one more would be too many, and counts and reports it if so."""
        if len(self.sessions) < self._config.max_clients:
            return False
        self._metrics.refused.labels(protocol).inc()
        self.report(f"{peer}: refused, {len(self.sessions)} clients are connected (--max-clients)")
        return True

    @contextmanager
    def connected(self, protocol: str, session: Session) -> Iterator[None]:
        """Counts the current task as the client whose audio `session` takes."""
        task = asyncio.current_task()
        assert task is not None
        self.sessions[task] = session
        self._metrics.connections.labels(protocol).inc()
        self._metrics.clients.labels(protocol).inc()
        try:
            yield
        finally:
            del self.sessions[task]
            self._metrics.clients.labels(protocol).dec()

    async def end(self) -> None:
        """Lets what is queued be heard for a moment, then ends all clients."""
        tasks = list(self.sessions)
        if not tasks:
            return
        self.report(f"ending {len(tasks)} clients")
        queued = [asyncio.ensure_future(session.drain()) for session in self.sessions.values()]
        _, late = await asyncio.wait(queued, timeout=self._config.drain_s)
        for task in [*late, *tasks]:
            task.cancel()
        await asyncio.wait(tasks, timeout=self._config.drain_s)

    def failed(self, protocol: str, peer: str, error: BaseException) -> str:
        """Counts and reports `error`, which ends the connection; returns what the client is told."""
        self._metrics.client_errors.labels(protocol).inc()
        text = str(error) or type(error).__name__
        self.report(f"{peer}: closed: {text}")
        return text


class LossReport:
    """Reports the blocks that a session loses, now and then, and what is left at its end.

    Args:
        clients: takes the line.
        peer: who loses them.
        session: counts them.
    """

    def __init__(self, clients: Clients, peer: str, session: Session) -> None:
        self._clients, self._peer, self._session = clients, peer, session
        self._num_told, self._told_s = 0, -LOSS_REPORT_S

    def tell(self, is_last: bool = False) -> int:
        """Returns how many blocks were lost since this last returned any, and reports them."""
        num_new = self._session.dropped_blocks - self._num_told
        if not num_new or not (is_last or time.monotonic() - self._told_s >= LOSS_REPORT_S):
            return 0
        self._num_told, self._told_s = self._session.dropped_blocks, time.monotonic()
        self._clients.report(
            f"{self._peer}: {num_new} blocks were dropped ({self._session.dropped_s:.1f} s so far): this machine is "
            f"too slow for {len(self._clients.sessions)} clients"
        )
        return num_new


def guard_socket(connection: socket.socket) -> None:
    """Has the system notice a client that vanished, and hold no more than a little for one that does not read."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_UNREAD_BYTES)


async def first_of(reading: Coroutine[Any, Any, None], working: asyncio.Task[None]) -> None:
    """Returns when `reading` does, or raises what either of the two raised first; `reading` is then cancelled."""
    task = asyncio.create_task(reading)
    try:
        done, _ = await asyncio.wait({task, working}, return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()
    finally:
        await end_task(task)


def choose_keywords(asked: object, known: Iterable[str]) -> dict[str, str]:
    """Returns the known keywords among those `asked` for, and the name by which each was asked for.

    Upper case and underscores make no difference. None, or no name, means all.

    Raises:
        ProtocolError: a name that isn't known, or something that is no list of names.
    """
    known = list(known)
    if not asked:
        return {name: name for name in known}
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise ProtocolError(f"keywords must be a list of names, not {str(asked)[:80]!r}")
    by_form = {_form(name): name for name in known}
    unknown = [name for name in asked if _form(name) not in by_form]
    if unknown:
        raise ProtocolError(f"no keyword '{unknown[0][:80]}' here; this server listens for: {', '.join(known)}")
    return {by_form[_form(name)]: name for name in asked}


def _form(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
