"""The commands that make wake words and judge them; `kws/cli.py` registers them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kws.errors import require

TRAIN_EXAMPLES = (
    "Examples:\n\nkws train 'hey computer'\n\n"
    "kws train 'hey computer' --positives recordings/ --noise kitchen/ --set trigger.refractory_s=2\n\n"
    "Run again after an interruption, it goes on where it was."
)


def train(
    phrase: Annotated[str, typer.Argument(metavar="PHRASE", help="What is to be said, as you would write it.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the wake word; by default the phrase.")] = None,
    positives: Annotated[Path | None, typer.Option(help="Folder of recordings of the phrase, one each.")] = None,
    negatives: Annotated[Path | None, typer.Option(help="Folder of speech without the phrase.")] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of noises to mix in.")] = None,
    rir: Annotated[Path | None, typer.Option(help="Folder of room impulse responses.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")] = [],  # noqa: B006
    encoder: Annotated[str | None, typer.Option(help="Encoder: a name `kws models` lists, folder or hub id.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; don't resume an interrupted run.")] = False,
) -> None:
    """Make a wake word from a typed phrase, and better from recordings of it too."""
    require("torch", "train")
    from kws.terminal import StageProgress
    from kws.train.wakeword import train_wakeword

    overrides = [*settings]
    overrides += [f"encoder.name={json.dumps(encoder)}"] if encoder is not None else []
    overrides += [f"seed={seed}"] if seed is not None else []
    try:
        with StageProgress() as progress:
            trained = train_wakeword(
                phrase,
                out,
                positives=positives,
                negatives=negatives,
                noise=noise,
                rir=rir,
                config=config,
                overrides=overrides,
                is_fresh=fresh,
                progress=progress,
                warn=progress.message,
            )
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command to go on", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{trained.path} is ready; try it: kws listen {trained.path}")


EVALUATE_EXAMPLES = (
    "Examples:\n\nkws evaluate hey_computer --positives takes/ --negatives talk/\n\n"
    "kws evaluate hey_computer --positives takes.jsonl --negatives tv/ --negatives radio/ "
    "--noise kitchen/ --snr 10 --snr 5"
)


def evaluate(
    model: Annotated[str, typer.Argument(help="The wake word: a folder, a .kws file, or a name `kws models` lists.")],
    positives: Annotated[Path, typer.Option(help="Recordings of the phrase, one each: a folder or a .jsonl manifest.")],
    negatives: Annotated[list[Path], typer.Option(help="Continuous speech without the phrase; repeatable.")],
    noise: Annotated[Path | None, typer.Option(help="Noises for --snr; by default pink noise.")] = None,
    snr: Annotated[list[float], typer.Option(help="Also with noise over the phrase, in dB; repeatable.")] = [],  # noqa: B006
    keyword: Annotated[str | None, typer.Option(help="Which keyword, where the model has several.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for report.json.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws of noise.")] = 0,
) -> None:
    """Measure misses at fixed false alarms an hour, on recordings that training never saw."""
    require("scipy", "train")
    from kws.data.manifest import read_clips
    from kws.detect.detector import load
    from kws.evaluate.protocol import evaluate as evaluate_scores
    from kws.evaluate.protocol import score_negatives, score_positives
    from kws.evaluate.report import format_evaluation
    from kws.model.files import write_atomically
    from kws.terminal import StageProgress

    detector = load(model)
    clips, noises = read_clips(positives), read_clips(noise) if noise is not None else []
    with StageProgress() as progress:
        conditions = {}
        for snr_db in (None, *snr):
            name = "clean" if snr_db is None else f"{snr_db:g} dB"
            stage = f"phrase, {name}"
            conditions[name] = score_positives(detector, clips, snr_db, noises, seed, partial(progress, stage))
        scored = [
            score_negatives(detector, str(path), read_clips(path), partial(progress, str(path))) for path in negatives
        ]
    evaluation = evaluate_scores(detector, keyword or detector.keywords[0], conditions, scored)
    typer.echo(format_evaluation(evaluation))
    if report is not None:
        write_atomically(report / "report.json", (json.dumps(evaluation.to_dict(), indent=1) + "\n").encode())
        typer.echo(f"counts, intervals and curves: {report / 'report.json'}")
