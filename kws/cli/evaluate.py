"""The commands that judge wake words; `app.py` registers them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kws.cli.loading import Backend, BackendOption
from kws.errors import AudioError, ConfigError, DependencyError, EncoderError, require

if TYPE_CHECKING:
    from kws.detect.detector import Detector
    from kws.evaluate.heard import Listener
    from kws.evaluate.room import Heard
    from kws.model.settings import EncoderConfig

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="The wake word: a folder, a .kws file, or a name `kws models` lists.")
]
PositivesOption = Annotated[Path, typer.Option(help="Recordings of the phrase, one each: a folder or .jsonl manifest.")]
NegativesOption = Annotated[list[Path], typer.Option(help="Continuous audio without the phrase; repeatable.")]
NoiseOption = Annotated[Path | None, typer.Option(help="Noises for --snr; by default pink noise.")]
SnrOption = Annotated[list[float], typer.Option(help="Also with noise over the phrase, in dB; repeatable.")]
CleanOption = Annotated[bool, typer.Option("--clean-only", help="Without noise over the phrase.")]
KeywordOption = Annotated[str | None, typer.Option(help="Which keyword, where the model has several.")]
SeedOption = Annotated[int, typer.Option(help="Of the draws of noise.")]
NoCostOption = Annotated[bool, typer.Option("--no-cost", help="Don't measure CPU time and memory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_SNRS = [10.0, 5.0]


def evaluate(
    model: ModelArgument,
    positives: PositivesOption,
    negatives: NegativesOption,
    noise: NoiseOption = None,
    snr: SnrOption = DEFAULT_SNRS,
    clean_only: CleanOption = False,
    keyword: KeywordOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for index.html, report.json, pictures and clips to listen to.")
    ] = None,
    clips: Annotated[int, typer.Option(min=0, max=100, help="Misses and false alarms to show, of each kind.")] = 10,
    no_cost: NoCostOption = False,
    seed: SeedOption = 0,
    backend: BackendOption = Backend.auto,
) -> None:
    """Measure misses at fixed false alarms an hour, on recordings that training never saw.

    Recordings that can't be read are skipped, and listed at the end.
    """
    require("scipy", "train")
    from kws.detect.detector import Detector
    from kws.evaluate.cost import measure_cost
    from kws.evaluate.full_report import build_report, write_full_report
    from kws.evaluate.material import read_material, score
    from kws.evaluate.protocol import evaluate as evaluate_scores
    from kws.evaluate.report import format_evaluation
    from kws.model.artefact import load_wakeword
    from kws.terminal import StageProgress

    wakeword = load_wakeword(model)
    detector = Detector([wakeword], backend.value)
    name = _keyword(detector, keyword)
    with StageProgress() as progress:
        material = read_material(positives, negatives, noise, [] if clean_only else snr, seed, progress.message)
        scores = score(detector, material, progress, progress.message)
    typer.echo(format_evaluation(evaluate_scores(detector, name, scores.positives, scores.negatives)))
    if report is not None:
        require("jinja2", "train")
        require("matplotlib", "train")
        cost = None if no_cost else measure_cost(model, backend.value)
        listener = _listener(wakeword.encoder)
        page = write_full_report(
            report, build_report(model, detector, name, material, scores, listener, cost, num_examples=clips)
        )
        typer.echo(f"report: {page}")
    _list_skipped(material.skipped)


def compare(
    models: Annotated[list[str], typer.Argument(metavar="A B…", help="Wake words; each is compared with the first.")],
    positives: PositivesOption,
    negatives: NegativesOption,
    noise: NoiseOption = None,
    snr: SnrOption = DEFAULT_SNRS,
    clean_only: CleanOption = False,
    keyword: KeywordOption = None,
    no_cost: NoCostOption = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    backend: BackendOption = Backend.auto,
) -> None:
    """Compare wake words on the same audio and the same noise: misses, whether that can be chance, and cost."""
    require("scipy", "train")
    from kws.detect.detector import load
    from kws.evaluate.compare import compare as compare_contenders
    from kws.evaluate.compare import contend, format_comparison
    from kws.evaluate.cost import measure_cost
    from kws.evaluate.material import read_material, score
    from kws.terminal import StageProgress

    if len(models) < 2:
        raise ConfigError(f"'{models[0]}' is alone; name two wake words or more: kws compare A B --positives …")
    loaded = [(model, load(model, backend=backend.value)) for model in models]
    keywords = [_keyword(detector, keyword) for _, detector in loaded]
    contenders = []
    with StageProgress() as progress:
        material = read_material(positives, negatives, noise, [] if clean_only else snr, seed, progress.message)
        for (model, detector), name in zip(loaded, keywords):
            scores = score(detector, material, progress, progress.message, f"{model}: ")
            contenders.append(
                contend(model, detector, name, scores, None if no_cost else measure_cost(model, backend.value))
            )
    comparison = compare_contenders(contenders)
    skipped = {"skipped": material.skipped}
    typer.echo(json.dumps(comparison.to_dict() | skipped) if as_json else format_comparison(comparison))
    _list_skipped(material.skipped)


def calibrate(
    model: ModelArgument,
    audio: Annotated[
        list[Path], typer.Option(help="Recordings without the phrase, or folders of them; repeatable.")
    ] = [],  # noqa: B006 (typer copies it)
    microphone: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Listen to the room that long instead; Ctrl-C ends it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="With --microphone: index or part of its name.")] = None,
    false_alarms_per_hour: Annotated[float, typer.Option(help="The rate to aim at.")] = 0.5,
    positives: Annotated[Path | None, typer.Option(help="Recordings of the phrase, to count what is missed.")] = None,
    keyword: KeywordOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the threshold; leave the wake word as it is.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Set the threshold for a rate of false alarms in your own room, and say how far the audio proves it.

    The audio must not hold the phrase. The threshold goes into wakeword.json, which keeps the one before.
    """
    require("scipy", "train")
    from kws.config import check
    from kws.data.manifest import read_clips
    from kws.detect.detector import load
    from kws.evaluate.calibrate import calibrate as calibrate_keyword
    from kws.evaluate.calibrate import check_length, format_calibration, own_artefact, save_threshold
    from kws.evaluate.protocol import Condition, readable, score_positives

    if bool(audio) == (microphone is not None):
        raise ConfigError("give either --audio (recordings or folders) or --microphone MINUTES")
    check(0 < false_alarms_per_hour <= 1000, "--false-alarms-per-hour", false_alarms_per_hour, "above 0, up to 1000")
    if microphone is not None:
        check(0 < microphone <= 60 * 24 * 7, "--microphone", microphone, "above 0, up to 10080 minutes")
        check_length(false_alarms_per_hour, microphone / 60)
    path = None if dry_run else own_artefact(model)
    detector = load(model)
    name = _keyword(detector, keyword)
    column = detector.keywords.index(name)
    skipped: list[str] = []
    clips, skipped_clips = readable(read_clips(positives), _warn) if positives is not None else ([], [])
    heard = _listen(detector, microphone, device) if microphone is not None else _hear(detector, audio, skipped)
    scores = [clip[:, column] for clip in score_positives(detector, clips, Condition(), seed=0)]
    found = calibrate_keyword(heard, column, name, detector.triggers[column], false_alarms_per_hour, scores)
    if path is not None:
        save_threshold(path, column, found)
    typer.echo(json.dumps(found.to_dict() | {"is_saved": path is not None}) if as_json else format_calibration(found))
    if not as_json:
        typer.echo(f"saved in {path}" if path is not None else "not saved (--dry-run)")
    _list_skipped([*skipped, *skipped_clips])


def explain(
    model: Annotated[
        str, typer.Argument(metavar="MODEL_OR_ENCODER", help="A wake word, or an encoder: what `kws models` lists.")
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings of any format, or folders of them.")],
    times: Annotated[
        bool, typer.Option("--times", help="A line for each phone, with its times and probability.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the encoder's output layer hears in recordings, phones with times, and mark the detections.

    Detection itself doesn't use that layer. Recordings that can't be read are skipped, and listed at the end.
    """
    from kws.detect.detector import Detector
    from kws.detect.files import expand_folders
    from kws.evaluate.explain import explain_file, is_wakeword, json_line
    from kws.evaluate.heard import Listener
    from kws.model.artefact import load_wakeword
    from kws.model.settings import EncoderConfig

    wakeword = load_wakeword(model) if is_wakeword(model) else None
    listener = Listener(wakeword.encoder if wakeword is not None else EncoderConfig(name=model))
    detector = Detector([wakeword]) if wakeword is not None else None
    paths, skipped = expand_folders(files), []
    for path in paths:
        try:
            explanation = explain_file(path, listener, detector)
        except AudioError as error:
            skipped.append(str(error))
            continue
        typer.echo(json_line(explanation) if as_json else "\n".join(explanation.lines(times)))
    _list_skipped(skipped)
    if len(skipped) == len(paths):
        raise AudioError("not one of the recordings could be read")


COMMANDS: dict[Callable[..., None], str] = {
    evaluate: "Examples:\n\nkws evaluate hey_computer --positives takes/ --negatives talk/ --report report/\n\n"
    "kws evaluate hey_computer --positives takes.jsonl --negatives tv/ --negatives radio/ --noise kitchen/ --snr 15",
    compare: "Example:\n\nkws compare hey_computer retrained --positives takes/ --negatives talk/",
    calibrate: "Examples:\n\nkws calibrate hey_computer --audio evening.wav --audio radio/ --dry-run\n\n"
    "kws calibrate hey_computer --microphone 120 --false-alarms-per-hour 1",
    explain: "Examples:\n\nkws explain hey_computer talk.wav\n\nkws explain streaming-small talk.wav --times",
}
"""Each command with the examples under its help."""


def _keyword(detector: Detector, keyword: str | None) -> str:
    if keyword is not None and keyword not in detector.keywords:
        raise ConfigError(f"no keyword '{keyword}'; there are: {', '.join(detector.keywords)}")
    return keyword or detector.keywords[0]


def _listener(encoder: EncoderConfig) -> Listener | None:
    from kws.evaluate.heard import Listener

    try:
        return Listener(encoder)
    except (EncoderError, DependencyError) as error:
        _warn(f"what was heard in the clips is left out: {error}")
        return None


def _hear(detector: Detector, audio: list[Path], skipped: list[str]) -> Heard:
    from kws.data.manifest import read_clips
    from kws.evaluate.room import hear_files
    from kws.terminal import StageProgress

    paths = list(dict.fromkeys(clip.path for path in audio for clip in read_clips(path)))
    with StageProgress() as progress:
        return hear_files(detector, paths, partial(progress, "listening"), skipped.append)


def _listen(detector: Detector, minutes: float, device: str | None) -> Heard:
    from kws.audio.microphone import Microphone
    from kws.evaluate.room import Heard, take_minutes
    from kws.terminal import StageProgress

    heard = Heard(detector.geometry.hop_s)
    with StageProgress() as progress, Microphone(device) as source:
        _warn(f"listening to {source.device_name} for {minutes:g} minutes; don't say the phrase; Ctrl-C ends it early")
        try:
            heard.add(source.device_name, detector, take_minutes(source, minutes, partial(progress, "minutes")))
        except KeyboardInterrupt:
            _warn(f"ended after {60 * heard.hours:.1f} minutes")
    if source.dropped_blocks:
        _warn(f"warning: {source.dropped_blocks} blocks were dropped: this machine is too slow")
    return heard


def _warn(message: str) -> None:
    typer.echo(message, err=True)


def _list_skipped(skipped: list[str]) -> None:
    for message in skipped:
        _warn(f"skipped: {message}")
    if skipped:
        _warn(f"{len(skipped)} recordings could not be read")
