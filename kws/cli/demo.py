"""The command that shows it all in a browser; `app.py` registers it."""

from __future__ import annotations

import asyncio
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from kws.errors import require

DEMO_EXAMPLES = (
    "Examples:\n\nkws demo\n\nkws demo hey_computer alexa --open\n\n"
    "kws demo --fetch-browser-runtime (once, for the detector in the browser; needs npm)"
)
_WEB = "http://127.0.0.1:10402"


def demo(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Wake words to offer, besides those in the folder."),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where wake words are looked for, and new ones go.")] = Path(),
    web: Annotated[str, typer.Option(help="Address of the page: http://HOST:PORT.")] = _WEB,
    is_opened: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="A setting of training; repeatable.")
    ] = [],  # noqa: B006 (typer copies it)
    allow_origins: Annotated[
        list[str],
        typer.Option("--allow-origin", help="Address by which a proxy shows the page, as https://example.org."),
    ] = [],  # noqa: B006
    fetch: Annotated[
        bool,
        typer.Option("--fetch-browser-runtime", help="Fetch onnxruntime-web with npm, for the page /browser, and end."),
    ] = False,
    archive: Annotated[
        Path | None, typer.Option("--browser-runtime", metavar="FILE", help="Take it from this npm archive instead.")
    ] = None,
) -> None:
    """Show a page on which to pick or make a wake word, speak, and see what the detector hears.

    The page records takes, trains, draws waveform, score and threshold as you speak, and says what another threshold
    would have done to the last minutes. It works without a network. Only this machine can open it, unless --web names
    another interface; browsers then give it the microphone over https only, so put a proxy before it, or use
    ssh -L 10402:localhost:10402. Ctrl-C ends.
    """
    require("aiohttp", "serve")
    require("prometheus_client", "serve")
    from kws.serve.demo import Demo, make_demo_server
    from kws.serve.demo_runtime import fetch_runtime
    from kws.serve.demo_shelf import Shelf
    from kws.serve.server import Server, run_server
    from kws.serve.settings import ServeConfig

    if fetch or archive is not None:
        fetch_runtime(_tell, archive)
        return
    shelf = Shelf(models or [], folder, _tell)
    server = make_demo_server(
        Demo(shelf, settings, _tell), web, _tell, ServeConfig(allowed_origins=tuple(allow_origins))
    )

    def open_page(server: Server) -> None:
        if is_opened:
            webbrowser.open(str(server.addresses[0]))

    _tell("open this page in a browser; Ctrl-C ends")
    try:
        asyncio.run(run_server(server, _tell, open_page))
    except KeyboardInterrupt:
        return


def _tell(line: str) -> None:
    typer.echo(line, err=True)
