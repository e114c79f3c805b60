"""The errors a user can meet, and the check for optional packages; every message ends with a remedy."""

from __future__ import annotations

import importlib
from types import ModuleType


class KwsError(Exception):
    """Base of every error `kws` raises on purpose; the command line prints its message and exits with 2."""


class AudioError(KwsError):
    """A file or chunk that is not usable audio."""


class ConfigError(KwsError):
    """A configuration key or value that is unknown or impossible."""


class ArtefactError(KwsError):
    """A wake-word artefact that is damaged, wrong, hostile or from another version."""


class EncoderError(KwsError):
    """A pretrained encoder that can't be found, read or used."""


class MicrophoneError(KwsError):
    """No PortAudio, no device, a device that was lost or that refuses what was asked."""


class SynthesisError(KwsError):
    """Speech that can't be synthesised: no synthesiser, unknown voice, unspeakable text."""


class DependencyError(KwsError):
    """An optional package that is missing or broken."""


def require(module: str, extra: str) -> ModuleType:
    """Returns the imported optional `module`.

    Raises:
        DependencyError: it is missing, or broken (a CPU-only torch beside PyPI's torchaudio breaks both
            `torchaudio` and `transformers`); the message names the command that repairs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise DependencyError(_broken(module, error)) from error
        raise DependencyError(
            f"this needs the package '{module}', which is not installed; run: pip install 'kws[{extra}]'"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(_broken(module, error)) from error


def _broken(module: str, error: BaseException) -> str:
    remedy = f"run: pip install --force-reinstall {module}"
    if module.split(".")[0] in ("torch", "torchaudio", "transformers"):
        remedy = (
            "torch and torchaudio must come as a matched pair from PyPI (a CPU-only torch beside PyPI's torchaudio "
            "does not load); run: pip install --force-reinstall 'torch~=2.11.0' 'torchaudio~=2.11.0'"
        )
    return f"the package '{module}' is installed but can't be imported ({error}); {remedy}"
