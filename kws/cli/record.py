"""The commands that begin with recordings: `kws record` makes them, `kws enrol` makes a wake word of a few."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kws.cli.train import with_options
from kws.errors import AudioError, ConfigError, require

if TYPE_CHECKING:
    from kws.audio.microphone import Microphone
    from kws.audio.samples import Waveform
    from kws.audio.source import BlockSource
    from kws.audio.takes import TakeListener
    from kws.data.takes import TakeFolder

RECORD_EXAMPLES = (
    "Examples:\n\nkws record 'hey computer'\n\nkws record 'hey computer' --count 30 --speaker anna --device USB\n\n"
    "Run again after an interruption, it goes on where it was."
)
ENROL_EXAMPLES = (
    "Examples:\n\nkws enrol 'hey computer' hey_computer-recordings\n\n"
    "kws enrol lumos one.wav two.wav three.wav --out lumos"
)
MAX_REFUSED = 10
"""Takes refused in a row after which something else must be mended first."""
INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""

_COUNT_STEPS = 3
_BAR_WIDTH = 28


def record(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The phrase that is to be said.")],
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many takes the folder is to hold in all.")] = 10,
    device: Annotated[str | None, typer.Option(help="Microphone: index, or part of its name (`kws devices`).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the takes; by default NAME-recordings.")] = None,
    seconds: Annotated[float, typer.Option(help="Longest wait for speech, and longest take.")] = 4.0,
    count_in: Annotated[float, typer.Option(help="Seconds of the count before each take; 0 for none.")] = 1.5,
    speaker: Annotated[str, typer.Option(help="Who speaks, noted in the manifest; splits never part a speaker.")] = "",
    file: Annotated[Path | None, typer.Option(help="Cut the takes out of this recording instead.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Take them from standard input: raw 16-bit, or WAV.")] = False,
    rate: Annotated[int, typer.Option(help="With --stdin: sample rate of raw audio, in Hz.")] = 16_000,
) -> None:
    """Record takes of a phrase at the microphone, guided; prints the files.

    The room is measured first; a take begins after the count and ends by itself when the speech ends. Silent, quiet,
    clipped, noisy and cut takes are refused with the reason, and asked for again. Ctrl-C ends; whole takes stay.
    """
    from kws.audio.takes import TakeConfig, TakeListener
    from kws.data.synth.clips import file_stem
    from kws.data.takes import TakeFolder

    stem, config = file_stem(name), TakeConfig(max_s=seconds)
    if not stem:
        raise ConfigError(f"the name {name!r} has no letters; give the phrase, such as 'hey computer'")
    folder = TakeFolder(out or Path(f"{stem}-recordings"), stem, name, speaker)
    source, view = _source(device, file, stdin, rate), RecordView()
    try:
        if len(folder.paths) < count:
            with source, view:
                listener = TakeListener(source, config, view.level)
                _measure_room(listener, view)
                _record_takes(listener, source, folder, count, max(0.0, count_in), view)
    except KeyboardInterrupt:
        typer.echo(f"interrupted with {_takes(len(folder.paths))}; run the same command to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{_takes(len(folder.paths))} in {folder.folder}; make a wake word of them:", err=True)
    phrase, where = shlex.quote(name), shlex.quote(str(folder.folder))
    typer.echo(f"  kws enrol {phrase} {where}               # in seconds", err=True)
    typer.echo(f"  kws train {phrase} --positives {where}   # better, in minutes", err=True)


def enrol(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the wake word is to be called.")],
    clips: Annotated[list[Path], typer.Argument(metavar="CLIPS", help="3 to 10 recordings of it, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the wake word; by default the name.")] = None,
    phrase: Annotated[str, typer.Option(help="The phrase as it is spoken, if it is English and not the name.")] = "",
    keep_clips: Annotated[
        bool, typer.Option("--keep-clips", help="Keep the recordings in the wake word's folder, for kws train --from.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")] = [],  # noqa: B006
    encoder: Annotated[str | None, typer.Option(help="Encoder: a name `kws models` lists, folder or hub id.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
) -> None:
    """Make a wake word from a few recordings of it, in seconds and in any language.

    It knows the voices it was given and little else: `kws train NAME --from` improves it with text and recordings.
    """
    require("torch", "train")
    from kws.terminal import StageProgress
    from kws.train.enrolment import enrol as enrol_clips

    with StageProgress() as progress:
        enrolled = enrol_clips(
            name,
            clips,
            out,
            phrase=phrase,
            config=config,
            overrides=with_options(settings, encoder, seed),
            keep_clips=keep_clips,
            progress=progress,
            warn=progress.message,
        )
    where = shlex.quote(str(enrolled.path))
    typer.echo(f"{enrolled.path} is ready; try it: kws listen {where}")
    typer.echo(f"its CARD.md says what was not measured; improve it: kws train {shlex.quote(name)} --from {where}")


def _source(device: str | None, file: Path | None, stdin: bool, rate: int) -> Microphone | BlockSource:
    if (device is not None) + (file is not None) + stdin > 1:
        raise ConfigError("--device, --file and --stdin exclude each other; give one of them")
    from kws.audio.microphone import Microphone
    from kws.audio.source import file_source, stdin_source

    if file is not None:
        return file_source(file)
    return stdin_source(sys.stdin, rate) if stdin else Microphone(device)


def _measure_room(listener: TakeListener, view: RecordView) -> None:
    from kws.audio.takes import LOUD_ROOM_DB

    view.say("listening to the room: please be quiet")
    room_db = listener.measure_room()
    view.message(f"the room is at {room_db:.1f} dBFS; speech counts from {listener.threshold_db:.1f} dBFS")
    if room_db > LOUD_ROOM_DB:
        view.message(f"warning: a loud room ({room_db:.1f} dBFS); takes may be refused as too noisy: come near")


def _record_takes(
    listener: TakeListener,
    source: Microphone | BlockSource,
    folder: TakeFolder,
    count: int,
    count_in_s: float,
    view: RecordView,
) -> None:
    num_refused = 0
    while len(folder.paths) < count:
        title = f"take {len(folder.paths) + 1} of {count}"
        for left in range(_COUNT_STEPS if count_in_s else 0, 0, -1):
            view.count(f"{title}: {left}")
            listener.wait(count_in_s / _COUNT_STEPS)
        view.say(f"{title}: say it now")
        waveform, reasons = _next_take(listener, source)
        if reasons:
            num_refused += 1
            view.message(f"{title} refused, again please: {'; and '.join(reasons)}")
            if num_refused == MAX_REFUSED:
                raise AudioError(f"{num_refused} takes in a row were refused, the last for {reasons[0]}")
            continue
        num_refused = 0
        view.kept(folder.add(waveform))


def _next_take(listener: TakeListener, source: Microphone | BlockSource) -> tuple[Waveform, list[str]]:
    """Returns the next take, (num_samples,), and why it can't be kept, if it can't."""
    num_dropped = source.dropped_blocks
    take = listener.take()
    reasons = [str(problem) for problem in take.problems]
    num_lost = source.dropped_blocks - num_dropped
    if num_lost:
        reasons.insert(0, f"gaps: {num_lost} blocks of it were lost; close other programs, this machine is too busy")
    return take.waveform, reasons


def _takes(number: int) -> str:
    return f"{number} take{'s'[: number != 1]}"


class RecordView:
    """What `kws record` shows: paths on standard output; prompts, and on a terminal a meter, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._title = ""
        self._level_db = float("-inf")
        self._live = None
        if self._console.is_terminal:
            options: dict[str, Any] = {
                "refresh_per_second": 12,
                "transient": True,
                "redirect_stdout": sys.stdout.isatty(),
            }
            self._live = Live(console=self._console, get_renderable=self._render, **options)

    def __enter__(self) -> RecordView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live is not None:
            self._live.stop()

    def level(self, level_db: float) -> None:
        """Takes in the level just heard, in dBFS."""
        self._level_db = level_db

    def count(self, title: str) -> None:
        """Shows a step of the count-in; where no meter can be drawn, nothing."""
        self._title = title

    def say(self, title: str) -> None:
        """Shows what is to be done now."""
        self._title = title
        if self._live is None:
            self.message(title)

    def message(self, text: str) -> None:
        """Shows a line that stays."""
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    def kept(self, path: Path) -> None:
        """Prints the path of a take that was kept."""
        print(path, flush=True)

    def _render(self) -> Any:
        from rich.table import Table

        from kws.terminal import FLOOR_DB, meter

        table = Table.grid(padding=(0, 2))
        share = (self._level_db - FLOOR_DB) / -FLOOR_DB
        bar = meter(share if share > 0 else 0.0, _BAR_WIDTH, style="cyan")
        table.add_row(bar, f"{max(self._level_db, FLOOR_DB):5.1f} dBFS", self._title)
        return table
