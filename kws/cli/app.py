"""The command line: parses arguments, calls the package, prints what it returns."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kws import __version__
from kws.cli.demo import DEMO_EXAMPLES, demo
from kws.cli.evaluate import COMMANDS as EVALUATE_COMMANDS
from kws.cli.export import EXPORT_EXAMPLES, export
from kws.cli.loading import Backend, BackendOption, BlockOption, GateOption, ThresholdOption, load_detector
from kws.cli.record import ENROL_EXAMPLES, RECORD_EXAMPLES, enrol, record
from kws.cli.serve import DOCTOR_EXAMPLES, SERVE_EXAMPLES, doctor, serve
from kws.cli.study import COMMANDS as STUDY_COMMANDS
from kws.cli.train import TRAIN_EXAMPLES, train
from kws.cli.tune import TUNE_EXAMPLES, tune
from kws.errors import AudioError, ConfigError, KwsError, MicrophoneError

if TYPE_CHECKING:
    from kws.audio.microphone import Microphone
    from kws.audio.source import BlockSource
    from kws.detect.detector import Detector
    from kws.terminal import ListenView

FAILED = 2
"""Exit code of an error the user can mend, as for a wrong option."""

app = typer.Typer(
    name="kws",
    help="Wake words from a typed phrase: train one, find it in recordings, listen for it live.",
    epilog="Begin with:\n\nkws train 'hey computer'\n\nkws listen hey_computer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(str, Enum):
    """How `kws detect` writes detections."""

    text = "text"
    json = "json"
    audacity = "audacity"


ModelsOption = Annotated[list[str], typer.Option("--model", "-m", help="One more wake word; repeatable.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object for each.")]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line on `arguments` (those of the process without any) and exits: 0, 2 for an error, 130."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    is_debug = "--debug" in arguments
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="kws")
    except KwsError as error:
        if is_debug:
            raise
        _fail(str(error))
    except (OSError, MemoryError) as error:
        if is_debug:
            raise
        _fail(f"{error or type(error).__name__} (--debug shows where)")
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    sys.exit(FAILED)


def _version(is_asked: bool = True) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error arose; may stand anywhere.")] = False,
) -> None:
    pass


app.command(epilog=RECORD_EXAMPLES)(record)
app.command(epilog=ENROL_EXAMPLES)(enrol)
app.command(epilog=TRAIN_EXAMPLES)(train)
app.command(epilog=EXPORT_EXAMPLES)(export)
app.command(epilog=TUNE_EXAMPLES)(tune)
app.command(epilog=DEMO_EXAMPLES)(demo)
app.command(epilog=SERVE_EXAMPLES)(serve)
app.command(epilog=DOCTOR_EXAMPLES)(doctor)
for command, examples in {**EVALUATE_COMMANDS, **STUDY_COMMANDS}.items():
    app.command(epilog=examples)(command)


@app.command(
    epilog="Examples:\n\nkws detect hey_computer meeting.wav recordings/\n\n"
    "kws detect hey_computer --format audacity meeting.wav > labels.txt"
)
def detect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A wake word: folder, .kws file, or a name `kws models` lists.")
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings of any format, or folders of them.")],
    more_models: ModelsOption = [],  # noqa: B006 (typer copies it)
    format: Annotated[Format, typer.Option(help="Text, JSON lines, or an Audacity label track.")] = Format.text,
    threshold: ThresholdOption = None,
    backend: BackendOption = Backend.auto,
    block_ms: BlockOption = 0,
    gate: GateOption = False,
) -> None:
    """Find wake words in recordings and print when they were said.

    Recordings are streamed, so that they can be of any length. Those that can't be read are skipped, and listed at the
    end; the exit code is 2 if none could be read.
    """
    from kws.detect.files import FORMATS, check_format, detect_file, expand_folders, stated_duration_s
    from kws.terminal import file_progress

    paths, skipped = expand_folders(files), []
    notes: list[str] = []
    check_format(format.value, paths)
    detector = load_detector([model, *more_models], threshold, backend, block_ms, gate)
    with file_progress() as progress:
        task = progress.add_task("")
        for path in paths:
            progress.reset(task, description=path.name, total=stated_duration_s(path))
            try:
                heard = detect_file(
                    detector, path, lambda heard_s: progress.update(task, completed=heard_s), notes.append
                )
                for detection in heard:
                    print(FORMATS[format.value](detection, path), flush=True)
            except AudioError as error:
                skipped.append(str(error))
    for message in [*(f"warning: {note}" for note in notes), *(f"skipped: {message}" for message in skipped)]:
        typer.echo(message, err=True)
    if skipped:
        typer.echo(f"{len(skipped)} of {len(paths)} files could not be read", err=True)
    if len(skipped) == len(paths):
        raise typer.Exit(FAILED)


@app.command(
    epilog="Examples:\n\nkws listen hey_computer --exec 'notify-send heard'\n\n"
    "arecord -f S16_LE -r 16000 | kws listen hey_computer --stdin --json\n\n"
    "kws listen hey_computer --exec 'sh -c \"echo $KWS_KEYWORD at $KWS_END_S s\"'"
)
def listen(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Wake words: folders, .kws files, or names `kws models` lists."),
    ],
    device: Annotated[str | None, typer.Option(help="Microphone: index, or part of its name (`kws devices`).")] = None,
    file: Annotated[Path | None, typer.Option(help="Listen to this recording instead, at the speed of speech.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="With --file: as fast as this machine can.")] = False,
    stdin: Annotated[bool, typer.Option("--stdin", help="Listen to standard input: raw 16-bit mono, or WAV.")] = False,
    rate: Annotated[int, typer.Option(help="With --stdin: sample rate of raw audio, in Hz.")] = 16_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each detection.")] = False,
    command: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="CMD",
            help="Run CMD on each detection: without a shell, and without holding up the listening. It finds the "
            "detection in KWS_KEYWORD, KWS_SCORE, KWS_START_S and KWS_END_S; a CMD that fails is reported.",
        ),
    ] = None,
    threshold: ThresholdOption = None,
    backend: BackendOption = Backend.auto,
    block_ms: BlockOption = 0,
    gate: GateOption = False,
) -> None:
    """Listen for wake words on the microphone, with meters of the level and of each score.

    Detections go to standard output, one a line; messages to standard error when it is no terminal. Ctrl-C ends.
    """
    from kws.detect.command import DetectionCommand
    from kws.detect.live import follow

    source = _source(device, file, fast, stdin, rate)
    detector = load_detector(models, threshold, backend, block_ms, gate)
    view = _view(detector, as_json, has_status=not fast)
    with ExitStack() as stack:
        runner = None
        if command is not None:
            runner = stack.enter_context(DetectionCommand(command, view.message))
        try:
            stack.enter_context(source)
            stack.callback(lambda: view.message(view.summary()))
            where = getattr(source, "device_name", "") or file or "standard input"
            view.device = str(where)
            view.message(f"listening to {where} for {', '.join(detector.keywords)}; Ctrl-C ends")
            stack.enter_context(view)
            for heard in follow(detector, source):
                view.update(heard.block, heard.scores, source.dropped_blocks)
                for detection in heard.detections:
                    view.detected(detection)
                    if runner is not None:
                        runner.start(detection)
                if runner is not None:
                    runner.reap()
        except KeyboardInterrupt:
            return


def _source(device: str | None, file: Path | None, fast: bool, stdin: bool, rate: int) -> Microphone | BlockSource:
    if (device is not None) + (file is not None) + stdin > 1:
        raise ConfigError("--device, --file and --stdin exclude each other; give one of them")
    if fast and file is None:
        raise ConfigError("--fast goes with --file")
    from kws.audio.microphone import Microphone
    from kws.audio.source import file_source, stdin_source

    if file is not None:
        return file_source(file, is_realtime=not fast)
    return stdin_source(sys.stdin, rate) if stdin else Microphone(device)


def _view(detector: Detector, as_json: bool, has_status: bool) -> ListenView:
    from kws.detect.files import json_line, text_line
    from kws.terminal import ListenView, MeterView

    if as_json:
        return ListenView(detector.keywords, detector.thresholds, json_line)
    if sys.stdout.isatty():
        return MeterView(detector.keywords, detector.thresholds, text_line)
    return ListenView(detector.keywords, detector.thresholds, text_line, has_status)


@app.command(epilog="Example:\n\nkws synth 'hey computer' --count 50 --out clips/")
def synth(
    phrase: Annotated[str | None, typer.Argument(metavar="PHRASE", help="What is to be said.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the clips; named after the phrase without it.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many clips.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw of voices.")] = 0,
    voices: Annotated[list[str], typer.Option("--voice", help="Speak with this voice only; repeatable.")] = [],  # noqa: B006
    list_voices: Annotated[bool, typer.Option("--list-voices", help="Show this machine's voices and exit.")] = False,
) -> None:
    """Speak a phrase in many synthetic voices, speeds and pitches, a WAV file each; prints the files."""
    from kws.data.synth.clips import file_stem, list_voice_names, write_clips

    if list_voices:
        print("\n".join(list_voice_names()))
        return
    if phrase is None:
        raise ConfigError("there is no phrase to say; run for example: kws synth 'hey computer'")
    for path in write_clips(phrase, out or Path(f"{file_stem(phrase)}-clips"), count, seed, voices):
        print(path, flush=True)


@app.command(epilog="Example:\n\nkws devices\n\nkws listen hey_computer --device 2")
def devices(as_json: JsonOption = False) -> None:
    """Show the microphones, the default one marked with a star."""
    from dataclasses import asdict

    from kws.audio.microphone import list_devices

    found = list_devices()
    if not found:
        raise MicrophoneError("PortAudio finds no input device; connect one, and check that the sound server runs")
    print("\n".join(json.dumps(asdict(device)) if as_json else str(device) for device in found))


@app.command(epilog="Example:\n\nkws models --json")
def models(as_json: JsonOption = False) -> None:
    """Show the encoders and wake words that come with kws."""
    from kws.model.catalogue import list_shipped

    for entry in list_shipped():
        print(json.dumps(entry.as_json(), ensure_ascii=False) if as_json else entry.summary())


@app.command("version")
def version_command() -> None:
    """Show the version."""
    _version()
