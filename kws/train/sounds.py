"""What a run is made from: synthesised speakers and the user's recordings, split into training and validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from kws.audio.io import read_batch
from kws.audio.quality import SILENCE_DB, measure_speech
from kws.data.cuts import own_voice
from kws.data.manifest import Clip, read_clips, split_by_speaker
from kws.data.pool import PoolConfig, Speaker, speak_pool, take_from_recording
from kws.data.synth import Split, VoiceConfig
from kws.data.synth.timbre import TIMBRES_FILE, Timbres, read_timbres
from kws.model.files import pretrained_folder

VALIDATION_SHARE = 0.2
"""Share of the user's recordings kept out of training; speakers and files never cross."""

TIMBRES_FOLDER = "timbres"
"""In `pretrained/`."""

MOST_LENGTH = 1.9
"""How many times as long as the shorter ones, a quarter of them, a recording of the phrase may sound.

A quarter of a hundred crowd-sourced recordings of alexa hold other sound: see recipes/wake-words.
"""
MIN_HELD_OUT = 10
"""With fewer recordings of the phrase than this, all of them are trained on."""


@dataclass
class Sounds:
    """The sounds of one split, each waveform (num_samples,) float32, 16 kHz.

    Attributes:
        speakers: synthesised speakers, then one speaker for each recording of the phrase.
        background: recordings of other speech.
        noises: files of recorded noise.
        rirs: room impulse responses.
        num_recorded: recordings of the phrase among `speakers`.
        timbres: of real people, that were given to synthetic voices; None without.
    """

    speakers: list[Speaker] = field(default_factory=list)
    background: list[np.ndarray] = field(default_factory=list)
    noises: list[Path] = field(default_factory=list)
    rirs: list[np.ndarray] = field(default_factory=list)
    num_recorded: int = 0
    timbres: Timbres | None = None


@dataclass(frozen=True)
class Folders:
    """Where the user's recordings are; None where he has none.

    Attributes:
        positives: of the phrase.
        negatives: of other speech.
        noise: of noise.
        rir: of rooms.
        learned: of the phrase, which the head that training starts from has learned: never held out.
    """

    positives: Path | str | None = None
    negatives: Path | str | None = None
    noise: Path | str | None = None
    rir: Path | str | None = None
    learned: Path | str | None = None


def gather_sounds(
    phrase: str,
    folders: Folders,
    pool: PoolConfig,
    voices: VoiceConfig,
    seed: int,
    progress: Callable[[str, int, int], None],
    warn: Callable[[str], object],
) -> tuple[Sounds, Sounds]:
    """Returns the sounds of training and of validation.

    Raises:
        AudioError: a folder without usable audio.
        SynthesisError: no synthesiser, or the phrase can't be spoken.
    """
    training, validation = Sounds(), Sounds()
    splits: tuple[tuple[Sounds, Split, int], ...] = (
        (training, "train", pool.num_voices),
        (validation, "validation", pool.num_validation_voices),
    )
    timbres = open_timbres(pool)
    for stream, (sounds, split, num_voices) in enumerate(splits):
        rng = np.random.default_rng([seed, stream])
        report = partial(progress, f"speaking ({split} voices)")
        sounds.timbres = timbres.part(split) if timbres else None
        sounds.speakers = speak_pool(
            phrase, num_voices, split, pool, voices, rng, progress=report, timbres=sounds.timbres
        )
    rng = np.random.default_rng([seed, 2])
    if folders.negatives is not None:
        training.background, validation.background = _read_split(folders.negatives, rng, warn)
    if folders.rir is not None:
        training.rirs, validation.rirs = _read_split(folders.rir, rng, warn)
    if folders.noise is not None:
        training.noises, validation.noises = (
            [clip.path for clip in part] for part in _split(read_clips(folders.noise), rng)
        )
    learned = [] if folders.learned is None else list(read_takes(read_clips(folders.learned), warn).values())
    held_in: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    if folders.positives is not None:
        known = {waveform.tobytes() for waveform in learned}
        parts = _read_split(folders.positives, rng, warn, MIN_HELD_OUT, read_takes)
        held_in, held_out = ([clip for clip in part if clip.tobytes() not in known] for part in parts)
    training.speakers += [own_voice(take_from_recording(waveform), rng) for waveform in learned + held_in]
    validation.speakers += [Speaker([take_from_recording(waveform)], [], []) for waveform in held_out]
    training.num_recorded, validation.num_recorded = len(learned + held_in), len(held_out)
    return training, validation


def open_timbres(pool: PoolConfig) -> Timbres | None:
    """Returns the timbres that come with the package, None where there are none or they are not to be used.

    Raises:
        ConfigError: the file is damaged.
    """
    path = pretrained_folder() / TIMBRES_FOLDER / TIMBRES_FILE
    return read_timbres(path) if pool.timbre_share and path.is_file() else None


def _split(clips: list[Clip], rng: np.random.Generator, min_held_out: int = 2) -> tuple[list[Clip], list[Clip]]:
    if len(clips) < min_held_out or len({clip.speaker or clip.path for clip in clips}) < 2:
        return clips, []
    return split_by_speaker(clips, VALIDATION_SHARE, rng)


def read_takes(clips: list[Clip], warn: Callable[[str], object]) -> dict[Path, np.ndarray]:
    """Returns the recordings of a phrase among `clips` that can be read, by path, but for those that last too long.

    Where one is loud for far longer than the others, something else is in it, and nothing tells where the phrase ends.

    Args:
        clips: recordings, the phrase once in each.
        warn: called with a line for each that is skipped, and for each fault of the others, with the measured value.

    Raises:
        AudioError: not one can be read.
    """
    waveforms = _read(clips, warn)
    levels = {path: measure_speech(waveform) for path, waveform in waveforms.items()}
    lengths_s = [level.end_s - level.start_s for level in levels.values() if level.speech_db >= SILENCE_DB]
    usual_s = float(np.quantile(lengths_s, 0.25)) if lengths_s else np.inf
    kept = {}
    for path, level in levels.items():
        for problem in level.problems() if level.speech_db >= SILENCE_DB else []:
            warn(f"{path}: {problem}")
        length_s = level.end_s - level.start_s
        if length_s > MOST_LENGTH * usual_s:
            others = f"where short ones take {usual_s:.1f} s"
            warn(f"{path}: left out, as it sounds for {length_s:.1f} s {others}; cut off what is not the phrase")
        else:
            kept[path] = waveforms[path]
    return kept


def _read(clips: list[Clip], warn: Callable[[str], object]) -> dict[Path, np.ndarray]:
    return dict(read_batch([clip.path for clip in clips], warn))


def _read_split(
    source: Path | str,
    rng: np.random.Generator,
    warn: Callable[[str], object],
    min_held_out: int = 2,
    read: Callable[[list[Clip], Callable[[str], object]], dict[Path, np.ndarray]] = _read,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    held_in, held_out = _split(read_clips(source), rng, min_held_out)
    waveforms = read(held_in + held_out, warn)
    training, validation = (
        [waveforms[clip.path] for clip in part if clip.path in waveforms] for part in (held_in, held_out)
    )
    return training, validation
