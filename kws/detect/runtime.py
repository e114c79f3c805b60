"""Back ends of detection: one loaded encoder, and heads that turn its frames into scores."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from kws.errors import ArtefactError
from kws.model.artefact import WakeWord
from kws.model.encoder import Encoder
from kws.model.head import Head
from kws.model.pretrained import build_encoder


class HeadStream(Protocol):
    """One stream through a head."""

    def feed(self, frames: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, num_keywords) float32 scores, 0 to 1, of (num_frames, dim) frames."""

    def reset(self) -> None:
        """Forgets everything seen."""


class TorchHeadStream:
    """The state of one stream through a torch `Head`."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.reset()

    def reset(self) -> None:
        """Forgets everything seen."""
        self._cache = self.head.initial_cache()

    @torch.inference_mode()
    def feed(self, frames: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, num_keywords) float32 scores, 0 to 1, of (num_frames, dim) frames."""
        if not len(frames):
            return np.zeros((0, self.head.output.out_features), np.float32)
        logits, self._cache = self.head(torch.from_numpy(frames)[None], self._cache)
        return torch.sigmoid(logits[0]).numpy()


def load_encoder_for(wakeword: WakeWord) -> Encoder:
    """Returns the encoder that `wakeword` names.

    Raises:
        ArtefactError: the encoder of that name has other weights than the wake word was trained on.
        EncoderError: it can't be found.
    """
    encoder = build_encoder(wakeword.encoder)
    if encoder.sha256 != wakeword.encoder_sha256 or encoder.dim != wakeword.dim:
        raise ArtefactError(
            f"'{wakeword.keywords[0].name}' was trained on another version of the encoder '{wakeword.encoder.name}' "
            f"(SHA-256 {wakeword.encoder_sha256[:12]}…, here {encoder.sha256[:12]}…); train it again"
        )
    return encoder


def load_head(wakeword: WakeWord) -> Head:
    """Returns the torch head of `wakeword`, ready to run."""
    head = Head(wakeword.dim, len(wakeword.keywords), wakeword.head, wakeword.num_states)
    head.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in wakeword.weights.items()})
    return head.eval()
