"""Trains a streaming encoder to hear what a larger encoder hears, on any speech; transcripts are not needed.

    python -m kws.train.distill --config recipes/distill/config.toml --out runs/distill/run audio=FOLDER [--resume]

audio ──▶ clean crops ──▶ teacher ─┐
      └─▶ spoiled crops ▶ student ─┴▶ loss ──▶ the loop of kws.train.pretrain ──▶ averaged weights, export
"""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import torch

from kws.config import check
from kws.train.distill_audio import UNLABELLED, AudioCorpus, SpoiledPair
from kws.train.distill_config import DistillConfig, as_paths
from kws.train.distill_model import Answers, Student, Teacher, aligned, feature_loss, logit_loss, nearness
from kws.train.phone_error import PhoneScore
from kws.train.phone_model import PhoneLogits, PhoneModel
from kws.train.pretrain import Pretraining, main
from kws.train.speech_batches import SpeechBatch, SpeechBatches
from kws.train.speech_cache import SpeechCache
from kws.train.spoil import Spoiler

logger = logging.getLogger(__name__)

TEACHER_SCORES = "teacher.jsonl"

HELD_OUT_BATCHES = 8
"""Batches of held-out speech on which student and teacher are compared."""


class Distillation(Pretraining):
    """One distillation in a folder; see `Pretraining`.

    Args:
        config: the run.
        out: folder for checkpoints, logs and the exported encoder.

    Raises:
        EncoderError: the teacher can't be had, or its frames are not the student's.
        ConfigError: nothing to learn from it.
    """

    config: DistillConfig
    model: Student
    average: Student

    def __init__(self, config: DistillConfig, out: Path) -> None:
        self.teacher = Teacher(config.teacher, config.layers)
        super().__init__(config, out)
        self.teacher.to(self.accelerator.device)
        self._held_out = AudioCorpus(as_paths(config.held_out)) if config.held_out else None

    def make_model(self) -> Student:
        config, has_labels = self.config, self.teacher.output_layer is not None
        has_loss = config.feature_weight > 0 or has_labels
        check(has_loss, "feature_weight", config.feature_weight, "above 0, as the teacher has no output layer")
        phones = PhoneModel.from_folder(config.initial, config.random_initial)
        self.teacher.check_fits(phones.geometry)
        return Student(phones, self.teacher, has_phones=bool(config.speech))

    def corpora(self) -> list[tuple[SpeechCache, float]]:
        corpora = super().corpora()
        if self.config.audio:
            audio = AudioCorpus(as_paths(self.config.audio))
            logger.info("%s: %d recordings, %.1f h", audio.name, len(audio.rows), audio.hours)
            corpora.append((audio, self.config.audio_share))
        return corpora

    def spoiler(self) -> Spoiler:
        return SpoiledPair(super().spoiler())

    def loss(self, batch: SpeechBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the loss of `batch`, whose waveforms are (batch, 2, num_samples), and how near the teacher is."""
        config, device = self.config, self.accelerator.device
        clean, spoiled = batch.waveforms.to(device).unbind(dim=1)
        targets = self.teacher.hear(clean)
        answers: Answers = self.parallel_model(spoiled, batch.block_frames, batch.left_context_frames)
        delay, pairs = config.delay_frames, list(zip(answers.features, targets.features))
        distances = [feature_loss(*aligned(answer, target, delay)) for answer, target in pairs]
        loss = config.feature_weight * torch.stack(distances).mean()
        if answers.logits is not None and targets.logits is not None:
            logits = aligned(answers.logits, targets.logits, delay)
            loss = loss + config.logit_weight * logit_loss(*logits, config.temperature)
        labels = batch.labels.to(device)
        is_known = (labels != UNLABELLED).all(dim=1)  # a crop is of one corpus
        if is_known.any():
            phones = PhoneLogits(*(logits[is_known] for logits in answers.phones))
            loss = loss + config.phone_weight * self.phone_loss(phones, labels[is_known])[0]
        return loss, nearness(answers, targets, delay)["agreement" if targets.logits is not None else "cosine"]

    def measure(self) -> list[PhoneScore]:
        """Returns the averaged weights' score on each held-out corpus; how near the teacher they are goes to a file."""
        if self._held_out is not None:
            score = {name: round(value, 4) for name, value in self.compare(self._held_out).items()}
            row = {"step": self.step, "corpus": self._held_out.name, **score}
            logger.info("%s", row)
            with (self.out / TEACHER_SCORES).open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
        return super().measure()

    @torch.no_grad()
    def compare(self, corpus: SpeechCache) -> dict[str, float]:
        """Returns how near the averaged student is to the teacher on clean crops of `corpus`, the same at any time."""
        config, device = self.config, self.accelerator.device
        block, left = config.measure_block_frames, config.measure_left_context_frames
        settings = dataclasses.replace(config.batches, speed_probability=0.0)
        batches = SpeechBatches([(corpus, 1.0)], self.model.geometry, settings)
        found = []
        for step in range(HELD_OUT_BATCHES):
            waveforms = batches.batch(step).waveforms.to(device)
            answers = self.average.answer(waveforms, block, left)
            found.append(nearness(answers, self.teacher.hear(waveforms), config.delay_frames))
        return {name: float(sum(score[name] for score in found) / len(found)) for name in found[0]}


if __name__ == "__main__":
    main(__doc__, Distillation, DistillConfig)
