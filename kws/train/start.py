"""Where the training of a head begins: at random, or at an artefact whose encoder and head fit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from kws.errors import ArtefactError
from kws.model.artefact import WakeWord, load_wakeword
from kws.model.encoder import Encoder
from kws.model.head import Head
from kws.model.settings import HeadConfig

CLIPS_FOLDER = "clips"
"""In an artefact's folder: the recordings it was made from, kept only where the user asked for it."""


@dataclass(frozen=True)
class StartingPoint:
    """What a run starts from.

    Attributes:
        wakeword: the artefact, None for a head of random weights.
        clips: folder of the recordings kept in it, None without any.
    """

    wakeword: WakeWord | None = None
    clips: Path | None = None

    @property
    def sha256(self) -> str:
        """Hash of the head's weights, empty for random ones."""
        if self.wakeword is None:
            return ""
        weights = sorted(self.wakeword.weights.items())
        return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for _, array in weights)).hexdigest()

    def fitted(self, head: HeadConfig) -> HeadConfig:
        """Returns the kind and size of the head that training goes on with, or of `head`, if there is none.

        Raises:
            ArtefactError: `head` is neither that nor the default.
        """
        if self.wakeword is None:
            return head
        if head not in (self.wakeword.head, HeadConfig()):
            raise ArtefactError(
                f"'{self.wakeword.keywords[0].name}' has the head {self.wakeword.head}, this run asks for {head}; "
                "set nothing of the head, or leave --from out"
            )
        return self.wakeword.head

    def load_into(self, head: Head) -> None:
        """Gives `head` the weights of the artefact, if there is one."""
        if self.wakeword is not None:
            weights = {name: torch.tensor(array) for name, array in self.wakeword.weights.items()}
            head.load_state_dict(weights)

    def noted_in(self, wakeword: WakeWord) -> WakeWord:
        """Returns `wakeword`, with what it started from in its details."""
        if self.wakeword is None:
            return wakeword
        made = {"keyword": self.wakeword.keywords[0].name, "head_sha256": self.sha256}
        return replace(wakeword, details={**wakeword.details, "started_from": made})


def open_start(path: Path | str | None, encoder: Encoder) -> StartingPoint:
    """Returns the starting point at `path`, a random one without it.

    Args:
        path: an artefact of one keyword.
        encoder: what the new head will run on; the artefact must name the same weights and layers.

    Raises:
        ArtefactError: it can't be read, has another encoder, or several keywords.
    """
    if path is None:
        return StartingPoint()
    wakeword = load_wakeword(path)
    if len(wakeword.keywords) != 1:
        raise ArtefactError(f"{path} has {len(wakeword.keywords)} keywords; a run can start from one with a single one")
    if (wakeword.encoder_sha256, wakeword.dim) != (encoder.sha256, encoder.dim):
        raise ArtefactError(
            f"{path} was made on the encoder '{wakeword.encoder.name}' (SHA-256 {wakeword.encoder_sha256[:12]}…, "
            f"frames of {wakeword.dim} numbers), this run uses '{encoder.settings.name}' ({encoder.sha256[:12]}…, "
            f"{encoder.dim}): a head fits its own encoder only; name that one with --encoder, or leave --from out"
        )
    clips = Path(path).expanduser() / CLIPS_FOLDER
    return StartingPoint(wakeword, clips if clips.is_dir() else None)
