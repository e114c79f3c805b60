"""What int8 and the gate change: detections with and without, on recordings of the phrase and of other speech.

Launch (any wake word and recordings; noise over the phrase is pink without --noise):
    python benchmarks/agreement.py hey_computer --positives DIR --negatives DIR --noise DIR --out benchmarks/results
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

import kws
from kws.audio.io import read_audio
from kws.data.manifest import Clip, read_clips
from kws.detect.detector import Detection, Detector
from kws.evaluate.protocol import with_background
from kws.frames import SAMPLE_RATE

LEAD_S = 10.0
"""Background before each recording: long enough for the gate to close."""
NEGATIVE_S = 600.0
"""Other speech is joined to streams of so much, with pauses between recordings."""
PAUSE_S = 4.0
PAUSE_DB = -60.0
SAME_S = 0.1
"""Detections of a keyword this near each other are one."""


def main() -> None:
    """Runs every variant over the same audio, prints what differs from the first, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a wake word")
    parser.add_argument("--positives", type=Path, required=True, help="recordings of the phrase: folder or manifest")
    parser.add_argument("--negatives", type=Path, nargs="*", default=[], help="speech without it")
    parser.add_argument("--noise", type=Path, help="recordings of noise")
    parser.add_argument("--snr", type=float, nargs="*", default=[10.0, 5.0], help="dB, beside clean")
    parser.add_argument("--limit", type=int, help="recordings of each kind at most")
    parser.add_argument("--out", type=Path, help="folder for agreement-MODEL.json")
    arguments = parser.parse_args()
    detectors = {
        "float32": kws.load(arguments.model, backend="onnx"),
        "int8": kws.load(arguments.model, backend="int8"),
        "int8, gate": kws.load(arguments.model, backend="int8", gate=True),
    }
    results = [compare(detectors, name, waveforms) for name, waveforms in material(arguments)]
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / f"agreement-{Path(arguments.model).stem}.json"
        path.write_text(json.dumps(results, indent=1) + "\n")


def material(arguments: argparse.Namespace) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """Yields each condition's name and its waveforms (num_samples,)."""
    positives = read_clips(arguments.positives)[: arguments.limit]
    noises = read_clips(arguments.noise) if arguments.noise is not None else []
    for snr_db in (None, *arguments.snr):
        name = "clean" if snr_db is None else f"{snr_db:g} dB"
        yield f"phrase, {name}", (positive(index, clip, snr_db, noises) for index, clip in enumerate(positives))
    for path in arguments.negatives:
        yield f"without it, {path.parent.name}", joined(read_clips(path)[: arguments.limit])


def positive(index: int, clip: Clip, snr_db: float | None, noises: list[Clip]) -> np.ndarray:
    """Returns `clip` after a long stretch of the background that it is in."""
    waveform = np.pad(read_audio(clip.path), (round(LEAD_S * SAMPLE_RATE), 0))
    return with_background(waveform, snr_db, noises, np.random.default_rng([0, index]))


def joined(clips: list[Clip]) -> Iterator[np.ndarray]:
    """Yields `clips` one after the other with pauses, in long pieces."""
    rng, pieces, num_samples = np.random.default_rng(0), [], 0
    for clip in clips:
        pause = rng.normal(0, 10 ** (PAUSE_DB / 20), round(PAUSE_S * SAMPLE_RATE)).astype(np.float32)
        pieces += [read_audio(clip.path), pause]
        num_samples += len(pieces[-2]) + len(pause)
        if num_samples >= NEGATIVE_S * SAMPLE_RATE:
            yield np.concatenate(pieces)
            pieces, num_samples = [], 0
    if pieces:
        yield np.concatenate(pieces)


def compare(detectors: dict[str, Detector], name: str, waveforms: Iterator[np.ndarray]) -> dict:
    """Returns, and prints, what each detector finds in `waveforms`, and what of it the one before it found too."""
    rows = {variant: Row() for variant in detectors}
    num_samples, num_waveforms = 0, 0
    for waveform in waveforms:
        before: Heard | None = None
        for variant, detector in detectors.items():
            heard = listen(detector, waveform)
            rows[variant].add(heard, before)
            before = heard
        num_samples += len(waveform)
        num_waveforms += 1
    hours = num_samples / SAMPLE_RATE / 3600
    print(f"{name}: {num_waveforms} recordings, {hours:.2f} h")
    for variant, row in rows.items():
        print(f"  {variant:12}", "  ".join(f"{key} {value:.4g}" for key, value in row.to_dict().items()), flush=True)
    variants = {variant: row.to_dict() for variant, row in rows.items()}
    return {"name": name, "recordings": num_waveforms, "hours": hours, "variants": variants}


class Heard(NamedTuple):
    """What a detector found in a waveform, and its (num_frames, num_keywords) scores."""

    detections: list[Detection]
    scores: np.ndarray


@dataclass
class Row:
    """What one detector found, and how that differs from what the one before it found."""

    detections: int = 0
    lost: int = 0
    added: int = 0
    num_frames: int = 0
    num_passed_over: int = 0
    largest_difference: float = 0.0

    def add(self, heard: Heard, before: Heard | None) -> None:
        """Counts one waveform."""
        is_heard = heard.scores.any(axis=1)
        self.detections += len(heard.detections)
        self.num_frames += len(is_heard)
        self.num_passed_over += int((~is_heard).sum())
        if before is not None:
            self.lost += count_missing(before.detections, heard.detections)
            self.added += count_missing(heard.detections, before.detections)
            differences = np.abs(heard.scores - before.scores)[is_heard]
            self.largest_difference = max(self.largest_difference, float(differences.max(initial=0)))

    def to_dict(self) -> dict[str, float]:
        """Returns counts, the share passed over, and the largest difference of a score that was heard."""
        return {
            "detections": self.detections,
            "lost": self.lost,
            "added": self.added,
            "share_passed_over": self.num_passed_over / max(1, self.num_frames),
            "largest_difference": self.largest_difference,
        }


def listen(detector: Detector, waveform: np.ndarray) -> Heard:
    """Returns what `detector` hears in `waveform`."""
    scores, stream = detector.scores(waveform), detector.stream()
    return Heard(stream.fire(scores), scores)


def count_missing(expected: list[Detection], found: list[Detection]) -> int:
    """Returns how many of the detections `expected` are not among those `found`."""
    return sum(
        not any(one.keyword == other.keyword and abs(one.end_s - other.end_s) <= SAME_S for other in found)
        for one in expected
    )


if __name__ == "__main__":
    main()
