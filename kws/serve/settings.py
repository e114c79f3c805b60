"""What a server listens on and what it allows its clients."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from kws.config import check
from kws.errors import ConfigError, KwsError

WYOMING_URI = "tcp://127.0.0.1:10400"
"""Wake-word services of Wyoming listen on this port."""
WEB_URI = "http://127.0.0.1:10401"


class ProtocolError(KwsError):
    """A message that a client should not have sent; it ends that client's connection."""


@dataclass(frozen=True)
class ServeConfig:
    """Limits of a server.

    Attributes:
        max_clients: connections at once, of all protocols together.
        max_message_bytes: largest block of audio, or text, that one message carries.
        max_queued_s: seconds of audio that wait for a worker, for each client.
        workers: threads that detect; 0 for one a core.
        idle_s: a connection on which nothing comes for so long is closed.
        send_s: a client that takes no answer for so long is closed.
        drain_s: how long the audio that is queued when the server ends may take.
        allowed_origins: web pages of other addresses that may connect, such as "https://example.org".
    """

    max_clients: int = 64
    max_message_bytes: int = 1 << 20
    max_queued_s: float = 5.0
    workers: int = 0
    idle_s: float = 3600.0
    send_s: float = 10.0
    drain_s: float = 3.0
    allowed_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(1 <= self.max_clients <= 10_000, "max_clients", self.max_clients, "1 to 10000")
        allowed = "1024 to 67108864 bytes"
        check(1 << 10 <= self.max_message_bytes <= 1 << 26, "max_message_bytes", self.max_message_bytes, allowed)
        check(0 < self.max_queued_s <= 600, "max_queued_s", self.max_queued_s, "more than 0, at most 600 seconds")
        check(0 <= self.workers <= 256, "workers", self.workers, "0 (one a core) to 256")
        for name in ("idle_s", "send_s", "drain_s"):
            check(getattr(self, name) > 0, name, getattr(self, name), "more than 0 seconds")

    @property
    def num_workers(self) -> int:
        """Threads that detect."""
        if self.workers:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Address:
    """Where a server listens: a host and a port, or the path of a socket.

    Attributes:
        scheme: "tcp", "http" or "unix".
        host: name or number of the interface; empty for a socket's path.
        port: 0 for one that the system chooses.
        path: of the socket.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.scheme == "unix" or is_loopback(self.host)

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_address(uri: str, *schemes: str) -> Address:
    """Returns the address that `uri` names.

    Raises:
        ConfigError: it is not of one of the `schemes`, or lacks the host, the port or the path.
    """
    examples = {"tcp": WYOMING_URI, "http": WEB_URI, "unix": "unix:///run/user/1000/kws.sock"}
    expected = "expected " + " or ".join(f"{examples[scheme]}" for scheme in schemes)
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"'{uri}' is no address ({error}); {expected}") from error
    if parts.scheme not in schemes:
        raise ConfigError(f"'{uri}' is no address for this; {expected}")
    if parts.scheme == "unix":
        path = parts.netloc + parts.path
        if not path:
            raise ConfigError(f"'{uri}' names no path; {expected}")
        return Address("unix", path=path)
    if not host or port is None or parts.path not in ("", "/"):
        raise ConfigError(f"'{uri}' needs a host and a port, and nothing else; {expected}")
    return Address(parts.scheme, host, port)


def is_loopback(host: str) -> bool:
    """Returns whether `host` means this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
