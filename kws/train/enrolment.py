"""A wake word from a few recordings in seconds: clips ─▶ variants and cuts ─▶ windows ─▶ frames ─▶ head ─▶ artefact."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from kws.audio.io import write_audio
from kws.config import check, load_config, to_toml
from kws.data.cuts import own_voice
from kws.data.manifest import Clip, read_clips
from kws.data.mix import MixConfig, NoiseSource
from kws.data.pool import PoolConfig, Speaker, mouth, take_from_recording
from kws.data.synth import Split, draw_voice
from kws.data.synth.timbre import Timbres
from kws.data.text import normalize, random_sentence
from kws.data.windows import Window, WindowComposer, WindowConfig
from kws.errors import ConfigError, SynthesisError
from kws.frames import SAMPLE_RATE
from kws.model.artefact import WakeWord
from kws.model.encoder import Encoder
from kws.model.files import write_atomically
from kws.model.head import Head
from kws.model.pretrained import build_encoder
from kws.model.settings import TriggerConfig
from kws.train.bank_frames import BankConfig, RealSpeech, open_real_speech
from kws.train.enrolled import Enrolled, QuietFrames, calibrate_enrolled, card, describe
from kws.train.features import encode, end_frame, one_thread_per_operation
from kws.train.head_training import FrameSet, HeadTrainer, HeadTrainingConfig
from kws.train.losses import NEGATIVE
from kws.train.sounds import open_timbres, read_takes
from kws.train.start import CLIPS_FOLDER
from kws.train.wakeword import WakeWordConfig, slug

NUM_RECORDINGS = (1, 1000)
"""Fewest and most recordings that are taken."""
FEW_RECORDINGS = 3
"""Below this, enrolment says that the result will be poor."""
MANY_RECORDINGS = 10
"""Above this, everything there is of in `SETTINGS` grows with the number of recordings, up to `MOST_GROWTH` times."""
MOST_GROWTH = 8

CUTS_OF_A_TALKER = 2
PIECES = 2
"""Negatives are composed so many times as long as windows and cut: most speech is heard in the middle of other speech.

Measured: where every window begins with silence, misses at 2 false alarms an hour of people's speech are four times as
many (alexa, five recordings)."""
CHUNK_WINDOWS = 8

SETTINGS = WakeWordConfig(
    pool=PoolConfig(num_voices=30, num_validation_voices=12, phrases=1, confusables=0, sentences=3),
    windows=WindowConfig(duration_s=2.0, num_positives=160, num_negatives=160, confusable=0.3),
    training=HeadTrainingConfig(epochs=16, rounds=3, batch_size=64, learning_rate=6e-3),
    bank=BankConfig(num_windows=160),
    mix=MixConfig().with_recordings(),
    validation_windows=12,
    validation_window_s=10.0,
    false_alarms_per_hour=18.0,
    trigger=TriggerConfig(smoothing_frames=6),
)
"""What is changed from training: as much as ten seconds of two cores allow. `pool.phrases` is not used.

Made noise: with it, a hundred recordings of jarvis miss two thirds of what they miss without it at 10 dB. Eighteen
false alarms an hour of people's talk in noise without a pause, carried on from five minutes of it; longer smoothing
misses more of what was learned from few recordings: see recipes/wake-words."""

Progress = Callable[[str, int, int], None]


def enrol(
    name: str,
    clips: Sequence[Path | str],
    out: Path | str | None = None,
    *,
    phrase: str = "",
    config: WakeWordConfig | Path | str | None = None,
    overrides: Sequence[str] = (),
    keep_clips: bool = False,
    progress: Progress = lambda stage, done, total: None,
    warn: Callable[[str], object] = lambda message: None,
) -> Enrolled:
    """Makes a wake word from a few recordings of it, in any language, within seconds; returns what it wrote to `out`.

    Args:
        name: what detections are called.
        clips: recordings of the phrase, once in each; folders and `.jsonl` manifests too. Best three to ten.
        out: folder of the artefact; by default the name with underscores.
        phrase: the phrase as it is spoken, if it is English: it is then kept out of what must not fire.
        config: settings, or a TOML file of them, in place of `SETTINGS`.
        overrides: `"section.key=value"` changes to the settings.
        keep_clips: keep the recordings in the artefact's folder, for `train_wakeword(start_from=…)`.
        progress: called with (stage, done, total).
        warn: called with a message about each recording that is skipped or odd.

    Raises:
        AudioError: no usable recording.
        ConfigError: an impossible setting, no name, or too many recordings.
        EncoderError: the encoder can't be found.
        SynthesisError: no synthesiser for the speech that must not fire.
    """
    started = time.monotonic()
    settings = resolve_settings(name, config, overrides)
    recordings = _read_recordings(clips, warn)
    settings = settings if config else grown(settings, len(recordings))
    encoder = build_encoder(settings.encoder)
    rng = np.random.default_rng([settings.seed, 0])
    takes = [take_from_recording(waveform) for waveform in recordings.values()]
    own = [own_voice(take, rng) for take in takes]
    timbres = open_timbres(settings.pool)
    talkers = partial(_talkers, own, settings=settings, timbres=timbres, avoid=phrase or name, rng=rng)
    progress("mixing", 0, 1)
    real_speech = open_real_speech(phrase, encoder, settings.bank, settings.seed)
    data = _training_frames(encoder, own, talkers("train"), real_speech, settings)
    held_out = _held_out_frames(encoder, talkers, real_speech, settings)
    progress("mixing", 1, 1)
    head = _train_head(encoder, data, settings, partial(progress, "training"))
    with one_thread_per_operation():
        measured = calibrate_enrolled(head, data, held_out, settings, encoder.geometry.hop_s)
    out = Path(out or slug(name))
    wakeword = describe(head, encoder, settings, takes, timbres, measured, time.monotonic() - started)
    wakeword = real_speech.noted_in(wakeword)
    _write(out, wakeword, settings, recordings if keep_clips else {})
    return Enrolled(out, wakeword)


def resolve_settings(
    name: str, config: WakeWordConfig | Path | str | None = None, overrides: Sequence[str] = ()
) -> WakeWordConfig:
    """Returns the settings of an enrolment under `name`; raises ConfigError on what is impossible."""
    settings = load_config(WakeWordConfig, SETTINGS if config is None else config, overrides)
    name = normalize(name)
    if not name:
        raise ConfigError("the wake word has no name; give one, such as 'lumos'")
    check(settings.encoder.trainable_layers == 0, "encoder.trainable_layers", settings.encoder.trainable_layers, "0")
    return replace(settings, phrase=name)


def grown(settings: WakeWordConfig, num_recordings: int) -> WakeWordConfig:
    """Returns `settings` with more voices and windows where there are more recordings to learn from.

    The rate of false alarms falls by their third root: what learned from more fires more on people, for the same rate.
    """
    growth = min(MOST_GROWTH, max(1.0, num_recordings / MANY_RECORDINGS))
    pool, windows, bank = settings.pool, settings.windows, settings.bank
    return replace(
        settings,
        pool=replace(pool, num_voices=round(pool.num_voices * growth**0.5)),
        windows=replace(
            windows,
            num_positives=round(windows.num_positives * growth),
            num_negatives=round(windows.num_negatives * growth),
        ),
        bank=replace(bank, num_windows=round(bank.num_windows * growth)),
        false_alarms_per_hour=settings.false_alarms_per_hour / growth ** (1 / 3),
    )


def _read_recordings(clips: Sequence[Path | str], warn: Callable[[str], object]) -> dict[Path, np.ndarray]:
    found: list[Clip] = [clip for path in clips for clip in read_clips(path)]
    waveforms = read_takes(found, warn)
    fewest, most = NUM_RECORDINGS
    if not fewest <= len(waveforms) <= most:
        raise ConfigError(
            f"{len(waveforms)} recordings were given; enrolment takes {fewest} to {most}. "
            "With more, train with the typed phrase too: kws train PHRASE --positives FOLDER"
        )
    if len(waveforms) < FEW_RECORDINGS:
        warn(f"{len(waveforms)} recordings are few: expect misses and false alarms; record {FEW_RECORDINGS} to 10")
    return waveforms


def _talkers(
    own: list[Speaker],
    split: Split,
    *,
    settings: WakeWordConfig,
    timbres: Timbres | None,
    avoid: str,
    rng: np.random.Generator,
) -> list[Speaker]:
    """Returns synthetic speakers who say anything but the phrase, the user's cuts thrown in."""
    num_voices = settings.pool.num_voices if split == "train" else settings.pool.num_validation_voices
    cuts = [cut for speaker in own for cut in speaker.confusables]
    timbres = timbres.part(split) if timbres else None
    talkers: list[Speaker] = []
    for _ in range(2 * num_voices):
        voice = draw_voice(rng, split, config=settings.voices)
        try:
            say = mouth(voice, settings.pool, rng, timbres)
            texts = [random_sentence(rng, 2, 10, avoid=avoid) for _ in range(settings.pool.sentences)]
            sentences = [say(text, voice).waveform for text in texts]
        except SynthesisError:
            continue
        chosen = [cuts[int(rng.integers(len(cuts)))] for _ in range(CUTS_OF_A_TALKER)]
        talkers.append(Speaker([], chosen, sentences))
        if len(talkers) == num_voices:
            return talkers
    raise SynthesisError(f"only {len(talkers)} of {num_voices} voices could speak; reinstall espeakng-loader")


def _training_frames(
    encoder: Encoder, own: list[Speaker], talkers: list[Speaker], real_speech: RealSpeech, settings: WakeWordConfig
) -> FrameSet:
    composer = _composer([*own, *talkers], settings)
    positives = _frames(encoder, composer.positive, settings.windows.num_positives, settings.seed, 1)
    compose = partial(composer.negative, duration_s=PIECES * settings.windows.duration_s)
    longer = _frames(encoder, compose, -(-settings.windows.num_negatives // PIECES), settings.seed, 2).frames
    num_frames = positives.frames.shape[1]
    negatives = longer[:, : PIECES * num_frames].reshape(-1, num_frames, encoder.dim)
    if real_speech.training is not None:
        rng = np.random.default_rng([settings.seed, 4])
        spoken = real_speech.training.windows(settings.bank.num_windows, num_frames, rng)
        negatives = np.concatenate([negatives, spoken.frames])
    return FrameSet(
        np.concatenate([positives.frames, negatives]),
        np.concatenate([positives.end_frames, np.full(len(negatives), NEGATIVE, np.int64)]),
    )


def _held_out_frames(
    encoder: Encoder, talkers: Callable[[Split], list[Speaker]], real_speech: RealSpeech, settings: WakeWordConfig
) -> QuietFrames:
    """Returns the frames of speech by voices that training never heard: people in the bank, else synthetic ones."""
    if real_speech.held_out is not None and settings.bank.num_held_out:
        num_frames = encoder.geometry.num_frames(round(settings.validation_window_s * SAMPLE_RATE))
        rng = np.random.default_rng([settings.seed, 5])
        return QuietFrames(real_speech.held_out.windows(settings.bank.num_held_out, num_frames, rng).frames, True)
    settings = replace(settings, windows=replace(settings.windows, confusable=0.0))
    compose = partial(_composer(talkers("validation"), settings).negative, duration_s=settings.validation_window_s)
    return QuietFrames(_frames(encoder, compose, settings.validation_windows, settings.seed, 3).frames, False)


def _composer(speakers: list[Speaker], settings: WakeWordConfig) -> WindowComposer:
    noise = NoiseSource(settings.mix, [sentence for speaker in speakers for sentence in speaker.sentences])
    return WindowComposer(speakers, [], noise, settings.windows, settings.augment)


def _frames(
    encoder: Encoder, compose: Callable[[np.random.Generator], Window], num_windows: int, seed: int, stream: int
) -> FrameSet:
    """Returns `num_windows` windows of `compose`, encoded; the draws don't depend on the number of threads."""

    def make(start: int) -> FrameSet:
        rng = np.random.default_rng([seed, stream, start])
        windows = [compose(rng) for _ in range(min(CHUNK_WINDOWS, num_windows - start))]
        ends = [end_frame(window.end_sample, encoder.geometry) for window in windows]
        return FrameSet(encode(encoder, np.stack([window.waveform for window in windows])), np.array(ends, np.int64))

    with one_thread_per_operation() as num_workers, ThreadPoolExecutor(num_workers) as executor:
        parts = list(executor.map(make, range(0, num_windows, CHUNK_WINDOWS)))
    return FrameSet(
        np.concatenate([part.frames for part in parts]), np.concatenate([part.end_frames for part in parts])
    )


def _train_head(
    encoder: Encoder, data: FrameSet, settings: WakeWordConfig, progress: Callable[[int, int], None]
) -> Head:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = Head(encoder.dim, 1, settings.head, encoder.num_states)
    trainer = HeadTrainer(head, data, settings.training, settings.loss, encoder.geometry.hop_s, settings.seed)
    with one_thread_per_operation():
        trainer.run(progress)
    return head


def _write(out: Path, wakeword: WakeWord, settings: WakeWordConfig, kept: dict[Path, np.ndarray]) -> None:
    if kept:
        shutil.rmtree(out / CLIPS_FOLDER, ignore_errors=True)  # those of an earlier enrolment
    for number, waveform in enumerate(kept.values(), 1):
        write_audio(out / CLIPS_FOLDER / f"{slug(settings.phrase)}-{number:04d}.wav", waveform)
    write_atomically(out / "config.toml", to_toml(settings).encode())
    wakeword.save(out, card=card(wakeword))
