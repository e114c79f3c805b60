"""The commands for voice assistants: `kws serve` detects for other programs, `kws doctor` checks this machine."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from kws import __version__
from kws.cli.loading import Backend, BackendOption, BlockOption, GateOption, ThresholdOption, load_detector
from kws.errors import require

if TYPE_CHECKING:
    pass

SERVE_EXAMPLES = (
    "Examples:\n\nkws serve hey_computer\n\n"
    "kws serve hey_computer alexa --uri tcp://0.0.0.0:10400 (for Home Assistant on another machine)\n\n"
    "kws serve hey_computer --uri unix:///run/user/1000/kws.sock --no-web"
)
DOCTOR_EXAMPLES = "Examples:\n\nkws doctor\n\nkws doctor hey_computer --play --device USB\n\nkws doctor --json"
_WYOMING, _WEB = "tcp://127.0.0.1:10400", "http://127.0.0.1:10401"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Wake words: folders, .kws files, or names `kws models` lists."),
    ],
    uris: Annotated[
        list[str],
        typer.Option("--uri", help="For Wyoming clients: tcp://HOST:PORT or unix:///PATH; repeatable."),
    ] = [_WYOMING],  # noqa: B006 (typer copies it)
    web: Annotated[
        list[str], typer.Option(help="For WebSocket clients and Prometheus: http://HOST:PORT; repeatable.")
    ] = [_WEB],  # noqa: B006
    no_web: Annotated[bool, typer.Option("--no-web", help="No WebSocket and no metrics.")] = False,
    threshold: ThresholdOption = None,
    backend: BackendOption = Backend.auto,
    block_ms: BlockOption = 0,
    gate: GateOption = False,
    max_clients: Annotated[int, typer.Option(help="Clients at once; more are refused.")] = 64,
    max_queued: Annotated[float, typer.Option(help="Seconds of audio that wait, for each client.")] = 5.0,
    workers: Annotated[int, typer.Option(help="Threads that detect; 0 for one a core.")] = 0,
    idle: Annotated[float, typer.Option(help="Seconds after which a silent connection is closed.")] = 3600.0,
    allow_origins: Annotated[
        list[str],
        typer.Option("--allow-origin", help="Web page that may connect, as https://example.org; repeatable."),
    ] = [],  # noqa: B006
    no_zeroconf: Annotated[bool, typer.Option("--no-zeroconf", help="Don't announce the server.")] = False,
) -> None:
    """Detect wake words for other programs: Home Assistant and others by Wyoming, browsers by WebSocket.

    Only this machine can connect, unless --uri or --web names another interface; such a Wyoming server is announced by
    zeroconf, and Home Assistant finds it. Ctrl-C ends.
    """
    require("wyoming", "serve")
    require("aiohttp", "serve")
    require("prometheus_client", "serve")
    from kws.serve.server import Server, run_server
    from kws.serve.settings import ServeConfig

    config = ServeConfig(
        max_clients=max_clients,
        max_queued_s=max_queued,
        workers=workers,
        idle_s=idle,
        allowed_origins=tuple(allow_origins),
    )
    detector = load_detector(models, threshold, backend, block_ms, gate)
    web = [] if no_web else web
    server = Server(detector, uris, web, config, _tell, __version__, is_announced=not no_zeroconf)
    _tell(f"listening for {', '.join(detector.keywords)}; Ctrl-C ends")
    try:
        asyncio.run(run_server(server, _tell))
    except KeyboardInterrupt:
        return


def doctor(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Wake words of yours to check as well.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Microphone: index, or part of its name (`kws devices`).")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="How long the microphone is listened to.")] = 2.0,
    play: Annotated[
        bool, typer.Option("--play", help="Also play a sound, to measure how loudly the microphone hears the speaker.")
    ] = False,
    no_microphone: Annotated[bool, typer.Option("--no-microphone", help="Don't open the microphone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each check.")] = False,
) -> None:
    """Check packages, models, speed, sound and microphone, and say what to do about what is wrong.

    The exit code is 1 if something must be mended before kws works here; warnings don't count.
    """
    from kws.doctor import examine
    from kws.doctor.finding import State

    num_failed = 0
    for finding in examine(models or [], device, seconds, play, has_microphone=not no_microphone):
        num_failed += finding.state is State.failed
        print(json.dumps(finding.as_json(), ensure_ascii=False) if as_json else finding, flush=True)
    if num_failed:
        raise typer.Exit(1)


def _tell(line: str) -> None:
    typer.echo(line, err=True)
