"""The command that finds out how much of an encoder this machine has time for; `app.py` registers it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from kws.errors import ConfigError

if TYPE_CHECKING:
    from kws.export.tune import Budget, Trial, Tuning
    from kws.model.settings import EncoderConfig

TUNE_EXAMPLES = (
    "Examples:\n\nkws tune\n\nkws tune hey_computer --cpu 3% --latency 250ms\n\n"
    "kws tune wav2vec2-base/ --cpu 50% --latency 400ms --layers 6 --layers 4 --json"
)
_UNITS = {"%": 0.01, "ms": 1.0, "s": 1000.0}


def tune(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL_OR_ENCODER]", help="A wake word, whose encoder it is; or an encoder.")
    ] = "",
    cpu: Annotated[str, typer.Option(help="Share of one core that listening may take: 3%, or 0.03.")] = "5%",
    latency: Annotated[
        str, typer.Option(help="From a sound's end to its score, at most: 250ms, or 0.25s; the word's end comes first.")
    ] = "250ms",
    layers: Annotated[list[int], typer.Option(min=1, help="Try so many layers; repeatable.")] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try how much of an encoder this machine has time for, and recommend the best within a budget.

    Depths, float32 and int8, blocks (or hops, for an encoder that runs by window) are run here, one thread; graphs that
    aren't there are exported for the trial, which needs torch. End other programs before. The exit code is 1 if nothing
    fits.
    """
    from kws.export.tune import Budget
    from kws.export.tune import tune as try_choices
    from kws.terminal import StageProgress

    settings, wakeword = _encoder_and_wakeword(model)
    budget = Budget(_parse("--cpu", cpu, ("%",)), _parse("--latency", latency, ("ms", "s")))
    with StageProgress() as progress:
        tuning = try_choices(settings, budget, layers, progress)
    if as_json:
        typer.echo(json.dumps(_to_json(tuning, settings, wakeword), ensure_ascii=False))
    else:
        typer.echo("\n".join(_table(tuning, budget)))
        for line in [*(f"left out: {reason}" for reason in tuning.left_out), *advice(tuning, settings, wakeword)]:
            typer.echo(line)
    if tuning.best is None:
        raise typer.Exit(1)


def advice(tuning: Tuning, settings: EncoderConfig, wakeword: str) -> list[str]:
    """Returns what to do, a line each, with the exact commands; `wakeword` is empty where an encoder was tried."""
    best = tuning.best
    if best is None:
        cheapest = min(tuning.trials, key=lambda trial: trial.cpu_s_per_s)
        return [f"nothing fits; cheapest is {_what(cheapest)}. Allow more, or choose a smaller encoder"]
    lines, changed = [f"best: {_what(best)}"], best.settings != settings
    options = [f"encoder.name={settings.name}"] if changed or not wakeword else []
    options += [f"encoder.layers={best.settings.layers}"] if best.settings.layers != settings.layers else []
    options += [f"encoder.hop_s={best.settings.hop_s:g}"] if best.settings.hop_s != settings.hop_s else []
    if changed:
        lines.append(f"train:  kws train PHRASE --set {' '.join(options)}")
    if (command := _export_command(best)) is not None:
        lines.append(f"export: {command}")
    listen = f"kws listen {'MODEL' if changed or not wakeword else wakeword} --backend {best.backend}"
    return [*lines, f"listen: {listen}{_block_option(best)}"]


def _export_command(trial: Trial) -> str | None:
    from kws.model.graphs import export_command, graph_problem

    return export_command(trial.settings) if graph_problem(trial.settings, trial.precision) else None


def _block_option(trial: Trial) -> str:
    from kws.model.encoder_folder import find_encoder_folder, read_streaming_config

    folder = find_encoder_folder(trial.settings.name)
    is_streaming = folder is not None and read_streaming_config(folder) is not None
    return f" --block-ms {trial.block_ms:g}" if is_streaming else ""


def _to_json(tuning: Tuning, settings: EncoderConfig, wakeword: str) -> dict[str, object]:
    return {
        "trials": [trial.to_dict() for trial in tuning.trials],
        "best": tuning.best.to_dict() if tuning.best is not None else None,
        "advice": advice(tuning, settings, wakeword),
        "left_out": list(tuning.left_out),
    }


def _table(tuning: Tuning, budget: Budget) -> list[str]:
    lines = [f"{'layers':>6}  {'precision':<9}  {'block, ms':>9}  {'of a core':>9}  {'latency, ms':>11}"]
    for trial in tuning.trials:
        mark = "  ← best" if trial is tuning.best else "" if trial.fits(budget) else "  too much"
        depth = trial.settings.layers or "all"
        cost = f"{trial.cpu_s_per_s:>9.2%}  {trial.latency_ms:>11.0f}"
        lines.append(f"{depth:>6}  {trial.precision:<9}  {trial.block_ms:>9g}  {cost}{mark}")
    return lines


def _what(trial: Trial) -> str:
    return (
        f"{trial.settings.layers or 'all'} layers, {trial.precision}, {trial.block_ms:g} ms at a time: "
        f"{trial.cpu_s_per_s:.2%} of a core, {trial.latency_ms:.0f} ms"
    )


def _encoder_and_wakeword(model: str) -> tuple[EncoderConfig, str]:
    """Returns the encoder that `model` is or names, and `model` itself if it is a wake word, else an empty string."""
    from kws.evaluate.explain import is_wakeword
    from kws.model.artefact import load_wakeword
    from kws.model.settings import EncoderConfig

    if not model:
        return EncoderConfig(), ""
    return (load_wakeword(model).encoder, model) if is_wakeword(model) else (EncoderConfig(name=model), "")


def _parse(option: str, text: str, units: tuple[str, ...]) -> float:
    """Returns `text`, a number with or without one of `units`, as a share or in milliseconds."""
    unit = next((unit for unit in units if text.strip().endswith(unit)), "")
    try:
        value = float(text.strip().removesuffix(unit)) * _UNITS.get(unit, 1.0)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise ConfigError(f"{option} is '{text}'; expected a number above 0, with {' or '.join(units)}")
    return value
