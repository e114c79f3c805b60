"""The options that say how wake words are run, and the detector that they give: for every command that detects."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kws.detect.detector import Detector


class Backend(str, Enum):
    """What runs the encoder."""

    auto = "auto"
    int8 = "int8"
    onnx = "onnx"
    torch = "torch"


ThresholdOption = Annotated[
    float | None, typer.Option(help="Score that fires, 0 to 1, in place of the one each wake word was saved with.")
]
BackendOption = Annotated[
    Backend,
    typer.Option(help="What runs the encoder: int8 costs least, onnx is float32; auto takes the first that there is."),
]
BlockOption = Annotated[
    float,
    typer.Option(
        metavar="MS",
        help="Encode so many ms at a time, a multiple of the encoder's block: costs less, detects later. 0: one block.",
    ),
]
GateOption = Annotated[
    bool, typer.Option("--gate", help="Pass over silence unheard: costs nearly nothing there. Zero scores.")
]


def load_detector(
    models: Sequence[str], threshold: float | None, backend: Backend, block_ms: float = 0, gate: bool = False
) -> Detector:
    """Returns the wake words `models` as a detector.

    Raises:
        KwsError: as `kws.load`; a threshold outside 0..1.
    """
    from kws.detect.detector import Detector
    from kws.model.artefact import load_wakeword

    wakewords = [load_wakeword(model) for model in models]
    if threshold is not None:
        wakewords = [wakeword.with_threshold(threshold) for wakeword in wakewords]
    return Detector(wakewords, backend.value, block_ms, gate)
