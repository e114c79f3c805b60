"""The command that writes an encoder's ONNX graphs; `app.py` registers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kws.errors import require

EXPORT_EXAMPLES = "Examples:\n\nkws export runs/pretrain/run/encoder\n\nkws export my_encoder --audio recordings/"


def export(
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help="A streaming encoder's folder.")],
    audio: Annotated[
        Path | None, typer.Option(help="Folder of speech to measure int8's ranges on, instead of synthetic speech.")
    ] = None,
) -> None:
    """Write the graphs that run an encoder without torch: float32, and int8, which costs less.

    The first is compared with torch, the second with the first; nothing is written that differs too much.
    """
    require("torch", "train")
    from kws.audio.io import read_batch
    from kws.data.manifest import read_clips
    from kws.export.int8 import export_int8
    from kws.export.onnx import export_encoder, parity_error

    path = export_encoder(encoder)
    typer.echo(f"{path}: differs from torch by at most {parity_error(path.parent):.1e}")
    waveforms = []
    if audio is not None:
        waveforms = [waveform for _, waveform in read_batch((clip.path for clip in read_clips(audio)), typer.echo)]
    path, error = export_int8(encoder, waveforms)
    typer.echo(f"{path}: its frames differ from float32 by {error:.1%} (root mean square)")
