"""Announces a Wyoming server by zeroconf, so that Home Assistant finds it by itself."""

from __future__ import annotations

import re
import socket
from typing import Any

from kws.errors import require
from kws.serve.settings import Address

SERVICE = "_wyoming._tcp.local."
_MDNS_ADDRESS = ("224.0.0.251", 5353)
_ANY = ("0.0.0.0", "::", "")


class Announcement:
    """A service on the local network while it is open.

    Args:
        address: of the server; one that other machines reach.
        name: of the service; the machine's without one.

    Raises:
        DependencyError: the package `zeroconf` is missing.
    """

    def __init__(self, address: Address, name: str = "") -> None:
        asyncio_zeroconf = require("zeroconf.asyncio", "serve")
        host = _own_address(address.host)
        instance = re.sub(r"[^\w -]", "-", name or f"kws-{socket.gethostname()}")[:60]
        self._info = asyncio_zeroconf.AsyncServiceInfo(
            SERVICE,
            f"{instance}.{SERVICE}",
            addresses=[_packed(host)],
            port=address.port,
            server=f"{instance.replace(' ', '-')}.local.",
        )
        self._make = asyncio_zeroconf.AsyncZeroconf
        self._zeroconf: Any = None
        self.name = f"{instance} at {host}:{address.port}"

    async def open(self) -> None:
        """Announces; raises OSError where the network has no multicast."""
        self._zeroconf = self._make()
        await self._zeroconf.async_register_service(self._info, allow_name_change=True)

    async def close(self) -> None:
        """Takes the announcement back; idempotent."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            await zeroconf.async_unregister_service(self._info)
            await zeroconf.async_close()


def _own_address(host: str) -> str:
    """Returns the address under which others reach this machine, for a server bound to `host`."""
    if host not in _ANY:
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]  # type: ignore[return-value]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_MDNS_ADDRESS)  # sends nothing
        return probe.getsockname()[0]


def _packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
