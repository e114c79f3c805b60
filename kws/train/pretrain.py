"""Trains a streaming encoder to hear phones: frame-wise cross-entropy on aligned speech, then CTC beside it.

    python -m kws.train.pretrain --config recipes/pretrain/config.toml --out runs/pretrain [--resume]
    torchrun --nproc-per-node 2 -m kws.train.pretrain …          # on two cores, or on two GPUs with device=cuda

batches ──▶ encoder + output layers ──▶ loss ──▶ optimiser ──▶ averaged weights ──▶ phone error rate, checkpoint, export
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from kws.config import load_config, to_toml
from kws.errors import ConfigError
from kws.train.losses import ctc_loss
from kws.train.optimisers import make_optimisers
from kws.train.phone_error import PhoneScore, measure_phones
from kws.train.phone_model import Masking, PhoneLogits, PhoneModel, add_dropout
from kws.train.precision import multiplies_bfloat16
from kws.train.pretrain_config import PretrainConfig
from kws.train.speaker_timbres import measure_timbres
from kws.train.speech_batches import SpeechBatch, SpeechBatches
from kws.train.speech_cache import SpeechCache
from kws.train.spoil import Spoiler, load_sounds

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


class Pretraining:
    """One training run in a folder: its weights, their average, the optimiser and where it stands.

    Args:
        config: the run.
        out: folder for checkpoints, logs and the exported encoder.
    """

    def __init__(self, config: PretrainConfig, out: Path) -> None:
        self.config = config
        self.out = out
        self.accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision="no",  # autocast is `train_step`'s own
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=config.has_idle_layer)],
        )
        torch.manual_seed(config.batches.seed)
        self.model = self.make_model().to(self.accelerator.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.masking = Masking(config.masking)
        self.masking.attach(self.model)
        if config.frozen_convolutions:
            self.model.encoder.convolutions.requires_grad_(False)
        if config.dropout:
            add_dropout(self.model.encoder, config.dropout)
        if config.compiled:
            self.model.compile_parts()
        self.optimisers = make_optimisers(self.model, config)
        self.parallel_model = self.accelerator.prepare_model(self.model)
        self.step = 0
        self.elapsed_s = 0.0

    @property
    def progress(self) -> float:
        """How far the run is, 0 to 1: by steps where their number is set, else by time."""
        if self.config.max_steps is not None:
            return min(1.0, self.step / self.config.max_steps)
        return min(1.0, self.elapsed_s / (60 * self.config.minutes))

    def make_model(self) -> PhoneModel:
        """Returns the network to train."""
        return PhoneModel.from_folder(self.config.initial, self.config.random_initial)

    def corpora(self) -> list[tuple[SpeechCache, float]]:
        """Returns the speech to train on, each with its share."""
        names = zip(self.config.speech, self.config.shares)
        return [(SpeechCache(Path(self.config.cache) / name), share) for name, share in names]

    def spoiler(self) -> Spoiler | None:
        """Returns the augmentation of single crops."""
        config = self.config
        if not config.spoiled:
            return None
        return Spoiler(config.spoil, *load_sounds(config.noise, config.noise_folds, config.rooms))

    def batches(self) -> SpeechBatches:
        """Returns this process's batches from the current step on."""
        corpora, config, geometry = self.corpora(), self.config.batches, self.model.geometry
        timbres = measure_timbres(cache for cache, _ in corpora) if config.timbre_probability else None
        index = self.accelerator.process_index
        return SpeechBatches(corpora, geometry, config, self.spoiler(), timbres, self.step, index)

    def train_step(self, batch: SpeechBatch) -> tuple[float, float]:
        """Changes the weights by one batch; returns its loss and frame accuracy."""
        self._set_learning_rate()
        self.model.train()
        draw = (self.config.batches.seed, self.step, self.accelerator.process_index)
        seed = int(np.random.SeedSequence(draw).generate_state(1, np.uint64)[0])
        torch.manual_seed(seed)
        self.masking.begin_step(self.progress, seed)
        device = self.accelerator.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.bf16 and multiplies_bfloat16(device)):
            loss, accuracy = self.loss(batch)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        self._update_average()
        return float(loss.detach()), float(accuracy)

    def loss(self, batch: SpeechBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the loss of `batch` and its frame accuracy."""
        waveforms = batch.waveforms.to(self.accelerator.device)
        logits = self.parallel_model(waveforms, batch.block_frames, batch.left_context_frames)
        return self.phone_loss(logits, batch.labels.to(self.accelerator.device))

    def phone_loss(self, logits: PhoneLogits, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the loss of both output layers for the frames' `labels`, and the frame accuracy."""
        config, frame_logits = self.config, logits.frame.float()
        loss = functional.cross_entropy(frame_logits.transpose(1, 2), labels, label_smoothing=config.label_smoothing)
        if config.ctc_weight > 0 and self.progress >= config.ctc_from:
            loss = loss + config.ctc_weight * ctc_loss(logits.ctc.float(), labels)
        return loss, (frame_logits.detach().argmax(-1) == labels).float().mean()

    def measure(self) -> list[PhoneScore]:
        """Returns the averaged weights' score on each held-out corpus."""
        config = self.config
        return [
            measure_phones(
                self.average,
                SpeechCache(Path(config.cache) / name),
                self.average.geometry,
                config.measure_minutes,
                config.measure_block_frames,
                config.measure_left_context_frames,
            )
            for name in config.measure
        ]

    def save(self) -> None:
        """Writes the checkpoint, complete or not at all; only the main process does."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        partial = self.out / f"{CHECKPOINT}.partial"
        torch.save(state, partial)
        partial.replace(self.out / CHECKPOINT)

    def load(self) -> None:
        """Continues from the folder's checkpoint.

        Raises:
            ConfigError: there is none, or it is of another network.
        """
        path = self.out / CHECKPOINT
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            for optimiser, stored in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(stored)
        except FileNotFoundError as error:
            raise ConfigError(f"there is no {path} to resume; start without --resume") from error
        except (RuntimeError, KeyError, ValueError) as error:
            raise ConfigError(f"{path} does not fit this config ({error}); use its own --out") from error
        self.step, self.elapsed_s = int(state["step"]), float(state["elapsed_s"])

    def set_elapsed(self, elapsed_s: float) -> None:
        """Takes the main process's `elapsed_s` in all of them, so that they agree on the progress."""
        shared = broadcast(torch.tensor(elapsed_s, dtype=torch.float64, device=self.accelerator.device))
        self.elapsed_s = float(shared)

    def _set_learning_rate(self) -> None:
        warm = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.config.learning_rate * warm * (1 - self.progress)

    def _update_average(self) -> None:
        decay = min(self.config.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averages, values = list(self.average.state_dict().values()), list(self.model.state_dict().values())
            torch._foreach_lerp_(averages, values, 1 - decay)


def pretrain(
    config: PretrainConfig, out: Path, resume: bool = False, kind: type[Pretraining] = Pretraining
) -> list[PhoneScore]:
    """Trains to the end of `config`, writing `out`; returns the final scores on held-out speech.

    Args:
        config: the run.
        out: folder for the resolved config, checkpoint, logs and the exported encoder.
        resume: continue from `out`'s checkpoint.
        kind: what trains; its `config` is of the matching kind.

    Raises:
        ConfigError: impossible config, missing data, or nothing to resume.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = kind(config, out)
    if resume:
        run.load()
    try:
        return _finish(run) if run.accelerator.is_main_process else _help(run)
    finally:
        run.accelerator.end_training()


def _help(run: Pretraining) -> list[PhoneScore]:
    """Trains along with the main process, and waits for it: a helper that ends earlier would take it down."""
    _train(run, None)
    run.accelerator.wait_for_everyone()
    return []


def _finish(run: Pretraining) -> list[PhoneScore]:
    """Trains, measures and exports; returns the final scores."""
    config, out = run.config, run.out
    (out / "config.toml").write_text(to_toml(config), encoding="utf-8")
    with SummaryWriter(str(out / "log")) as writer:
        try:
            _train(run, writer)
        finally:  # Ctrl-C keeps what was learnt
            run.save()
        scores = _measure(run, writer)
    run.average.save(out / "encoder", has_ctc=config.ctc_weight > 0)
    run.accelerator.wait_for_everyone()
    return scores


def _train(run: Pretraining, writer: SummaryWriter | None) -> None:
    """Trains to the end; with a `writer`, as the main process has one, it shows, saves and measures on the way."""
    config, num_processes = run.config, run.accelerator.num_processes
    if run.progress >= 1:
        return
    ahead = 3 if config.workers else None
    batches = DataLoader(run.batches(), batch_size=None, num_workers=config.workers, prefetch_factor=ahead)
    if run.step == 0 and writer:
        _measure(run, writer)
    started, before = time.monotonic(), run.elapsed_s
    saved = measured = shown = run.elapsed_s
    shown_step, losses, accuracies = run.step, [], []
    for batch in batches:
        loss, accuracy = run.train_step(batch)
        run.set_elapsed(before + time.monotonic() - started)
        if run.progress >= 1:
            return
        if not writer:
            continue
        losses.append(loss)
        accuracies.append(accuracy)
        if run.step % config.show_every == 0:
            seconds = num_processes * (run.step - shown_step) * batch.labels.numel() * run.model.geometry.hop_s
            _show(run, writer, losses, accuracies, seconds / max(1e-9, run.elapsed_s - shown))
            shown, shown_step, losses, accuracies = run.elapsed_s, run.step, [], []
        if run.elapsed_s - saved > 60 * config.save_every_minutes:
            run.save()
            saved = run.elapsed_s
        if run.elapsed_s - measured > 60 * config.measure_every_minutes:
            _measure(run, writer)
            measured = shown = before + time.monotonic() - started
            shown_step, losses, accuracies = run.step, [], []


def _show(
    run: Pretraining, writer: SummaryWriter, losses: Sequence[float], accuracies: Sequence[float], speed: float
) -> None:
    loss, accuracy = sum(losses) / len(losses), sum(accuracies) / len(accuracies)
    rate = run.optimisers[0].param_groups[0]["lr"]
    shown = {"loss": loss, "frame_accuracy": accuracy, "learning_rate": rate, "times_real_time": speed}
    for name, value in shown.items():
        writer.add_scalar(f"train/{name}", value, run.step)
    logger.info(
        "step %d  %.1f min  loss %.3f  frames %.3f  lr %.2e  %.0f x real time",
        run.step, run.elapsed_s / 60, loss, accuracy, rate, speed,
    )  # fmt: skip


def _measure(run: Pretraining, writer: SummaryWriter) -> list[PhoneScore]:
    scores = run.measure()
    with (run.out / "scores.jsonl").open("a", encoding="utf-8") as log:
        for score in scores:
            row = {"step": run.step, "elapsed_min": round(run.elapsed_s / 60, 1), **score.as_dict()}
            log.write(json.dumps(row) + "\n")
            logger.info("%s", row)
            writer.add_scalar(f"{score.corpus}/frame_accuracy", score.frame_accuracy, run.step)
            writer.add_scalar(f"{score.corpus}/phone_error_rate", score.phone_error_rate, run.step)
            writer.add_scalar(f"{score.corpus}/ctc_phone_error_rate", score.ctc_phone_error_rate, run.step)
    return scores


def main(
    description: str | None = __doc__,
    kind: type[Pretraining] = Pretraining,
    config_kind: type[PretrainConfig] = PretrainConfig,
) -> None:
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores when not given")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # also in the background, where shells switch Ctrl-C off
        signal.signal(number, signal.default_int_handler)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = load_config(config_kind, arguments.config, arguments.overrides)
    try:
        pretrain(config, arguments.out, arguments.resume, kind)
    except KeyboardInterrupt:
        logger.info("interrupted; continue with --resume")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
