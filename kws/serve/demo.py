"""The demo: a page to pick or make a wake word, speak, and see what the detector hears; all of it from this machine."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import soundfile
from aiohttp import web

from kws.errors import KwsError
from kws.frames import SAMPLE_RATE
from kws.serve.client import Clients
from kws.serve.demo_browser import browser_graph, describe_browser_model
from kws.serve.demo_client import DemoClient
from kws.serve.demo_runtime import find_runtime
from kws.serve.demo_shelf import Shelf
from kws.serve.demo_training import Training
from kws.serve.demo_watch import Watch
from kws.serve.server import Server
from kws.serve.session import Engine
from kws.serve.settings import ServeConfig
from kws.serve.websocket import make_guard, serve_socket

DEMO_URI = "http://127.0.0.1:10402"
PAGE_FOLDER = Path(__file__).parent / "page"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
"""Stated here, since some systems know other ones, and browsers run no module of a wrong type."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' ws: wss:; "
    "media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Demo:
    """What all pages share.

    Attributes:
        shelf: the wake words.
        training: the one that runs, if one does.
        pages: those that are open.
        overrides: settings of training that differ.

    Args:
        shelf: the wake words.
        overrides: `"section.key=value"` changes to the settings of training.
        report: called with lines for people.
    """

    def __init__(
        self, shelf: Shelf, overrides: Sequence[str] = (), report: Callable[[str], object] = lambda line: None
    ) -> None:
        self.shelf = shelf
        self.overrides = tuple(overrides)
        self.pages: set[DemoClient] = set()
        self.training = Training(self._on_training)
        self._report = report

    def describe(self) -> dict[str, Any]:
        """Returns what a page shows before anything happens."""
        offers = [offer.as_json() for offer in self.shelf.offers.values()]
        folder = str(self.shelf.folder.resolve())
        return {"wakewords": offers, "folder": folder, "training": self.training.state, "cannot_train": _no_training()}

    def take(self, name: str) -> bytes | None:
        """Returns the take `name` of any page as a WAV file; only who recorded it knows its name."""
        for page in self.pages:
            if name in page.takes:
                file = io.BytesIO()
                soundfile.write(file, page.takes[name], SAMPLE_RATE, format="WAV", subtype="PCM_16")
                return file.getvalue()
        return None

    def _on_training(self, state: dict[str, Any]) -> None:
        if state["state"] in ("done", "failed", "cancelled"):
            self._report(f"training of '{state['phrase']}': {state['state']} {state.get('text', '')}".rstrip())
        if state["state"] == "done":
            self.shelf.refresh()
            state = state | {"name": self.shelf.name_of(Path(state["path"])), **self.describe()}
            state["type"] = "trained"
        for page in self.pages:
            page.tell(state)


def make_demo_app(demo: Demo, engine: Engine, clients: Clients, is_local: bool) -> web.Application:
    """Returns the web application of the demo.

    Args:
        demo: what all pages share.
        engine: workers and counts; its detector is not used.
        clients: the pages that are connected.
        is_local: whether only this machine can connect.
    """
    app = web.Application(middlewares=[make_guard(engine, is_local)], client_max_size=1 << 16)

    async def index(request: web.Request) -> web.StreamResponse:
        return _file(PAGE_FOLDER, "index.html")

    async def browser(request: web.Request) -> web.StreamResponse:
        return _file(PAGE_FOLDER, "browser.html")

    async def page_file(request: web.Request) -> web.StreamResponse:
        return _file(PAGE_FOLDER, request.match_info["name"])

    async def runtime_file(request: web.Request) -> web.StreamResponse:
        return _file(find_runtime(), request.match_info["name"])

    async def websocket(request: web.Request) -> web.StreamResponse:
        return await serve_socket(DemoClient(demo, engine, clients, request))

    async def take(request: web.Request) -> web.StreamResponse:
        content = demo.take(request.match_info["name"])
        if content is None:
            raise web.HTTPNotFound(text="this take is gone\n")
        return web.Response(body=content, content_type="audio/wav", headers=HEADERS)

    async def wakewords(request: web.Request) -> web.StreamResponse:
        return web.json_response(demo.describe() | {"has_runtime": find_runtime() is not None}, headers=HEADERS)

    async def model(request: web.Request) -> web.StreamResponse:
        make = partial(describe_browser_model, _wakeword(request))
        return web.json_response(await _made(make), headers=HEADERS)

    async def graph(request: web.Request) -> web.StreamResponse:
        content = await _made(partial(_graph, _wakeword(request).encoder))
        return web.Response(body=content, content_type="application/octet-stream", headers=HEADERS)

    def _wakeword(request: web.Request) -> Any:
        try:
            return demo.shelf[request.query.get("name", "")].wakeword
        except KwsError as error:
            raise web.HTTPNotFound(text=f"{error}\n") from error

    async def close(app: web.Application) -> None:
        await demo.training.close()

    app.on_shutdown.append(close)
    app.add_routes(
        [
            web.get("/", index),
            web.get("/browser", browser),
            web.get("/page/{name}", page_file),
            web.get("/runtime/{name}", runtime_file),
            web.get("/demo", websocket),
            web.get("/takes/{name}", take),
            web.get("/wakewords", wakewords),
            web.get("/wakeword/model", model),
            web.get("/wakeword/graph", graph),
        ]
    )
    return app


def make_demo_server(demo: Demo, uri: str, report: Callable[[str], object], config: ServeConfig) -> Server:
    """Returns the server of the demo at `uri`; raises ConfigError if that is no address."""
    app = partial(make_demo_app, demo)
    return Server(Watch(), web=[uri], config=config, report=report, web_app=app)


def _file(folder: Path | None, name: str) -> web.StreamResponse:
    path = None if folder is None else folder / name
    if path is None or path.parent != folder or path.suffix not in CONTENT_TYPES or not path.is_file():
        raise web.HTTPNotFound(text="there is no such page\n")
    return web.FileResponse(path, headers=HEADERS | {"Content-Type": CONTENT_TYPES[path.suffix]})


async def _made(make: Callable[[], Any]) -> Any:
    try:
        return await asyncio.get_running_loop().run_in_executor(None, make)
    except KwsError as error:
        raise web.HTTPUnprocessableEntity(text=f"{error}\n") from error


_graph = lru_cache(maxsize=2)(browser_graph)


def _no_training() -> str:
    """Returns why nothing can be trained here, or an empty string."""
    if find_spec("torch") is not None:  # importing it would take seconds; the training's own process does
        return ""
    return "training needs the package 'torch', which is not installed; run: pip install 'kws[train]'"
