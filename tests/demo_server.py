"""The server of `kws demo` on a loopback port, and a client that speaks as its page does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse
from serving import Serving

from kws.model.settings import TriggerConfig
from kws.serve.demo import Demo, make_demo_app
from kws.serve.demo_shelf import Shelf
from kws.serve.demo_watch import Watch
from kws.serve.settings import ServeConfig

TRAINING_S = 300.0
"""How long a test waits for the next message: a training begins with importing torch, and the machine may be busy."""
TRIGGER = TriggerConfig(threshold=0.5, smoothing_frames=3, refractory_s=0.3)


@contextmanager
def serve(folder: Path, *named: str, overrides: tuple[str, ...] = ()) -> Iterator[Serving]:
    app = partial(make_demo_app, Demo(Shelf(named, folder), overrides))
    with Serving(Watch(), ServeConfig(), wyoming=[], web_app=app) as serving:
        yield serving


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[ClientWebSocketResponse]:
    async with ClientSession() as session, session.ws_connect(f"{url}/demo") as socket:
        yield socket


async def receive(socket: ClientWebSocketResponse, *kinds: str) -> dict[str, Any]:
    """Returns the next message of one of the `kinds`; others are passed over."""
    while True:
        answer = await socket.receive_json(timeout=TRAINING_S)
        if answer["type"] in kinds:
            return answer


async def heard(socket: ClientWebSocketResponse, names: list[str], *pieces: bytes, rate: int = 16_000) -> list[Any]:
    """Returns all that is told of `pieces`, from the choice of the wake words `names` to the stream's end."""
    await socket.send_json({"type": "choose", "names": names})
    answers = [await receive(socket, "chosen")]
    await socket.send_json({"type": "start", "rate": rate})
    for piece in pieces:
        await socket.send_bytes(piece)
    await socket.send_json({"type": "stop"})
    while answers[-1]["type"] != "stopped":
        answers.append(await socket.receive_json(timeout=TRAINING_S))
    return answers


def of_type(answers: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [answer for answer in answers if answer["type"] == kind]
