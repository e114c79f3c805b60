"""Wake words from a typed phrase: `kws.load("hey_computer").stream().feed(chunk)`; importing this costs nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kws.errors import DependencyError

if TYPE_CHECKING:
    from kws.audio.microphone import Microphone
    from kws.detect.detector import Detection, Detector, load
    from kws.errors import KwsError
    from kws.model.pretrained import load_encoder
    from kws.train.wakeword import train_wakeword as train

__version__ = "0.1.0"

__all__ = [
    "Detection",
    "Detector",
    "KwsError",
    "Microphone",
    "load",
    "load_encoder",
    "train",
]

_HOMES = {
    "Detection": "kws.detect.detector",
    "Detector": "kws.detect.detector",
    "KwsError": "kws.errors",
    "Microphone": "kws.audio.microphone",
    "load": "kws.detect.detector",
    "load_encoder": "kws.model.pretrained",
}


def __getattr__(name: str) -> Any:
    if name == "train":  # the folder, which is callable
        return importlib.import_module("kws.train")
    if name not in _HOMES:
        raise AttributeError(f"module 'kws' has no attribute '{name}'; it has: {', '.join(__all__)}")
    try:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "kws":
            raise
        raise DependencyError(
            f"kws.{name} needs the package '{error.name}', which is not installed; run: pip install 'kws[train]'"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
