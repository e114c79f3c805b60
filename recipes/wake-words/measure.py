"""Trains wake words from text alone and measures them on real recordings: misses at fixed false alarms an hour.

Launch (from the repository, with the recordings described in README.md at DATA):
    python recipes/wake-words/measure.py --data DATA --out runs/wake-words --words alexa computer jarvis
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import kws
from kws.data.manifest import Clip, read_clips
from kws.evaluate.metrics import REPORTED_FALSE_ALARMS_PER_HOUR, point_at
from kws.evaluate.protocol import NegativeScores, evaluate, score_negatives, score_positives
from kws.evaluate.report import format_evaluation

WORDS = ("alexa", "computer", "jarvis")
ADULT_AGE = 13
TEST_FOLD = 4


def main() -> None:
    """Trains what is missing in `--out`, measures it, and prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings; see README.md")
    parser.add_argument("--out", type=Path, required=True, help="where wake words and results are written")
    parser.add_argument("--words", nargs="+", default=WORDS, help="which wake words")
    parser.add_argument("--snr", nargs="*", type=float, default=[10.0], help="noise conditions beside clean, in dB")
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, section.key=value")
    parser.add_argument("--real-negatives", action="store_true", help="train with real speech of other speakers too")
    parser.add_argument("--num-recordings", type=int, default=0, help="real recordings of the word to train with")
    parser.add_argument("--backend", default="auto", help="what runs the encoder in measuring: auto, onnx, int8, torch")
    arguments = parser.parse_args()
    for word in arguments.words:
        if not (arguments.out / word / "wakeword.json").is_file():
            train(word, arguments)
    results = measure(arguments)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def train(word: str, arguments: argparse.Namespace) -> None:
    """Trains `word` into the output folder."""
    data, out = arguments.data, arguments.out
    negatives = noise = positives = None
    if arguments.real_negatives:
        clips = read_clips(data / "librispeech-mini/train.jsonl") + read_clips(data / "speechocean762/train.jsonl")
        negatives = write_manifest(out / "negatives.jsonl", clips)
        noise = write_manifest(out / "noise.jsonl", noises(data, is_test=False))
    if arguments.num_recordings:
        enrol = read_clips(data / f"wake-words/{word}/enrol.jsonl")[: arguments.num_recordings]
        positives = write_manifest(out / f"{word}-positives.jsonl", enrol)
    kws.train(
        word, out / word, positives=positives, negatives=negatives, noise=noise, overrides=arguments.set,
        progress=lambda stage, done, total: print(f"\r{word}: {stage} {done}/{total}   ", end="", flush=True),
    )  # fmt: skip
    print()


def measure(arguments: argparse.Namespace) -> dict:
    """Returns, and prints, what each wake word in the output folder gives on the test recordings."""
    data, words = arguments.data, list(arguments.words)
    detector = kws.load(*(arguments.out / word for word in words), backend=arguments.backend)
    shared = [score_negatives(detector, name, clips) for name, clips in continuous_speech(data).items()]
    tests = {word: read_clips(data / f"wake-words/{word}/test.jsonl") for word in WORDS}
    others = {word: score_negatives(detector, f"recordings of '{word}'", clips) for word, clips in tests.items()}
    results, rates = {}, {}
    for word in words:
        conditions = {"clean": score_positives(detector, tests[word], None, [], seed=0)}
        for snr_db in arguments.snr:
            scores = score_positives(detector, tests[word], snr_db, noises(data, is_test=True), seed=0)
            conditions[f"{snr_db:g} dB"] = scores
        negatives: list[NegativeScores] = shared + [scores for name, scores in others.items() if name != word]
        evaluation = evaluate(detector, word, conditions, negatives)
        results[word] = evaluation.to_dict()
        print(format_evaluation(evaluation))
        for name, curve in evaluation.curves.items():
            for rate in REPORTED_FALSE_ALARMS_PER_HOUR:
                rates.setdefault((name, rate), []).append(point_at(curve, rate).false_rejection_rate)
    for (name, rate), missed in rates.items():
        print(f"mean of {len(words)} words, {name} at {rate:g}/h: {np.mean(missed):.1%}")
    return results


def continuous_speech(data: Path) -> dict[str, list[Clip]]:
    """Returns the recordings without wake words, children apart."""
    manifest = data / "speechocean762/test.jsonl"
    ages = [json.loads(line)["age"] for line in manifest.read_text().splitlines()]
    clips = read_clips(manifest)
    return {
        "librispeech-mini/dev": read_clips(data / "librispeech-mini/dev.jsonl"),
        "speechocean762/test, adults": [clip for clip, age in zip(clips, ages) if age >= ADULT_AGE],
        "speechocean762/test, children": [clip for clip, age in zip(clips, ages) if age < ADULT_AGE],
    }


def noises(data: Path, is_test: bool) -> list[Clip]:
    """Returns the noise recordings of the test fold, or of the others."""
    manifest = data / "noise/all.jsonl"
    folds = [json.loads(line)["fold"] for line in manifest.read_text().splitlines()]
    return [clip for clip, fold in zip(read_clips(manifest), folds) if (fold == TEST_FOLD) == is_test]


def write_manifest(path: Path, clips: list[Clip]) -> Path:
    """Writes `clips` as a manifest and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"audio_filepath": str(clip.path.resolve()), "speaker": clip.speaker}) for clip in clips]
    path.write_text("\n".join(lines) + "\n")
    return path


if __name__ == "__main__":
    main()
