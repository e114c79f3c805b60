"""What wake words are measured on: positives, noises and negatives read once ─▶ the scores of any detector on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from kws.audio.io import read_audio
from kws.config import check
from kws.data.manifest import Clip, read_clips
from kws.detect.detector import Detector
from kws.evaluate.protocol import (
    Condition,
    NegativeScores,
    read_talk,
    readable,
    score_negatives,
    score_positives,
)

CLEAN, AFTER_TALK = "clean", "after talk"
SNRS_DB = (10.0, 5.0)
"""Noise over the phrase beside clean, in dB, as DESIGN.md's protocol has it."""
ADULT_AGE = 13
CHILDREN, ADULTS, AGE_UNKNOWN = "children", "adults", "age unknown"

Warn = Callable[[str], object]
StageProgress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Material:
    """Recordings that detectors are measured and compared on; every detector hears the same noise over them.

    Attributes:
        positives: recordings of the phrase, one each.
        negatives: audio without it by the name of its source; children apart where a manifest tells ages.
        conditions: what the positives are heard in, by name.
        seed: of the draws of noise and talk.
        groups: indices into `positives` by age group; empty where no age is known.
        skipped: a message for each recording that can't be read.
    """

    positives: Sequence[Clip]
    negatives: Mapping[str, Sequence[Clip]]
    conditions: Mapping[str, Condition]
    seed: int = 0
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def positive(self, index: int, condition: str) -> np.ndarray:
        """Returns positive `index` as every detector hears it in `condition`: (num_samples,) with its background."""
        surroundings, generator = self.conditions[condition], np.random.default_rng([self.seed, index])
        heard = surroundings.around(read_audio(self.positives[index].path), generator)  # as `score_positives` draws
        return heard[surroundings.lead_samples :]


@dataclass(frozen=True)
class Scores:
    """Scores of one detector: of each positive by condition, (num_frames, num_keywords), and of the negatives."""

    positives: Mapping[str, Sequence[np.ndarray]]
    negatives: Sequence[NegativeScores]


def read_material(
    positives: Path,
    negatives: Sequence[Path],
    noise: Path | None = None,
    snrs_db: Sequence[float] = SNRS_DB,
    seed: int = 0,
    warn: Warn = lambda message: None,
) -> Material:
    """Returns the recordings in folders or `.jsonl` manifests.

    Args:
        positives: recordings of the phrase, one each.
        negatives: audio without it.
        noise: recordings of noise.
        snrs_db: conditions beside clean and after some of the negatives.
        seed: of the draws of noise and talk.
        warn: called with a message about each positive that is skipped or odd.

    Raises:
        AudioError: a path that doesn't exist, or positives of which none can be read.
        ConfigError: a bad line in a manifest, a ratio that is no ratio, or a negative seed.
    """
    for snr_db in snrs_db:
        check(-30 <= snr_db <= 80, "--snr", snr_db, "-30 to 80 dB")
    check(seed >= 0, "--seed", seed, "0 or more")
    sources = {name: clips for path in negatives for name, clips in _by_age(str(path), path, read_clips(path)).items()}
    noises = read_clips(noise) if noise is not None else []
    clips, skipped = readable(read_clips(positives), warn)
    ages = [_group(age) for age in _ages(positives, clips)]
    groups = {name: [index for index, age in enumerate(ages) if age == name] for name in dict.fromkeys(ages)}
    talk = [clip for source in sources.values() for clip in source]
    conditions = conditions_of(read_talk(talk, seed), noises, snrs_db)
    return Material(clips, sources, conditions, seed, {} if set(groups) == {AGE_UNKNOWN} else groups, skipped)


def conditions_of(talk: Sequence[np.ndarray], noises: Sequence[Clip], snrs_db: Sequence[float]) -> dict[str, Condition]:
    """Returns the conditions of the protocol by name: clean, after `talk` if any, in `noises` at each of `snrs_db`."""
    after_talk = {AFTER_TALK: Condition(talk=talk)} if talk else {}
    in_noise = {f"{snr_db:g} dB": Condition(snr_db, noises) for snr_db in snrs_db}
    return {CLEAN: Condition()} | after_talk | in_noise


def score(
    detector: Detector,
    material: Material,
    progress: StageProgress = lambda stage, done, total: None,
    warn: Warn = lambda message: None,
    label: str = "",
) -> Scores:
    """Returns the scores of `detector` on `material`.

    Args:
        detector: what listens.
        material: what is heard.
        progress: called with (stage, done, total).
        warn: called with a message about each recording that is skipped; `material.skipped` gathers them.
        label: put before the stages' names.
    """

    def skip(message: str) -> None:
        if message not in material.skipped:
            material.skipped.append(message)
            warn(f"skipped: {message}")

    positives = {}
    for name, condition in material.conditions.items():
        report = partial(progress, f"{label}phrase, {name}")
        positives[name] = score_positives(detector, material.positives, condition, material.seed, report)
    negatives = [
        score_negatives(detector, name, clips, partial(progress, f"{label}{name}"), skip)
        for name, clips in material.negatives.items()
    ]
    return Scores(positives, negatives)


def _by_age(name: str, path: Path, clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    groups: dict[str, list[Clip]] = {}
    for clip, age in zip(clips, _ages(path, clips)):
        groups.setdefault(_group(age), []).append(clip)
    return {name: list(clips)} if len(groups) == 1 else {f"{name}, {group}": part for group, part in groups.items()}


def _ages(path: Path, clips: Sequence[Clip]) -> list[float | None]:
    """Returns the age of each clip, where its line in the manifest at `path` tells one."""
    if path.suffix != ".jsonl":
        return [None] * len(clips)
    lines = map(json.loads, filter(str.strip, path.read_text(encoding="utf-8").splitlines()))
    ages = {path.parent / fields["audio_filepath"]: fields.get("age") for fields in lines}
    return [age if isinstance(age, int | float) else None for age in (ages[clip.path] for clip in clips)]


def _group(age: float | None) -> str:
    if age is None:
        return AGE_UNKNOWN
    return CHILDREN if age < ADULT_AGE else ADULTS
