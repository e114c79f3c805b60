"""Teacher and student of a distillation, and how far apart they are.

clean audio ───▶ teacher ──▶ frames of some layers, logits ┐
spoiled audio ─▶ student ──▶ the same through own layers ──┴▶ feature loss, logit loss
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kws.errors import EncoderError
from kws.frames import FrameGeometry
from kws.model.pretrained import load_encoder
from kws.model.windowed import WindowedEncoder
from kws.train.phone_model import PhoneLogits, PhoneModel


class Targets(NamedTuple):
    """What the teacher hears in a batch.

    Attributes:
        features: of each chosen layer, (batch, num_frames, dim), each frame of mean 0 and variance 1.
        logits: (batch, num_frames, num_labels) of its output layer; None if it has none.
    """

    features: tuple[Tensor, ...]
    logits: Tensor | None


class Answers(NamedTuple):
    """What the student makes of a batch.

    Attributes:
        phones: of its own output layers.
        features: its guess at `Targets.features`.
        logits: its guess at `Targets.logits`.
    """

    phones: PhoneLogits
    features: tuple[Tensor, ...]
    logits: Tensor | None


class Teacher:
    """A frozen encoder that hears whole crops, not windows of them.

    Args:
        name: as `kws.load_encoder` takes it.
        layers: whose frames are taught, 1 the lowest; none: a third, two thirds and all of the way up (Chang et al.
            2022, arXiv:2110.01900, teach 4, 8 and 12 of 12).

    Raises:
        EncoderError: it can't be had, or lacks one of `layers`.
    """

    def __init__(self, name: str, layers: Sequence[int] = ()) -> None:
        self.name = name
        self.encoder = load_encoder(name)
        self.output_layer = self.encoder.output_layer
        num_layers = len(self.encoder.transformer_layers)
        self.layers = sorted(set(layers) or {-(-num_layers * third // 3) for third in (1, 2, 3)})
        if max(self.layers) > num_layers:
            raise EncoderError(f"{name} has {num_layers} transformer layers; layers = {self.layers} asks for more")
        self._states: dict[int, Tensor] = {}
        for layer in self.layers:
            self.encoder.transformer_layers[layer - 1].register_forward_hook(self._keep(layer))

    def check_fits(self, geometry: FrameGeometry) -> None:
        """Raises an `EncoderError` unless its frames are a student's of `geometry`, but for one at the end."""
        own = self.encoder.geometry
        if own.hop != geometry.hop or abs(own.receptive_field - geometry.receptive_field) >= geometry.hop:
            raise EncoderError(
                f"{self.name} gives a frame of {own.receptive_field} samples every {own.hop}, the student one of "
                f"{geometry.receptive_field} every {geometry.hop}; take a teacher with the student's frames, such as "
                "facebook/wav2vec2-base-960h"
            )

    def to(self, device: torch.device) -> None:
        """Moves it to `device`."""
        self.encoder.to(device)
        if self.output_layer is not None:
            weight, bias = self.output_layer.weight.to(device), self.output_layer.bias.to(device)
            self.output_layer = dataclasses.replace(self.output_layer, weight=weight, bias=bias)

    @torch.no_grad()
    def hear(self, waveforms: Tensor) -> Targets:
        """Returns what there is to learn from `waveforms` (batch, num_samples) float32."""
        encoder = self.encoder
        frames = encoder.encode(waveforms) if isinstance(encoder, WindowedEncoder) else encoder(waveforms)
        states = [self._states.pop(layer).float() for layer in self.layers]
        # each frame normalised, as data2vec does (arXiv:2202.03555, §3.3): the loss weighs alike for any teacher
        features = tuple(F.layer_norm(state, state.shape[-1:]) for state in states)
        return Targets(features, self.output_layer(frames).float() if self.output_layer is not None else None)

    def _keep(self, layer: int) -> Any:
        def hook(module: nn.Module, inputs: object, output: Any) -> None:
            self._states[layer] = output[0] if isinstance(output, tuple) else output

        return hook


class Student(PhoneModel):
    """A `PhoneModel` with a linear layer for each of the teacher's chosen layers, and one for its output layer.

    These layers only train: an export leaves them out, and keeps the phones' output layers.

    Args:
        phones: whose encoder learns.
        teacher: whom it learns from.
        has_phones: whether the phones' output layers are trained too.
    """

    def __init__(self, phones: PhoneModel, teacher: Teacher, has_phones: bool) -> None:
        super().__init__(phones.encoder, phones.frame_output, phones.ctc_output, phones.folder)
        dim, teacher_dim, output = phones.encoder.dim, teacher.encoder.hidden_dim, teacher.output_layer
        self.feature_outputs = nn.ModuleList(nn.Linear(dim, teacher_dim) for _ in teacher.layers)
        self.label_output = nn.Linear(dim, len(output.labels)) if output is not None else None
        self.has_phones = has_phones

    def answer(self, waveforms: Tensor, block_frames: int, left_context_frames: int) -> Answers:
        """Returns all that the student says of `waveforms` (batch, num_samples) float32."""
        frames = self.encoder(waveforms, block_frames, left_context_frames)
        return Answers(
            PhoneLogits(self.frame_output(frames), self.ctc_output(frames)),
            tuple(output(frames) for output in self.feature_outputs),
            self.label_output(frames) if self.label_output is not None else None,
        )

    def forward(self, waveforms: Tensor, block_frames: int, left_context_frames: int) -> Any:
        """Returns the `Answers` in training; the phones' logits alone, as `PhoneModel`, in evaluation."""
        answers = self.answer(waveforms, block_frames, left_context_frames)
        return answers if self.training else answers.phones

    def save(self, folder: Path, has_ctc: bool) -> None:
        """Writes the export; a CTC output layer that nothing trained stays that of the encoder it began from."""
        super().save(folder, has_ctc or not self.has_phones)


def aligned(answer: Tensor, target: Tensor, delay_frames: int) -> tuple[Tensor, Tensor]:
    """Returns the frames that belong together, (batch, num_frames, …) both: the student's come `delay_frames` later."""
    num_frames = min(answer.shape[1] - delay_frames, target.shape[1])
    return answer[:, delay_frames : delay_frames + num_frames].float(), target[:, :num_frames]


def feature_loss(answer: Tensor, target: Tensor) -> Tensor:
    """Returns the distance of (batch, num_frames, dim) frames: mean absolute difference less log σ of the cosine.

    Source: Chang et al. 2022, "DistilHuBERT", arXiv:2110.01900, eq. 1 with λ = 1.
    """
    cosine = F.cosine_similarity(answer, target, dim=-1)
    return (answer - target).abs().mean() - F.logsigmoid(cosine).mean()


def logit_loss(answer: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Returns KL(teacher ‖ student) a frame of (batch, num_frames, num_labels) logits, softened.

    Source: Hinton et al. 2015, arXiv:1503.02531, §2: times the square of the temperature, which keeps the gradient's
    size.
    """
    log_probs, wanted = (torch.log_softmax(logits / temperature, dim=-1) for logits in (answer, target))
    return F.kl_div(log_probs, wanted, reduction="none", log_target=True).sum(-1).mean() * temperature**2


def nearness(answers: Answers, targets: Targets, delay_frames: int) -> dict[str, Tensor]:
    """Returns how near `answers` are to `targets`, each 1 at best.

    `cosine` is the mean over the frames of all layers; `agreement`, where the teacher has an output layer, the share of
    frames in which both find the same label likeliest.
    """
    pairs = [aligned(*pair, delay_frames) for pair in zip(answers.features, targets.features)]
    cosines = [F.cosine_similarity(answer.detach(), target, dim=-1).mean() for answer, target in pairs]
    found = {"cosine": torch.stack(cosines).mean()}
    if answers.logits is not None and targets.logits is not None:
        answer, target = aligned(answers.logits.detach(), targets.logits, delay_frames)
        found["agreement"] = (answer.argmax(-1) == target.argmax(-1)).float().mean()
    return found
