"""The command that writes an encoder's ONNX graphs; `app.py` registers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kws.errors import require

if TYPE_CHECKING:
    import numpy as np

    from kws.model.settings import EncoderConfig

EXPORT_EXAMPLES = (
    "Examples:\n\nkws export runs/pretrain/run/encoder\n\nkws export my_encoder --audio recordings/\n\n"
    "hf download facebook/wav2vec2-base-960h --local-dir base && kws export base --layers 6"
)


def export(
    encoder: Annotated[
        str, typer.Argument(metavar="ENCODER", help="An encoder's folder, of this project or in Hugging Face format.")
    ],
    layers: Annotated[int, typer.Option(min=0, help="Only the first so many transformer layers; 0 for all.")] = 0,
    mix: Annotated[
        bool, typer.Option("--mix", help="The frames of all layers, for encoder.layer=mix; not for one that streams.")
    ] = False,
    window: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds of a window (encoder.window_s), where it runs by window.")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Folder of speech to measure int8 on, instead of synthetic speech.")
    ] = None,
) -> None:
    """Write the graphs that run an encoder without torch: float32, and int8, which costs less.

    An encoder that was trained to stream gives a graph of one step, any other wav2vec2, HuBERT or WavLM one of a
    window, which holds its weights: that file and config.json are all that another machine needs.
    The first is compared with torch, the second with the first; nothing is written that differs too much.
    """
    require("torch", "train")
    from kws.audio.io import read_batch
    from kws.data.manifest import read_clips
    from kws.model.encoder_folder import find_encoder_folder, read_streaming_config
    from kws.model.settings import EncoderConfig

    settings = EncoderConfig(name=encoder, layers=layers, layer="mix" if mix else "last")
    settings = settings if window is None else replace(settings, window_s=window)
    waveforms = []
    if audio is not None:
        waveforms = [waveform for _, waveform in read_batch((clip.path for clip in read_clips(audio)), typer.echo)]
    folder = find_encoder_folder(encoder)
    is_streaming = folder is not None and read_streaming_config(folder) is not None
    (_export_steps if is_streaming else _export_windows)(settings, waveforms)


def _export_steps(settings: EncoderConfig, waveforms: Sequence[np.ndarray]) -> None:
    from kws.export.int8 import export_int8
    from kws.export.onnx import export_encoder, parity_error

    path = export_encoder(settings.name, settings.layers)
    _tell_exact(path, parity_error(path.parent, layers=settings.layers))
    _tell_rounded(*export_int8(settings.name, waveforms, settings.layers))


def _export_windows(settings: EncoderConfig, waveforms: Sequence[np.ndarray]) -> None:
    from kws.export.windows import export_windows, export_windows_int8

    _tell_exact(*export_windows(settings))
    _tell_rounded(*export_windows_int8(settings, waveforms))


def _tell_exact(path: Path, error: float) -> None:
    typer.echo(f"{path}: differs from torch by at most {error:.1e}")


def _tell_rounded(path: Path, error: float) -> None:
    typer.echo(f"{path}: its frames differ from float32 by {error:.1%} (root mean square)")
