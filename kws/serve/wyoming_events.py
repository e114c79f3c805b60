"""Wyoming events from a socket, with a limit to everything that a client states the length of."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from wyoming.event import Event

from kws.serve.settings import ProtocolError

MAX_HEADER_BYTES = 1 << 16
"""Longest line of JSON, and longest further JSON, of one event."""


async def read_event(reader: asyncio.StreamReader, max_payload_bytes: int) -> Event | None:
    """Returns the next event, or None where the client ended.

    The package's own `async_read_event` takes events of any length, and ends without a word at a bad one.

    Args:
        reader: its limit must be `MAX_HEADER_BYTES`.
        max_payload_bytes: longest payload.

    Raises:
        ProtocolError: no event, one that is too long, or half of one.
    """
    try:
        line = await reader.readline()
    except ValueError as error:
        raise ProtocolError(f"an event's header is longer than {MAX_HEADER_BYTES} bytes") from error
    if not line:
        return None
    header = _parse(line)
    kind = header.get("type")
    if not isinstance(kind, str):
        raise ProtocolError("an event's header has no type; this server speaks the Wyoming protocol")
    data = header.get("data") or {}
    if not isinstance(data, dict):
        raise ProtocolError(f"the data of '{kind[:80]}' is no JSON object")
    try:
        if num_bytes := _length(header, "data_length", MAX_HEADER_BYTES):
            data = data | _parse(await reader.readexactly(num_bytes))
        num_bytes = _length(header, "payload_length", max_payload_bytes)
        payload = await reader.readexactly(num_bytes) if num_bytes else None
    except asyncio.IncompleteReadError as error:
        raise ProtocolError(f"the connection ended within '{kind[:80]}'") from error
    return Event(kind, data, payload)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"an event is not JSON ({error}); this server speaks the Wyoming protocol") from error
    if not isinstance(values, dict):
        raise ProtocolError("an event is no JSON object; this server speaks the Wyoming protocol")
    return values


def _length(header: dict[str, Any], name: str, allowed: int) -> int:
    length = header.get(name) or 0
    if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= allowed:
        raise ProtocolError(f"an event has {name} {str(length)[:20]}; expected 0 to {allowed} bytes")
    return length
