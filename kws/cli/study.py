"""The commands that show whether transfer pays, and which layer serves best; `app.py` registers them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from kws.errors import ConfigError, require

STUDY_EXAMPLES = (
    "Examples:\n\nkws study recordings/alexa --negatives speech/ --out alexa-study\n\n"
    "kws study speech_commands_v0.02 --config recipes/speech-commands/config.toml\n\n"
    "kws study recordings/alexa --negatives speech/ --modes frozen,random --sizes 5,20 --epochs 8 --seeds 2\n\n"
    "Run again after an interruption, or with more seeds or sizes, it trains what is missing."
)
PROBE_EXAMPLES = (
    "Examples:\n\nkws probe recordings/alexa --negatives speech/\n\n"
    "kws probe speech_commands_v0.02 --size 30 --window 1 --out probe"
)
SALIENCY_EXAMPLES = "Example:\n\nkws saliency hey_computer missed.wav --out missed.png"
ADAPT_EXAMPLES = (
    "Example:\n\n"
    "kws adapt hey_computer --audio kitchen-talk/ --positives kitchen/hey_computer --negatives kitchen/other"
)
NegativesOption = Annotated[
    list[Path], typer.Option(help="For a word: audio without it, folder or manifest; repeatable.")
]
ENCODER_HELP = "Encoder: a name `kws models` lists, folder or hub id."


def study(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Recordings of a word, or of many labels: a folder with a sub-folder each, as Speech Commands has, "
            "one with train.jsonl and test.jsonl, or a .jsonl manifest.",
        ),
    ],
    negatives: NegativesOption = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default FOLDER's name-study.")] = None,
    modes: Annotated[str | None, typer.Option(help="Some of frozen,last,full,random,small.")] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Clips of each label to learn from, such as 5,20,0; 0: all.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of each; with one, nothing tells chance.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of each run.")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Begin no further run after so many minutes; 0: no limit.")] = 0,
    encoder: Annotated[str | None, typer.Option(help=ENCODER_HELP)] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")] = [],  # noqa: B006
) -> None:
    """Show on your recordings whether the encoder's knowledge pays, and when it does harm.

    Every transfer mode learns the same clips, from few to all, and is measured on the same test: learning curves with
    their start, slope and end, time, energy (an estimate) and a verdict.
    """
    for module in ("torch", "matplotlib", "jinja2"):
        require(module, "train")
    import json

    from kws.config import load_config, to_dict
    from kws.evaluate.learning_curves import Study
    from kws.evaluate.study_report import StudyReport, format_study, write_study_report
    from kws.terminal import StageProgress
    from kws.train.transfer.material import read_study
    from kws.train.transfer.study import StudyRun
    from kws.train.transfer.study_config import StudyConfig
    from kws.train.transfer.study_windows import Windows

    asked = {"encoder.name": encoder and json.dumps(encoder), "seeds": seeds, "epochs": epochs}
    asked |= {"modes": modes and json.dumps(modes.split(",")), "sizes": sizes and f"[{sizes}]"}
    overrides = [*settings, *(f"{key}={value}" for key, value in asked.items() if value is not None)]
    chosen = load_config(StudyConfig, config, overrides)
    material = read_study(source, negatives, chosen.keywords, chosen.num_negatives, chosen.max_test, chosen.seed)
    folder = out or Path(f"{source.resolve().stem}-study")
    windows = Windows(material, chosen.window_s, chosen.variants, chosen.test_snr_db, chosen.seed)
    run = StudyRun(chosen, windows, folder)
    is_interrupted = False
    try:
        with StageProgress() as progress:
            run.run(progress, minutes)
    except KeyboardInterrupt:
        is_interrupted = True
    cells = run.finished()
    if not cells:
        raise ConfigError(
            f"no run was finished, so there is nothing to show; run the same command to go on in {folder}"
        )
    report = StudyReport(
        name=material.name,
        study=Study(cells, material.truth.tolist(), material.labels),
        encoder=chosen.encoder.name,
        encoder_sha256=run.encoder_sha256(),
        watts=chosen.watts,
        config=to_dict(chosen),
        num_planned=len(run.keys()),
    )
    page = write_study_report(folder, report)
    typer.echo(format_study(report))
    typer.echo(f"{len(cells)} of {len(run.keys())} runs; report: {page}")
    if is_interrupted or len(cells) < len(run.keys()):
        typer.echo("run the same command to go on", err=True)
        raise typer.Exit(130 if is_interrupted else 0)


def probe(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="Recordings, as `kws study` takes them.")],
    negatives: NegativesOption = [],  # noqa: B006
    encoder: Annotated[str | None, typer.Option(help=ENCODER_HELP)] = None,
    size: Annotated[int, typer.Option(min=2, help="Clips of each label to learn from, and to test on.")] = 50,
    window_s: Annotated[float, typer.Option("--window", help="Length of a window, in seconds.")] = 1.5,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of clips.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for probe.json and probe.png.")] = None,
) -> None:
    """Find the encoder's layer that serves best, without training heads: accuracy, LogME and cost by depth."""
    require("torch", "train")
    import json

    import numpy as np

    from kws.evaluate.probe import draw_probed, format_probed, probe_layers
    from kws.model.files import write_atomically
    from kws.model.settings import DEFAULT_ENCODER, EncoderConfig
    from kws.terminal import StageProgress
    from kws.train.transfer.material import read_study
    from kws.train.transfer.study_windows import Windows

    material = read_study(source, negatives, num_negatives=size, max_test=size, seed=seed)
    chosen = np.concatenate([indices[:size] for indices in material.subset(size, seed)])
    windows = Windows(material, window_s, 1, None, seed)
    settings = EncoderConfig(name=encoder or DEFAULT_ENCODER)
    labels = np.array([material.train[index].label for index in chosen], np.int64)
    with StageProgress() as progress:
        train = windows.train([(int(index), 0) for index in chosen])
        probed = probe_layers(settings, (train, labels), (windows.test(), material.truth), progress)
    typer.echo(format_probed(probed))
    if out is not None:
        require("matplotlib", "train")
        write_atomically(out / "probe.json", (json.dumps(probed.to_dict(), indent=1) + "\n").encode())
        write_atomically(out / "probe.png", draw_probed(probed, f"{material.name}, {settings.name}"))
        typer.echo(f"report: {out / 'probe.png'}")


def saliency(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A wake word: folder, .kws file, or name.")],
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="One recording of up to ten seconds.")],
    out: Annotated[Path | None, typer.Option(help="The picture; by default CLIP's name with .saliency.png.")] = None,
    keyword: Annotated[str | None, typer.Option(help="Which keyword, where the model has several.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the values too.")] = False,
) -> None:
    """Draw which part of a clip made the decision: each is silenced, and the fall of the score measured."""
    require("matplotlib", "train")
    import json

    from kws.audio.io import read_audio
    from kws.detect.detector import load
    from kws.evaluate.saliency import draw_saliency, occlude
    from kws.model.files import write_atomically

    detector, waveform = load(model), read_audio(clip)
    name = keyword or detector.keywords[0]
    if name not in detector.keywords:
        raise ConfigError(f"'{model}' has no keyword '{name}'; it has: {', '.join(detector.keywords)}")
    found = occlude(detector, name, waveform)
    path = out or clip.with_suffix(".saliency.png")
    write_atomically(path, draw_saliency(found, waveform))
    start_s, end_s = found.decisive_s
    typer.echo(
        json.dumps(found.to_dict())
        if as_json
        else f"'{name}' scores {found.peak:.3f}, decided by {start_s:.2f} to {end_s:.2f} s: {path}"
    )


def adapt(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A wake word on the shipped encoder.")],
    audio: Annotated[Path, typer.Option(help="Talk in the room or at the microphone, a few minutes; no labels.")],
    positives: Annotated[Path, typer.Option(help="Recordings of the phrase there, one each, to measure with.")],
    negatives: Annotated[list[Path], typer.Option(help="Audio without it, to measure with; repeatable.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the adapted wake word; MODEL's name-adapted.")] = None,
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="strength, prior_s.")] = [],  # noqa: B006
    force: Annotated[bool, typer.Option("--force", help="Write it even if it is not shown to help.")] = False,
) -> None:
    """Adapt a wake word to a room or microphone without labels, if that is shown to help there.

    The encoder's frames are put back to the mean and spread that they have over its own speech. Measured with and
    without, on the same recordings; unless it misses fewer by more than chance, nothing is written.
    """
    require("torch", "train")
    from dataclasses import replace

    from kws.audio.io import read_batch
    from kws.config import load_config
    from kws.data.manifest import read_clips
    from kws.detect.detector import Detector
    from kws.evaluate.compare import VERDICT_RATE, compare, contend, format_comparison, helps
    from kws.evaluate.material import read_material, score
    from kws.model.artefact import load_wakeword
    from kws.model.pretrained import build_encoder
    from kws.terminal import StageProgress
    from kws.train.adaptation import AdaptationConfig, bank_statistics, room_statistics
    from kws.train.adaptation import adapt as adapt_wakeword

    wakeword = load_wakeword(model)
    chosen = load_config(AdaptationConfig, AdaptationConfig(strength=1.0), settings)
    encoder = build_encoder(wakeword.encoder)
    with StageProgress() as progress:
        recordings = [
            waveform for _, waveform in read_batch([clip.path for clip in read_clips(audio)], progress.message)
        ]
        room = room_statistics(encoder, recordings, lambda done, total: progress("listening to the room", done, total))
        adapted = adapt_wakeword(wakeword, bank_statistics(encoder), room, chosen)
        material = read_material(positives, negatives, warn=progress.message)
        apart = [replace(keyword, name=f"{keyword.name}, adapted") for keyword in adapted.keywords]
        detector = Detector([wakeword, replace(adapted, keywords=tuple(apart))])  # one pass of the encoder for both
        scores = score(detector, material, progress, progress.message)
    judged = {"as it was": wakeword.keywords[0].name, "adapted": apart[0].name}
    comparison = compare([contend(name, detector, keyword, scores) for name, keyword in judged.items()])
    typer.echo(format_comparison(comparison))
    if not (helps(comparison, "adapted") or force):
        typer.echo(
            f"not shown to miss fewer at {VERDICT_RATE:g} false alarms an hour: nothing was written (--force writes it)"
        )
        return
    folder = out or Path(f"{Path(model).name}-adapted")
    typer.echo(f"{adapted.save(folder)} is adapted; its threshold may need: kws calibrate {folder}")


COMMANDS: dict[Callable[..., None], str] = {
    study: STUDY_EXAMPLES,
    probe: PROBE_EXAMPLES,
    saliency: SALIENCY_EXAMPLES,
    adapt: ADAPT_EXAMPLES,
}
"""Each with its examples."""
