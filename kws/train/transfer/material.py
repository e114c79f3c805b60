"""What a transfer study learns from and is tested on: folders and manifests ─▶ pieces by label, split for good."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio.io import find_audio
from kws.data.manifest import Clip, read_clips, read_manifest, split_by_speaker
from kws.errors import AudioError, ConfigError

OTHER = "_other_"
"""Label of audio that doesn't hold the word."""
UNKNOWN, SILENCE = "_unknown_", "_silence_"
BACKGROUND_FOLDER = "_background_noise_"
TEST_LIST, VALIDATION_LIST = "testing_list.txt", "validation_list.txt"
"""Of Speech Commands: the files not to learn from, one a line; the first are tested on. Source: Warden 2018,
arXiv:1804.03209."""
SPEAKER_MARK = "_nohash_"
"""Before it, in the file names of Speech Commands, stands the speaker."""
TRAIN_MANIFESTS = ("train.jsonl", "enrol.jsonl")
TEST_MANIFESTS = ("test.jsonl", "dev.jsonl")
TEST_SHARE = 0.3
"""Of recordings that come without a split."""


@dataclass(frozen=True)
class Piece:
    """A clip, or a place in a longer recording.

    Attributes:
        path: the recording.
        label: index of its label.
        position: where in the recording the window lies, 0 to 1; None for a clip, around its loudest part.
    """

    path: Path
    label: int
    position: float | None = None


@dataclass(frozen=True)
class StudyMaterial:
    """What is learned and tested.

    Attributes:
        name: of the folder.
        labels: by index.
        train: pieces to learn from.
        test: pieces to be tested on; no speaker or file of `train`.
        sized: labels whose clips are counted by the study's sizes: all, or of a word only the word.
    """

    name: str
    labels: tuple[str, ...]
    train: tuple[Piece, ...]
    test: tuple[Piece, ...]
    sized: tuple[int, ...]

    @property
    def truth(self) -> np.ndarray:
        """(num_test,) int64 label of each test piece."""
        return np.array([piece.label for piece in self.test], np.int64)

    @property
    def num_largest(self) -> int:
        """Clips of the label that has most, of those that are counted."""
        return max(sum(piece.label == label for piece in self.train) for label in self.sized)

    @property
    def fingerprint(self) -> str:
        """Hash of what is learned and tested, by label, file name and place."""
        lines = [f"{p.label} {p.path.parent.name}/{p.path.name} {p.position}" for p in (*self.train, *self.test)]
        return hashlib.sha256("\n".join((*self.labels, *lines)).encode()).hexdigest()[:16]

    def subset(self, size: int, seed: int) -> list[np.ndarray]:
        """Returns for each label the indices into `train` to learn from; a smaller size is a part of a larger one."""
        rng = np.random.default_rng([seed, 7])
        chosen = []
        for label in range(len(self.labels)):
            order = rng.permutation([index for index, piece in enumerate(self.train) if piece.label == label])
            chosen.append(order[:size] if label in self.sized else order)
        return chosen


def read_study(
    source: Path,
    negatives: Sequence[Path] = (),
    keywords: Sequence[str] = (),
    num_negatives: int = 400,
    max_test: int = 0,
    seed: int = 0,
) -> StudyMaterial:
    """Returns what is to be studied.

    Args:
        source: recordings of one word, or labelled ones: a folder with a sub-folder a label (Speech Commands has such,
            and its `testing_list.txt` is kept), with `train.jsonl` (or `enrol.jsonl`) and `test.jsonl`, or a manifest.
        negatives: for a word: recordings without it.
        keywords: of many labels the ones to tell apart; the others become `_unknown_`, background noise `_silence_`.
        num_negatives: windows without the word to learn from.
        max_test: most test clips of each label, 0 for all.
        seed: of the split, where there is none, and of what is drawn.

    Raises:
        AudioError: a path without recordings.
        ConfigError: one label and no negatives, an unknown keyword, or nothing to be tested on.
    """
    rng = np.random.default_rng([seed, 5])
    train, test = _read_split(source, rng)
    names = sorted({clip.label or OTHER for clip in train})
    if keywords:
        train, test = (_only(part, keywords, rng) for part in (train, test))
        names = sorted({clip.label or OTHER for clip in train})
        _check_keywords(keywords, names)
    if len(names) > 1:
        labels = tuple(names)
        learned, tested = _pieces(train, labels, 0), _pieces(_at_most(test, max_test, rng), labels, 1)
        return _checked(StudyMaterial(source.stem, labels, learned, tested, tuple(range(len(labels)))))
    if not negatives:
        raise ConfigError(
            f"{source} has recordings of one word only ({names[0]}); name audio without it, with --negatives"
        )
    word = names[0] if names[0] != OTHER else source.stem
    test = _at_most(test, max_test, rng)
    others = [_read_split(path, rng) for path in negatives]
    without = _draw([train for train, _ in others], num_negatives, rng)
    tested_without = _draw([test for _, test in others], 2 * len(test), rng)
    learned, tested = (tuple(Piece(clip.path, 0) for clip in part) for part in (train, test))
    return _checked(StudyMaterial(word, (word, OTHER), (*learned, *without), (*tested, *tested_without), (0,)))


def _read_split(source: Path, rng: np.random.Generator) -> tuple[list[Clip], list[Clip]]:
    for train, test in ((source / a, source / b) for a in TRAIN_MANIFESTS for b in TEST_MANIFESTS):
        if train.is_file() and test.is_file():
            return read_manifest(train), read_manifest(test)
    clips = read_clips(source) if source.suffix == ".jsonl" else _read_folder(source)
    if (source / TEST_LIST).is_file():
        return _split_by_lists(source, clips)
    if any(clip.speaker for clip in clips):
        return split_by_speaker(clips, TEST_SHARE, rng)
    parts = [[clip for clip in clips if clip.label == label] for label in sorted({clip.label or "" for clip in clips})]
    parts = parts if all(parts) else [clips]
    split = [split_by_speaker(part, TEST_SHARE, rng) for part in parts]  # here every file is a speaker of its own
    return [clip for train, _ in split for clip in train], [clip for _, test in split for clip in test]


def _split_by_lists(source: Path, clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Returns the two parts as Speech Commands has them; background noise is in both, halved by its pieces."""
    noise = [clip for clip in clips if clip.path.parent.name == BACKGROUND_FOLDER]
    words = [clip for clip in clips if clip.path.parent.name != BACKGROUND_FOLDER]
    tested, held = (_listed(source / name) for name in (TEST_LIST, VALIDATION_LIST))
    names = [f"{clip.path.parent.name}/{clip.path.name}" for clip in words]
    train = [clip for clip, name in zip(words, names) if name not in tested | held]
    return train + noise, [clip for clip, name in zip(words, names) if name in tested] + noise


def _listed(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()


def _read_folder(source: Path) -> list[Clip]:
    """Returns the recordings in `source`, labelled by their sub-folder where there are several."""
    files = find_audio([source])
    if not files:
        raise AudioError(f"no recordings in {source}; name a folder of audio files, or of a sub-folder for each label")
    folders = {file.relative_to(source).parts[0] for file in files if len(file.relative_to(source).parts) > 1}
    is_labelled = len(folders) > 1
    return [
        Clip(
            file,
            speaker=file.name.partition(SPEAKER_MARK)[0] if SPEAKER_MARK in file.name else None,
            label=file.relative_to(source).parts[0] if is_labelled else None,
        )
        for file in files
    ]


def _only(clips: Sequence[Clip], keywords: Sequence[str], rng: np.random.Generator) -> list[Clip]:
    """Returns the clips of `keywords`, as many of other words as `_unknown_`, and background noise as `_silence_`."""
    kept = [clip for clip in clips if clip.label in keywords]
    special = [clip for clip in clips if clip.label in (UNKNOWN, SILENCE)]
    noise = [clip for clip in clips if clip.label == BACKGROUND_FOLDER]
    rest = [clip for clip in clips if clip.label not in (*keywords, UNKNOWN, SILENCE, BACKGROUND_FOLDER)]
    each = max(1, len(kept) // len(keywords))
    rest = [rest[index] for index in rng.permutation(len(rest))[:each]]
    silences = [noise[index] for index in rng.integers(len(noise), size=each)] if noise else []
    relabelled = [Clip(clip.path, clip.duration_s, clip.text, clip.speaker, UNKNOWN) for clip in rest]
    relabelled += [Clip(clip.path, clip.duration_s, clip.text, clip.speaker, SILENCE) for clip in silences]
    return [*kept, *special, *relabelled]


def _check_keywords(keywords: Sequence[str], names: Sequence[str]) -> None:
    missing = sorted(set(keywords) - set(names))
    if missing:
        raise ConfigError(f"no recordings of the keyword '{missing[0]}'; there are: {', '.join(names)}")


def _pieces(clips: Sequence[Clip], labels: Sequence[str], half: int) -> tuple[Piece, ...]:
    """Returns a piece for each clip; of background noise another place each time, within its first or last half."""
    rng = np.random.default_rng(half)
    return tuple(
        Piece(
            clip.path,
            labels.index(clip.label or OTHER),
            (half + float(rng.random())) / 2 if clip.path.parent.name == BACKGROUND_FOLDER else None,
        )
        for clip in clips
        if (clip.label or OTHER) in labels
    )


def _at_most(clips: Sequence[Clip], count: int, rng: np.random.Generator) -> list[Clip]:
    """Returns up to `count` clips of each label, in their order; all with 0."""
    if not count:
        return list(clips)
    kept: list[int] = []
    for label in sorted({clip.label or "" for clip in clips}):
        indices = [index for index, clip in enumerate(clips) if (clip.label or "") == label]
        kept += list(rng.permutation(indices)[:count])
    return [clips[index] for index in sorted(kept)]


def _draw(sources: Sequence[Sequence[Clip]], count: int, rng: np.random.Generator) -> list[Piece]:
    """Returns `count` places, as many from each source, drawn within its recordings."""
    drawn = []
    for index in range(count):
        clips = sources[index % len(sources)]
        drawn.append(Piece(clips[int(rng.integers(len(clips)))].path, 1, float(rng.random())))
    return drawn


def _checked(material: StudyMaterial) -> StudyMaterial:
    for name, pieces in (("to learn from", material.train), ("to be tested on", material.test)):
        counts = np.bincount([piece.label for piece in pieces], minlength=len(material.labels))
        if not counts.all():
            label = material.labels[int(np.argmin(counts))]
            raise ConfigError(f"{material.name} has no recordings of '{label}' {name}; add some, or leave it out")
    return material
