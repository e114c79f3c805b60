"""Makes a wake word from a typed phrase and finds it in a recording that this script synthesises around it.

Launch:
    python demo/typed_phrase.py                          # "hey computer"
    python demo/typed_phrase.py --phrase "open the garage"

The recording holds the phrase a few times, spoken by voices that training never heard, among other speech, in a room,
with noise. The wake word, the recording, labels for Audacity and pictures are written to demo/output/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import kws
from kws.audio.io import read_audio, write_audio
from kws.data.augment import Augmentation
from kws.data.mix import coloured_noise, mix_at_snr
from kws.data.room import Room
from kws.data.synth import VoiceConfig, draw_voice, speak
from kws.data.text import random_sentence
from kws.detect.detector import Detector
from kws.evaluate.metrics import smoothed_scores
from kws.frames import SAMPLE_RATE
from kws.terminal import StageProgress
from kws.train.wakeword import slug

UNBENT = VoiceConfig(rate=(0.9, 1.1), pitch=(0.95, 1.1), pitch_range=(0.8, 1.2), tract=(0.97, 1.03))
"""Held-out voices nearly as they come; training bends its voices much further."""
NUM_PHRASES = 4
SNR_DB = 15.0
TOLERANCE_S = 0.5
"""How far from the phrase's end a detection may lie, in seconds."""

console = Console()


def main() -> int:
    """Trains, synthesises, detects, prints; returns 0 if all was found and nothing else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phrase", default="hey computer", help="the wake word as it is spoken")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "output", help="where everything goes")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the recording")
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, section.key=value")
    arguments = parser.parse_args()
    folder = arguments.out / slug(arguments.phrase)
    if not (folder / "wakeword.json").is_file():
        train(arguments.phrase, folder, [f"seed={arguments.seed}", *arguments.set])
    recording = arguments.out / f"{slug(arguments.phrase)}.wav"
    truth = synthesise_recording(arguments.phrase, recording, np.random.default_rng(arguments.seed + 2))
    return report(folder, recording, truth)


def train(phrase: str, folder: Path, overrides: list[str]) -> None:
    """Trains the wake word, with progress bars."""
    console.print(f"Making the wake word [bold]{phrase}[/bold] from text alone:")
    with StageProgress() as progress:
        kws.train(phrase, folder, overrides=overrides, progress=progress)


def synthesise_recording(phrase: str, path: Path, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Writes the recording and returns where the phrase is said in it: (start_s, end_s) each."""
    pieces: list[np.ndarray] = [np.zeros(SAMPLE_RATE, np.float32)]
    truth = []
    for _ in range(NUM_PHRASES):
        for _ in range(3):
            pieces += [_say(random_sentence(rng, 4, 10, avoid=phrase), rng), _pause(rng)]
        start_s = sum(map(len, pieces)) / SAMPLE_RATE
        pieces += [_say(phrase, rng), _pause(rng)]
        truth.append((start_s, start_s + len(pieces[-2]) / SAMPLE_RATE))
    pieces += [_say(random_sentence(rng, 4, 10, avoid=phrase), rng), np.zeros(SAMPLE_RATE, np.float32)]
    room = Augmentation(room=Room(rt60_s=0.3, direct_to_reverberant_db=6.0, seed=0))
    speech = room.apply_room(np.concatenate(pieces))
    write_audio(path, mix_at_snr(speech, coloured_noise(len(speech), 1.0, rng), SNR_DB).waveform)
    return truth


def report(model: Path, recording: Path, truth: list[tuple[float, float]]) -> int:
    """Prints what was found beside what was said, writes labels and a picture; returns the exit status."""
    detector = kws.load(model)
    stream = detector.stream()
    waveform = read_audio(recording)
    detections = stream.feed(waveform) + stream.flush()
    console.print(f"\nIn {recording} ({len(waveform) / SAMPLE_RATE:.1f} s, noise at {SNR_DB:g} dB):")
    unmatched = list(detections)
    num_missed = 0
    for start_s, end_s in truth:
        found = [one for one in unmatched if abs(one.end_s - end_s) <= TOLERANCE_S]
        if found:
            unmatched.remove(found[0])
            console.print(
                f"  said {start_s:6.2f}–{end_s:6.2f} s   found at {found[0].end_s:6.2f} s ({found[0].score:.2f})"
            )
        else:
            num_missed += 1
            console.print(f"  said {start_s:6.2f}–{end_s:6.2f} s   [red]missed[/red]")
    for one in unmatched:
        console.print(f"  [red]false alarm[/red] at {one.end_s:.2f} s, score {one.score:.2f}")
    labels = recording.with_suffix(".txt")
    labels.write_text("".join(f"{one.start_s:.3f}\t{one.end_s:.3f}\t{one.keyword}\n" for one in detections))
    picture = recording.with_suffix(".png")
    draw(picture, detector, waveform, truth)
    console.print(f"\nWake word: {model}   report: {model / 'report'}   picture: {picture}   labels: {labels}")
    console.print(f"Say it yourself: kws listen {model}")
    return int(num_missed > 0 or bool(unmatched))


def draw(path: Path, detector: Detector, waveform: np.ndarray, truth: list[tuple[float, float]]) -> None:
    """Draws the waveform, the smoothed score and where the phrase is said."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    sound, score = figure.subplots(2, sharex=True)
    sound.plot(np.arange(len(waveform)) / SAMPLE_RATE, waveform, linewidth=0.3)
    scores = smoothed_scores(detector.scores(waveform)[:, 0], detector.triggers[0])
    score.plot(np.arange(len(scores)) * detector.geometry.hop_s, scores, color="tab:green")
    score.axhline(detector.thresholds[0], color="gray", linestyle=":")
    for axes in (sound, score):
        for start_s, end_s in truth:
            axes.axvspan(start_s, end_s, color="tab:orange", alpha=0.3)
    sound.set_ylabel("waveform")
    score.set_ylabel("smoothed score")
    score.set_xlabel("seconds; the phrase is said in the shaded parts")
    figure.savefig(path, dpi=110)


def _say(text: str, rng: np.random.Generator) -> np.ndarray:
    return speak(text, draw_voice(rng, "validation", config=UNBENT)).waveform


def _pause(rng: np.random.Generator) -> np.ndarray:
    return np.zeros(round(rng.uniform(0.2, 0.8) * SAMPLE_RATE), np.float32)


if __name__ == "__main__":
    sys.exit(main())
