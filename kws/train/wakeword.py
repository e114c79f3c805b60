"""Training a wake word: phrase ─▶ speakers ─▶ windows ─▶ encoder frames (cached) ─▶ head ─▶ threshold ─▶ artefact."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from kws.config import check, load_config, to_toml
from kws.data.augment import AugmentConfig
from kws.data.mix import MixConfig, NoiseSource
from kws.data.pool import PoolConfig
from kws.data.synth import VoiceConfig
from kws.data.text import normalize
from kws.data.windows import WindowComposer, WindowConfig
from kws.errors import ConfigError
from kws.evaluate.report import Report
from kws.model.artefact import load_wakeword
from kws.model.encoder import Encoder
from kws.model.files import write_atomically
from kws.model.head import Head
from kws.model.settings import EncoderConfig, HeadConfig, TriggerConfig
from kws.train.bank_frames import BankConfig, RealSpeech, open_real_speech
from kws.train.calibration import HeldOut, calibrate
from kws.train.features import FeatureMaker, concatenate, one_thread_per_operation
from kws.train.head_training import FrameSet, HeadTrainer, HeadTrainingConfig
from kws.train.losses import LossConfig
from kws.train.result import TrainedWakeWord, assemble, write_result
from kws.train.sounds import Folders, Sounds, gather_sounds
from kws.train.spliced import add_spliced, noted_in
from kws.train.start import StartingPoint, open_start
from kws.train.transfer.fine_tuning import FineTuned, fine_tune
from kws.train.transfer.modes import TransferConfig, open_encoder

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and their number."""

CONFIG_FILE = "config.toml"
WORK_FOLDER = ".work"
KINDS = ("positives", "negatives")
RECORDED_RATE = 0.375
"""Share of the rate of false alarms that is aimed at with recordings of the phrase."""


@dataclass(frozen=True)
class WakeWordConfig:
    """Everything that decides a training run; saved beside the artefact, it reproduces the run.

    Attributes:
        phrase: the wake word as it is spoken.
        seed: of every random draw.
        false_alarms_per_hour: rate on held-out audio that the threshold is chosen for, by `calibration.tail_level`.
            Most of it is synthetic speech, bent and in noise without a pause, which fires far more often than people's
            talk; three eighths of the rate with recordings of the phrase, as a head that knows people fires on people:
            see recipes/wake-words.
        validation_windows: held-out pieces of audio without the phrase, of `validation_window_s` each.
        validation_window_s: their length, in seconds.
        validation_positives: held-out windows with the phrase.
    """

    phrase: str = ""
    seed: int = 0
    false_alarms_per_hour: float = 96.0
    validation_windows: int = 90
    validation_window_s: float = 20.0
    validation_positives: int = 200
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    trigger: TriggerConfig = field(default_factory=TriggerConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    voices: VoiceConfig = field(default_factory=VoiceConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: HeadTrainingConfig = field(default_factory=HeadTrainingConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)

    def __post_init__(self) -> None:
        rate = self.false_alarms_per_hour
        check(0 < rate <= 1000, "false_alarms_per_hour", rate, "above 0, up to 1000")
        for name in ("validation_windows", "validation_positives"):
            check(1 <= getattr(self, name) <= 1_000_000, name, getattr(self, name), "1 to 1000000")
        check(1 <= self.validation_window_s <= 60, "validation_window_s", self.validation_window_s, "1 to 60 seconds")
        check(self.seed >= 0, "seed", self.seed, "0 or more")


def train_wakeword(
    phrase: str,
    out: Path | str | None = None,
    *,
    positives: Path | str | None = None,
    negatives: Path | str | None = None,
    noise: Path | str | None = None,
    rir: Path | str | None = None,
    config: WakeWordConfig | Path | str | None = None,
    overrides: Sequence[str] = (),
    start_from: Path | str | None = None,
    is_fresh: bool = False,
    progress: Progress = lambda stage, done, total: None,
    warn: Callable[[str], object] = lambda message: None,
) -> TrainedWakeWord:
    """Makes a wake word from the typed `phrase`, and better with recordings; returns what it wrote to `out`.

    Interrupted, the same call goes on where it was, unless `is_fresh`.

    Args:
        phrase: the wake word, written as it is spoken, such as "hey computer".
        out: folder of the artefact; by default the phrase with underscores, in the working directory.
        positives: folder or manifest of recordings of the phrase, one a file.
        negatives: folder or manifest of recordings without it.
        noise: folder or manifest of noises.
        rir: folder or manifest of room impulse responses.
        config: settings, or a TOML file of them.
        overrides: `"section.key=value"` changes to the config.
        start_from: an artefact on the same encoder whose head is trained on, and keeps its size; recordings kept in it
            are used again.
        is_fresh: start over, even if an interrupted run could go on.
        progress: called with (stage, done, total).
        warn: called with a message about each recording that is skipped or odd.

    Raises:
        ConfigError: an impossible setting, or a phrase without words.
        SynthesisError: no synthesiser, or the phrase can't be spoken.
        AudioError: a folder without usable audio.
        EncoderError: the encoder can't be found.
        ArtefactError: `start_from` can't be read, was made on another encoder, or has another head than was asked for.
    """
    settings = resolve_config(phrase, config, overrides)
    encoder = open_encoder(settings.encoder, settings.transfer, settings.seed)
    start = open_start(start_from, encoder)
    settings = replace(settings, head=start.fitted(settings.head))
    folders = Folders(positives, negatives, noise, rir, start.clips)
    out = Path(out or slug(phrase))
    work = _open_work_folder(out, settings, folders, start, is_fresh)
    started = time.monotonic()
    sounds = gather_sounds(settings.phrase, folders, settings.pool, settings.voices, settings.seed, progress, warn)
    if sounds[0].num_recorded:
        settings = replace(settings, mix=settings.mix.with_recordings())
    num_spliced = _add_spliced(sounds, settings, progress)
    real_speech = open_real_speech(settings.phrase, encoder, settings.bank, settings.seed)
    own_encoder = None
    if encoder.is_frozen:
        data = _training_frames(FeatureMaker(encoder, work, settings.seed), sounds[0], settings, progress)
        data = real_speech.joined_to_training(data, work, partial(progress, "adding real speech"))
        head, losses = _train_head(encoder, data, settings, start, work, progress)
    else:
        tuned = _fine_tune(encoder, sounds[0], settings, start, real_speech, work, progress)
        encoder, head, losses = tuned.encoder, tuned.head, tuned.losses
        real_speech, own_encoder = tuned.real_speech, tuned.folder
    held_out = _held_out_frames(FeatureMaker(encoder, work, settings.seed), sounds[1], settings, progress)
    held_out = real_speech.joined_to_held_out(held_out, work, partial(progress, "adding held-out real speech"))
    with one_thread_per_operation():
        rate = settings.false_alarms_per_hour * (RECORDED_RATE if sounds[0].num_recorded else 1.0)
        calibrated = calibrate(head, held_out, settings.trigger, encoder.geometry.hop_s, rate)
    wakeword = assemble(head, encoder, settings, sounds, calibrated, time.monotonic() - started)
    wakeword = start.noted_in(real_speech.noted_in(noted_in(wakeword, num_spliced)))
    hop_s, threshold = encoder.geometry.hop_s, settings.trigger.threshold
    report = Report(settings.phrase, calibrated.points, calibrated.traces, hop_s, losses, threshold)
    write_result(out, replace(wakeword, encoder_folder=own_encoder), to_toml(settings), report)
    shutil.rmtree(work)
    return TrainedWakeWord(out, load_wakeword(out), calibrated)


def resolve_config(
    phrase: str, config: WakeWordConfig | Path | str | None = None, overrides: Sequence[str] = ()
) -> WakeWordConfig:
    """Returns the settings of a run for `phrase`; raises ConfigError on what is impossible."""
    settings = load_config(WakeWordConfig, config, overrides)
    words = normalize(phrase or settings.phrase)
    if not words:
        raise ConfigError(f"the phrase {phrase!r} has no words; write it as it is spoken, such as 'hey computer'")
    return replace(settings, phrase=words)


def slug(phrase: str) -> str:
    """Returns `phrase` as a folder name."""
    return re.sub(r"\W+", "_", normalize(phrase)).strip("_")


def _open_work_folder(
    out: Path, settings: WakeWordConfig, folders: Folders, start: StartingPoint, is_fresh: bool
) -> Path:
    """Returns the folder of a run that may go on: emptied if it was another run's."""
    work = out / WORK_FOLDER
    sources = {**vars(folders), **({"start": start.sha256} if start.sha256 else {})}
    identity = to_toml(settings) + "".join(f"# {name}: {value}\n" for name, value in sources.items())
    path = work / CONFIG_FILE
    if is_fresh or not path.is_file() or path.read_text(encoding="utf-8") != identity:
        shutil.rmtree(work, ignore_errors=True)
        write_atomically(path, identity.encode())
    return work


def _add_spliced(sounds: tuple[Sounds, Sounds], settings: WakeWordConfig, progress: Progress) -> tuple[int, int]:
    bank, pool = settings.bank, settings.pool
    if not bank.speech:
        return 0, 0
    return add_spliced(sounds, settings.phrase, bank.speech, bank.num_spliced, pool, settings.seed, progress)


def _composer(sounds: Sounds, settings: WakeWordConfig) -> WindowComposer:
    babble = [sentence for speaker in sounds.speakers for sentence in speaker.sentences] + sounds.background
    noise = NoiseSource(settings.mix, babble, sounds.noises)
    return WindowComposer(sounds.speakers, sounds.background, noise, settings.windows, settings.augment, sounds.rirs)


def _training_frames(maker: FeatureMaker, sounds: Sounds, settings: WakeWordConfig, progress: Progress) -> FrameSet:
    composer, windows = _composer(sounds, settings), settings.windows
    positives = maker.frames(
        "positives", 0, windows.num_positives, composer.positive, partial(progress, "mixing positives")
    )
    negatives = maker.frames(
        "negatives", 1, windows.num_negatives, composer.negative, partial(progress, "mixing negatives")
    )
    return concatenate(positives, negatives)


def _held_out_frames(maker: FeatureMaker, sounds: Sounds, settings: WakeWordConfig, progress: Progress) -> HeldOut:
    """Encodes what the threshold is chosen on, without near misses: in a room they are far rarer than in training."""
    settings = replace(settings, windows=replace(settings.windows, confusable=0.0))
    composer = _composer(sounds, settings)
    compose_negative = partial(composer.negative, duration_s=settings.validation_window_s)
    report_positives, report_negatives = (partial(progress, f"mixing held-out {kind}") for kind in KINDS)
    return HeldOut(
        maker.frames("held-out-positives", 2, settings.validation_positives, composer.positive, report_positives),
        maker.frames("held-out-negatives", 3, settings.validation_windows, compose_negative, report_negatives),
    )


def _fine_tune(
    encoder: Encoder,
    sounds: Sounds,
    settings: WakeWordConfig,
    start: StartingPoint,
    real_speech: RealSpeech,
    work: Path,
    progress: Progress,
) -> FineTuned:
    composer, report, seed = _composer(sounds, settings), partial(progress, "training"), settings.seed
    transfer, head, loss = settings.transfer, settings.head, settings.loss
    return fine_tune(encoder, composer, transfer, head, loss, start, real_speech, seed, work, report)


def _train_head(
    encoder: Encoder, data: FrameSet, settings: WakeWordConfig, start: StartingPoint, work: Path, progress: Progress
) -> tuple[Head, list[float]]:
    generator_state = torch.get_rng_state()
    torch.manual_seed(settings.seed)
    head = Head(encoder.dim, 1, settings.head, encoder.num_states)
    torch.set_rng_state(generator_state)
    start.load_into(head)
    hop_s = encoder.geometry.hop_s
    trainer = HeadTrainer(head, data, settings.training, settings.loss, hop_s, settings.seed, work / "head.ckpt")
    with one_thread_per_operation():
        return head, trainer.run(partial(progress, "training"))
