"""Detection over files: path ─▶ blocks ─▶ detections, in constant memory, and the formats they are written in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kws.audio.io import find_audio, read_blocks
from kws.audio.quality import LevelMeter
from kws.detect.detector import Detection, Detector
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

BLOCK_S = 1.0
"""Seconds read at a time; detections don't depend on it."""


def detect_file(
    detector: Detector,
    path: Path | str,
    on_progress: Callable[[float], object] | None = None,
    warn: Callable[[str], object] | None = None,
) -> Iterator[Detection]:
    """Yields the detections in the file at `path` as they are found, in order of their ends.

    Args:
        detector: the wake words to look for.
        path: any audio file.
        on_progress: called with the seconds heard so far, about once a second of audio.
        warn: called at the end with a line for each of silence, clipping and DC offset, measured on the way.

    Raises:
        AudioError: an unreadable file, when the fault is reached.
    """
    stream, levels = detector.stream(), LevelMeter()
    for block in read_blocks(path, BLOCK_S):
        yield from stream.feed(block)
        levels.feed(block)
        if on_progress is not None:
            on_progress(levels.num_samples / SAMPLE_RATE)
    yield from stream.flush()
    if warn is not None:
        for problem in levels.problems():
            warn(f"{path}: {problem}")


def expand_folders(paths: Iterable[Path]) -> list[Path]:
    """Returns `paths` in order, each folder replaced by the audio files in it; one without any stays as it is."""
    expanded: dict[Path, None] = {}
    for path in paths:
        expanded |= dict.fromkeys((find_audio([path]) if path.is_dir() else []) or [path])
    return list(expanded)


def stated_duration_s(path: Path) -> float | None:
    """Returns how long the file at `path` says it is, in seconds; None if it can't be told."""
    import soundfile

    try:
        return soundfile.info(path).duration
    except (soundfile.LibsndfileError, OSError, TypeError):
        return None


def text_line(detection: Detection, path: Path | None = None) -> str:
    """Returns `detection` for people to read: where, what, how sure."""
    where = f"{path}: " if path else ""
    return f"{where}{detection.start_s:8.2f} – {detection.end_s:.2f} s  {detection.keyword}  {detection.score:.3f}"


def json_line(detection: Detection, path: Path | None = None) -> str:
    """Returns `detection` as one line of JSON."""
    file = {"file": str(path)} if path else {}
    times = {"start_s": round(detection.start_s, 4), "end_s": round(detection.end_s, 4)}
    values = {"keyword": detection.keyword, "score": round(detection.score, 4)}
    return json.dumps(file | values | times, ensure_ascii=False)


def audacity_line(detection: Detection, path: Path | None = None) -> str:
    """Returns `detection` as a line of an Audacity label track (File ▸ Import ▸ Labels)."""
    return f"{detection.start_s:.6f}\t{detection.end_s:.6f}\t{detection.keyword}"


FORMATS: dict[str, Callable[[Detection, Path | None], str]] = {
    "text": text_line,
    "json": json_line,
    "audacity": audacity_line,
}
"""How a detection becomes a line, by the format's name."""


def check_format(name: str, paths: list[Path]) -> None:
    """Raises an `AudioError` if the `paths` can't be told apart in the format `name`."""
    if name == "audacity" and len(paths) > 1:
        raise AudioError(
            f"a label track belongs to one recording, {len(paths)} were named; run kws detect once for each file, "
            "or use --format json, which names the file in every line"
        )
