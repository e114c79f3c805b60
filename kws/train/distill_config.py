"""The settings of a distillation; `recipes/distill/config.toml` shows those that matter."""

from __future__ import annotations

from dataclasses import dataclass

from kws.config import check
from kws.train.pretrain_config import PretrainConfig

Paths = str | tuple[str, ...]


@dataclass(frozen=True)
class DistillConfig(PretrainConfig):
    """One distillation: a pretraining run with a teacher, for which speech needs no transcript.

    Attributes:
        cache: folder that `recipes/pretrain/prepare.py` wrote; only needed with `speech` or `measure`.
        speech: prepared corpora in it, whose phones are learnt beside; none needed.
        shares: share of the crops taken from each, in any unit.
        teacher: hub id or local folder of a wav2vec2, HuBERT or WavLM, or an encoder of this project.
        audio: folder, manifest or file of speech without labels, or several of them.
        audio_share: share of the crops taken from `audio`, in the unit of `shares`.
        held_out: speech, given like `audio`, on which student and teacher are compared.
        layers: the teacher's layers whose frames are learnt, 1 the lowest; none given: a third, two thirds and all of
            the way up, as DistilHuBERT.
        delay_frames: how many frames later than the teacher the student answers; the teacher hears the future.
        feature_weight: weight of the loss on the teacher's frames.
        logit_weight: weight of the loss on the teacher's output layer, where it has one.
        temperature: by which the logits are divided before they are compared.
        phone_weight: weight of pretraining's loss on the crops of `speech`.
    """

    cache: str = ""
    speech: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    teacher: str = ""
    audio: Paths = ()
    audio_share: float = 1.0
    held_out: Paths = ()
    layers: tuple[int, ...] = ()
    delay_frames: int = 0
    feature_weight: float = 1.0
    logit_weight: float = 1.0
    temperature: float = 2.0
    phone_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.teacher), "teacher", self.teacher, "a hub id such as facebook/wav2vec2-base-960h, or a folder")
        check(self.audio_share > 0, "audio_share", self.audio_share, "above 0")
        check(all(layer > 0 for layer in self.layers), "layers", self.layers, "numbers of layers, 1 the lowest")
        longest = self.batches.crop_frames - 1
        check(0 <= self.delay_frames < longest, "delay_frames", self.delay_frames, f"0 to {longest - 1}")
        for key in ("feature_weight", "logit_weight", "phone_weight"):
            check(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        has_loss = self.feature_weight > 0 or self.logit_weight > 0
        check(has_loss, "feature_weight", self.feature_weight, "above 0 where logit_weight is 0")
        check(self.temperature > 0, "temperature", self.temperature, "above 0")

    def check_speech(self) -> None:
        check(bool(self.audio or self.speech), "audio", self.audio, "a folder of speech; or give prepared `speech`")

    @property
    def has_idle_layer(self) -> bool:
        return True


def as_paths(paths: Paths) -> tuple[str, ...]:
    """Returns `paths` as a tuple, where one path was given alone."""
    return (paths,) if isinstance(paths, str) else paths
