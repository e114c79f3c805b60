"""The command that makes wake words; `app.py` registers it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from kws.errors import require

TRAIN_EXAMPLES = (
    "Examples:\n\nkws train 'hey computer'\n\n"
    "kws train 'hey computer' --positives recordings/ --noise kitchen/ --set trigger.refractory_s=2\n\n"
    "kws train 'hey computer' --from hey_computer-enrolled --positives recordings/\n\n"
    "kws train 'hey computer' --negatives speech/ --set transfer.mode=last    # the encoder's last layers learn too\n\n"
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
    start_from: Annotated[
        Path | None,
        typer.Option("--from", metavar="ARTEFACT", help="Go on from this wake word, such as an enrolled one."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; don't resume an interrupted run.")] = False,
) -> None:
    """Make a wake word from a typed phrase, and better from recordings of it too."""
    require("torch", "train")
    from kws.terminal import StageProgress
    from kws.train.wakeword import train_wakeword

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
                overrides=with_options(settings, encoder, seed),
                start_from=start_from,
                is_fresh=fresh,
                progress=progress,
                warn=progress.message,
            )
            if (own := trained.wakeword.encoder_folder) is not None and trained.wakeword.encoder.layer == "last":
                _export(own, progress.message)
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command to go on", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{trained.path} is ready; try it: kws listen {trained.path}")


def with_options(settings: Sequence[str], encoder: str | None, seed: int | None) -> list[str]:
    """Returns the `section.key=value` changes of `--set`, with those that options of their own stand for."""
    options = [f"encoder.name={json.dumps(encoder)}"] if encoder is not None else []
    return [*settings, *options, *([f"seed={seed}"] if seed is not None else [])]


def _export(encoder: Path, say: Callable[[str], object]) -> None:
    """Writes the graph of a wake word's own encoder, where it streams, so that it runs without torch too."""
    from kws.export.onnx import export_encoder
    from kws.model.encoder_folder import read_streaming_config

    if read_streaming_config(encoder) is not None:
        say(f"{export_encoder(encoder)}: it runs without torch too")
