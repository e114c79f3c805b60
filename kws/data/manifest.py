"""Lists of recordings: `<split>.jsonl` manifests or plain folders ──▶ clips, and splits that no speaker crosses."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.io import find_audio
from kws.config import check
from kws.errors import AudioError, ConfigError

_TEXT_FIELDS = ("text", "speaker", "label")
_STRING_FIELDS = ("audio_filepath", *_TEXT_FIELDS)


@dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
        path: the audio file.
        duration_s: its length in seconds, where the manifest tells.
        text: what is said, where known.
        speaker: who says it, where known.
        label: its class, where known.
    """

    path: Path
    duration_s: float | None = None
    text: str | None = None
    speaker: str | None = None
    label: str | None = None


def read_clips(path: Path | str) -> list[Clip]:
    """Returns the clips of a `.jsonl` manifest, of a folder of audio searched to any depth, or of one audio file.

    Raises:
        AudioError: a path that doesn't exist, or no clips in it.
        ConfigError: a bad line in the manifest, by file and line.
    """
    path = Path(path)
    clips = read_manifest(path) if path.suffix == ".jsonl" else [Clip(file) for file in find_audio([path])]
    if not clips:
        raise AudioError(f"no recordings in {path}; name a folder of audio files or a .jsonl manifest with lines in it")
    return clips


def read_manifest(path: Path | str) -> list[Clip]:
    """Returns the clips of the manifest at `path`, one JSON object a line; unknown fields are left aside.

    Fields: `audio_filepath` (relative to the manifest's folder), and optionally `duration` in seconds, `text`,
    `speaker` and `label`. The audio files themselves aren't opened.

    Raises:
        AudioError: a manifest that can't be read.
        ConfigError: a bad line, by file and line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise AudioError(f"can't read the manifest {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error}); a manifest has one JSON object a line") from error
    return [_clip(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]


def split_by_speaker(clips: Sequence[Clip], fraction: float, rng: np.random.Generator) -> tuple[list[Clip], list[Clip]]:
    """Returns (the rest, about `fraction` of the clips); a speaker's clips stay together, and both keep their order.

    Speakers are drawn at random until they hold `fraction` of the clips; at least one speaker is on each side. A clip
    without a speaker counts as a speaker of its own.

    Raises:
        ConfigError: a fraction outside 0..1, or fewer than two speakers.
    """
    check(0 < fraction < 1, "fraction", fraction, "between 0 and 1, both excluded")
    groups: dict[object, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        groups[("clip", index) if clip.speaker is None else clip.speaker].append(index)
    if len(groups) < 2:
        raise ConfigError(f"{len(groups)} speaker(s) can't be split in two; add clips of another speaker")
    order = [list(groups.values())[position] for position in rng.permutation(len(groups))]
    drawn: set[int] = set()
    for indices in order[:-1]:
        drawn.update(indices)
        if len(drawn) >= fraction * len(clips):
            break
    rest = [clip for index, clip in enumerate(clips) if index not in drawn]
    return rest, [clip for index, clip in enumerate(clips) if index in drawn]


def _clip(line: str, manifest: Path, number: int) -> Clip:
    where = f"{manifest}, line {number}"
    try:
        fields: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON ({error}); each line must be one JSON object") from error
    if not isinstance(fields, dict) or not fields.get("audio_filepath"):
        raise ConfigError(f"{where}: no 'audio_filepath'; each line must be a JSON object with the path of a recording")
    for key in _STRING_FIELDS:
        if not isinstance(fields.get(key), str | None):
            raise ConfigError(f"{where}: {key} = {fields[key]!r} must be a string")
    duration_s = fields.get("duration")
    is_number = isinstance(duration_s, int | float) and not isinstance(duration_s, bool)
    if duration_s is not None and not (is_number and 0 < duration_s < float("inf")):
        raise ConfigError(f"{where}: duration = {duration_s!r} must be a positive number of seconds")
    path = manifest.parent / fields["audio_filepath"]
    return Clip(path, None if duration_s is None else float(duration_s), *(fields.get(key) for key in _TEXT_FIELDS))
