"""A wake word whose encoder learns with the head: windows ─▶ both trained ─▶ the encoder in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.data.windows import WindowComposer
from kws.model.encoder import Encoder
from kws.model.head import Head
from kws.model.pretrained import build_encoder
from kws.model.settings import HeadConfig
from kws.model.streaming import StreamingEncoder
from kws.train.bank_frames import BankFrames, RealSpeech, attend
from kws.train.features import end_frame, one_thread_per_operation
from kws.train.head_training import head_loss
from kws.train.losses import NEGATIVE, LossConfig
from kws.train.start import StartingPoint
from kws.train.transfer.ctc_task import open_ctc_task
from kws.train.transfer.encoder_files import save_encoder
from kws.train.transfer.modes import TransferConfig, seeded
from kws.train.transfer.trainer import TransferTrainer

CHECKPOINT = "transfer.ckpt"
STEPS_A_CHECKPOINT = 50
STEPS_A_LOSS = 10
"""Over so many the reported loss is averaged."""
STREAM = 300
"""Sets the draws of these windows apart from those of others."""
REAL_SHARE = 0.25
"""Of a batch: windows of the bank's real speech."""


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning made.

    Attributes:
        encoder: as its folder has it, in half precision, frozen.
        head: trained with it.
        losses: means over a few steps each.
        folder: of the encoder.
        real_speech: the bank's, for the trained encoder; none where its features fit no more.
    """

    encoder: Encoder
    head: Head
    losses: list[float]
    folder: Path
    real_speech: RealSpeech


class Batches:
    """Batches of windows, each a function of its number: half with the phrase, and real speech where there is some.

    Args:
        composer: of windows.
        speech: of the encoder's bank, as features behind its convolutions; None leaves it out.
        encoder: that learns.
        transfer: how large a batch is.
        seed: of every draw.
    """

    def __init__(
        self,
        composer: WindowComposer,
        speech: BankFrames | None,
        encoder: Encoder,
        transfer: TransferConfig,
        seed: int,
    ) -> None:
        self._composer, self._speech, self._encoder, self._seed = composer, speech, encoder, seed
        self._num_real = round(transfer.batch_size * REAL_SHARE) if speech is not None else 0
        self._num_composed = max(1, transfer.batch_size - self._num_real)

    def draw(self, number: int) -> tuple[Callable[[], Tensor], Tensor]:
        """Returns what encodes batch `number`, and (batch,) the frame in which the phrase ends, `NEGATIVE` without."""
        rng = np.random.default_rng([self._seed, STREAM, number])
        composer, geometry = self._composer, self._encoder.geometry
        windows = [composer.positive(rng) if i % 2 == 0 else composer.negative(rng) for i in range(self._num_composed)]
        waveforms = torch.from_numpy(np.stack([window.waveform for window in windows]))
        ends = [end_frame(window.end_sample, geometry) for window in windows] + [NEGATIVE] * self._num_real
        if self._speech is None:
            return partial(self._encoder, waveforms), torch.tensor(ends)
        num_frames = geometry.num_frames(waveforms.shape[1])
        features = torch.from_numpy(self._speech.features(self._num_real, num_frames, rng))
        return partial(_encode_both, self._speech.encoder, waveforms, features), torch.tensor(ends)


def fine_tune(
    encoder: Encoder,
    composer: WindowComposer,
    transfer: TransferConfig,
    head: HeadConfig,
    loss: LossConfig,
    start: StartingPoint,
    real_speech: RealSpeech,
    seed: int,
    work: Path,
    progress: Callable[[int, int], None],
) -> FineTuned:
    """Trains `encoder` and a head as `transfer` says; interrupted, the same call goes on where it was.

    Args:
        encoder: from `open_encoder`; changed in place.
        composer: of training windows.
        transfer: the mode, how long and how fast.
        head: kind and size.
        loss: of the wake word.
        start: what the head begins with.
        real_speech: the bank's, beside the windows where its features still fit: in the mode "last".
        seed: of every draw.
        work: folder for the checkpoint and the trained encoder.
        progress: called with (done, total) steps.

    Raises:
        ConfigError: a second task that this encoder can't have, or an encoder that can't be kept.
    """
    with seeded(seed):
        network = Head(encoder.dim, 1, head, encoder.num_states)
    start.load_into(network)
    task = None
    if transfer.ctc_weight:
        task = open_ctc_task(transfer.ctc_speech, encoder, transfer.ctc_batch_size)
    trainer = TransferTrainer(encoder, network, transfer, transfer.steps, seed, task)
    if transfer.mode != "last":
        real_speech = RealSpeech(real_speech.config, seed)
    batches = Batches(composer, real_speech.on(encoder).training, encoder, transfer, seed)
    losses = _train(trainer, batches, loss, work / CHECKPOINT, progress)
    settings = save_encoder(encoder, work / "encoder", None if task is None else task.layer())
    means = [float(np.mean(losses[i : i + STEPS_A_LOSS])) for i in range(0, len(losses), STEPS_A_LOSS)]
    tuned = build_encoder(settings)
    return FineTuned(tuned, network.eval(), means, work / "encoder", real_speech.on(tuned))


def _train(
    trainer: TransferTrainer,
    batches: Batches,
    loss: LossConfig,
    checkpoint: Path,
    progress: Callable[[int, int], None],
) -> list[float]:
    losses: list[float] = []
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        trainer.load_state_dict(state["trainer"])
        losses = state["losses"]
    hop_s = trainer.encoder.geometry.hop_s
    with one_thread_per_operation():
        while trainer.num_done < trainer.num_steps:
            progress(trainer.num_done, trainer.num_steps)
            encode, ends = batches.draw(trainer.num_done)
            losses.append(trainer.step(encode, partial(head_loss, end_frames=ends, config=loss, hop_s=hop_s)))
            if trainer.num_done % STEPS_A_CHECKPOINT == 0 or trainer.num_done == trainer.num_steps:
                _save(trainer, losses, checkpoint)
    progress(trainer.num_steps, trainer.num_steps)
    return losses


def _encode_both(encoder: StreamingEncoder, waveforms: Tensor, features: Tensor) -> Tensor:
    return torch.cat([encoder(waveforms), attend(encoder, features)])


def _save(trainer: TransferTrainer, losses: list[float], path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save({"trainer": trainer.state_dict(), "losses": losses}, temporary)
    temporary.replace(path)
