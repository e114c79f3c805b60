"""The second task: CTC on transcribed speech, trained beside the wake word, so that the encoder keeps what it knew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kws.audio.io import read_audio
from kws.data.manifest import Clip, read_manifest
from kws.data.phones import ARPABET, BOUNDARY, pronounce
from kws.data.text import normalize
from kws.errors import ConfigError
from kws.evaluate.heard import BLANKS
from kws.model.encoder import Encoder, OutputLayer

MAX_UTTERANCE_S = 16.0


class CtcTask(nn.Module):
    """The encoder's output layer, put back, and speech to train it on; works with phones as with letters.

    Source: CTC, Graves et al. 2006; a second task against forgetting, Li & Hoiem 2016, arXiv:1606.09282, which keeps
    old outputs where this has old labels.

    Args:
        output_layer: of the encoder; copied.
        clips: transcribed utterances.
        batch_size: utterances a batch.
    """

    def __init__(self, output_layer: OutputLayer, clips: Sequence[Clip], batch_size: int) -> None:
        super().__init__()
        self.labels = output_layer.labels
        num_labels, dim = output_layer.weight.shape
        self.output = nn.Linear(dim, num_labels)
        self.output.load_state_dict({"weight": output_layer.weight, "bias": output_layer.bias})
        self.clips, self.batch_size = clips, batch_size

    def loss(self, encoder: Encoder, rng: np.random.Generator) -> Tensor:
        """Returns the CTC loss per label of utterances that `rng` draws, a scalar."""
        drawn = rng.choice(len(self.clips), min(self.batch_size, len(self.clips)), replace=False)
        return self.loss_of(encoder, [self.clips[index] for index in drawn])

    def loss_of(self, encoder: Encoder, clips: Sequence[Clip]) -> Tensor:
        """Returns the CTC loss per label of `clips`, a scalar."""
        waveforms = [read_audio(clip.path) for clip in clips]
        targets = [encode_text(clip.text or "", self.labels) for clip in clips]
        padded = np.stack([np.pad(wave, (0, max(map(len, waveforms)) - len(wave))) for wave in waveforms])
        log_probs = torch.log_softmax(self.output(encoder(torch.from_numpy(padded))).float(), dim=-1).transpose(0, 1)
        lengths = torch.tensor([encoder.geometry.num_frames(len(waveform)) for waveform in waveforms])
        target_lengths = torch.tensor([len(target) for target in targets])
        flat = torch.tensor([label for target in targets for label in target])
        return F.ctc_loss(log_probs, flat, lengths, target_lengths, blank=_blank(self.labels), zero_infinity=True)

    def layer(self) -> OutputLayer:
        """Returns the output layer as it is now."""
        return OutputLayer(self.output.weight.detach().clone(), self.output.bias.detach().clone(), self.labels)


def open_ctc_task(manifest: str, encoder: Encoder, batch_size: int) -> CtcTask:
    """Returns the task on the transcribed speech in `manifest`.

    Raises:
        ConfigError: the encoder has no output layer, isn't whole, or there is no transcribed speech.
        AudioError: the manifest can't be read.
    """
    layer = encoder.output_layer
    if layer is None or encoder.settings.layers or encoder.settings.layer != "last":
        raise ConfigError(
            "transfer.ctc_weight needs an encoder with its output layer, whole (encoder.layers = 0) and with "
            f"encoder.layer = 'last'; {encoder.settings.name} as asked for is not; set transfer.ctc_weight = 0"
        )
    clips = [clip for clip in read_manifest(Path(manifest)) if normalize(clip.text or "")]
    clips = [clip for clip in clips if clip.duration_s is None or clip.duration_s <= MAX_UTTERANCE_S]
    if not clips:
        raise ConfigError(
            f"{manifest} holds no transcribed utterance of up to {MAX_UTTERANCE_S:g} s; transfer.ctc_speech needs a "
            "manifest whose lines have 'text'"
        )
    return CtcTask(layer, clips, batch_size)


def encode_text(text: str, labels: Sequence[str]) -> list[int]:
    """Returns the labels that `text` is made of: ARPAbet phones where the output layer has those, else letters.

    Raises:
        SynthesisError: phones are needed, and there is no eSpeak library to find them.
    """
    index = {label: number for number, label in enumerate(labels)}
    words = normalize(text)
    if set(ARPABET) & set(labels) - set(ascii_uppercase):
        symbols = [phone for word in pronounce(words) for phone in word]
    else:
        symbols = list(words.upper().replace(" ", BOUNDARY))
    return [index[symbol] for symbol in symbols if symbol in index]


def _blank(labels: Sequence[str]) -> int:
    return next((labels.index(label) for label in BLANKS if label in labels), 0)
