"""Enrols wake words from a few real recordings each and measures them on others: misses at fixed false alarms an hour.

Launch (from the repository, with the recordings described in README.md at DATA):
    python recipes/wake-words/enrolment.py --data DATA --out runs/enrolment --counts 3 5 10 --seeds 3

The test recordings are encoded once, into `--out`; each enrolment is then measured in seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from measure import WORDS, continuous_speech, noises

from kws.audio.io import read_audio
from kws.data.manifest import Clip, read_clips
from kws.data.mix import coloured_noise
from kws.detect.head_stream import HeadStream
from kws.evaluate.metrics import det_curve, point_at
from kws.evaluate.protocol import FLOOR_DB, GAP_S, STREAM_S, with_background
from kws.frames import SAMPLE_RATE
from kws.model.artefact import WakeWord
from kws.model.encoder import Encoder
from kws.model.pretrained import build_encoder
from kws.train.enrolment import enrol, resolve_settings

RATES = (2.0, 1.0, 0.5)


def main() -> None:
    """Enrols and measures every word, number of recordings and seed; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings; see README.md")
    parser.add_argument("--out", type=Path, required=True, help="where wake words, frames and results are written")
    parser.add_argument("--words", nargs="+", default=WORDS, help="which wake words")
    parser.add_argument("--counts", nargs="+", type=int, default=[3, 5, 10], help="recordings enrolled from")
    parser.add_argument("--seeds", type=int, default=3, help="draws of recordings for each word and number")
    parser.add_argument("--snr", type=float, default=10.0, help="noise condition beside clean, in dB")
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, section.key=value")
    arguments = parser.parse_args()
    encoder = build_encoder(resolve_settings("any", None, arguments.set).encoder)
    frames = EncodedTests(encoder, arguments.data, arguments.out / f"frames-{encoder.sha256[:12]}", arguments.snr)
    results = []
    for seed in range(arguments.seeds):
        for count in arguments.counts:
            for word in arguments.words:
                results.append(enrol_and_measure(word, count, seed, frames, arguments))
                print(json.dumps(results[-1]), flush=True)
                (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print_table(results)


def enrol_and_measure(
    word: str, count: int, seed: int, frames: EncodedTests, arguments: argparse.Namespace
) -> dict[str, object]:
    """Returns what `count` recordings of `word`, drawn with `seed`, give."""
    clips = read_clips(arguments.data / f"wake-words/{word}/enrol.jsonl")
    drawn = np.random.default_rng([seed, 1]).permutation(len(clips))[:count]
    before_s = time.process_time()
    enrolled = enrol(
        word,
        [clips[index].path for index in drawn],
        arguments.out / f"{word}-{count}-{seed}",
        overrides=[*arguments.set, f"seed={seed}"],
    )
    cpu_s = time.process_time() - before_s
    return {"word": word, "count": count, "seed": seed, "cpu_s": round(cpu_s, 1)} | measure(enrolled.wakeword, frames)


def measure(wakeword: WakeWord, frames: EncodedTests) -> dict[str, object]:
    """Returns misses and false alarms of `wakeword` on the test recordings."""
    word, trigger, hop_s = wakeword.keywords[0].name, wakeword.keywords[0].trigger, frames.encoder.geometry.hop_s
    negatives = [scores for name in frames.negatives(word) for scores in score(wakeword, frames.read(name))]
    scored = {condition: score(wakeword, frames.read(f"{word}-{condition}")) for condition in ("clean", frames.noisy)}
    points = det_curve(scored["clean"], negatives, trigger, hop_s)
    own = det_curve([], negatives, trigger, hop_s, [trigger.threshold])[0]
    thresholds = {f"{rate:g}": point_at(points, rate).threshold for rate in RATES} | {"own": trigger.threshold}
    result: dict[str, object] = {"num_positives": len(scored["clean"])}
    result |= {"hours": own.hours, "num_false_alarms": own.num_false_alarms}
    for condition, positives in scored.items():
        result[condition] = {
            name: det_curve(positives, [], trigger, hop_s, [threshold])[0].num_missed
            for name, threshold in thresholds.items()
        }
    return result


def score(wakeword: WakeWord, streams: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Returns the (num_frames,) scores of each of `streams`, (num_frames, dim) frames."""
    return [HeadStream(wakeword).feed(frames.astype(np.float32))[:, 0] for frames in streams]


def print_table(results: list[dict]) -> None:
    """Prints the mean of the words, lowest and highest draw in brackets, as rows of a table."""
    print(
        "| recordings, condition | " + " | ".join(f"at {rate:g} FA/h" for rate in RATES) + " | at its own threshold |"
    )
    for count in sorted({result["count"] for result in results}):
        chosen = [result for result in results if result["count"] == count]
        alarms = sum(result["num_false_alarms"] for result in chosen) / sum(result["hours"] for result in chosen)
        for condition in (name for name in chosen[0] if isinstance(chosen[0][name], dict)):
            cells = []
            for key in (*(f"{rate:g}" for rate in RATES), "own"):
                missed = [result[condition][key] / result["num_positives"] for result in chosen]
                cells.append(f"{np.mean(missed):.1%} ({min(missed):.0%}–{max(missed):.0%})")
            print(f"| {count}, {condition} | " + " | ".join(cells) + f", {alarms:.1f} FA/h |")


class EncodedTests:
    """Frames of the test recordings by name, (num_frames, dim) float16 a stream, made when first asked for."""

    def __init__(self, encoder: Encoder, data: Path, folder: Path, snr_db: float) -> None:
        self.encoder, self.data, self.folder, self.snr_db = encoder, data, folder, snr_db
        self.noisy = f"{snr_db:g} dB"
        self._speech = continuous_speech(data)
        folder.mkdir(parents=True, exist_ok=True)

    def negatives(self, word: str) -> list[str]:
        """Returns the names of what never holds `word`."""
        return [*self._speech, *(other for other in WORDS if other != word)]

    def read(self, name: str) -> list[np.ndarray]:
        """Returns the streams of `name`: a source of speech, a word as continuous speech, or "word-condition"."""
        path = self.folder / f"{name.replace('/', '_').replace(', ', '-')}.npz"
        if not path.is_file():
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, *(self._encode(waveform) for waveform in self._waveforms(name)))
            temporary.replace(path)
        with np.load(path) as arrays:
            return [arrays[key] for key in arrays.files]

    def _encode(self, waveform: np.ndarray) -> np.ndarray:
        stream = self.encoder.stream()
        return np.concatenate([stream.feed(waveform), stream.flush()]).astype(np.float16)

    def _waveforms(self, name: str) -> Iterator[np.ndarray]:
        word, _, condition = name.partition("-")
        if word in WORDS and condition:
            snr_db = None if condition == "clean" else self.snr_db
            noise = [] if snr_db is None else noises(self.data, is_test=True)
            for index, clip in enumerate(self._test(word)):
                yield with_background(read_audio(clip.path), snr_db, noise, np.random.default_rng([0, index]))
        else:
            yield from joined(self._test(name) if name in WORDS else self._speech[name])

    def _test(self, word: str) -> list[Clip]:
        return read_clips(self.data / f"wake-words/{word}/test.jsonl")


def joined(clips: list[Clip]) -> Iterator[np.ndarray]:
    """Yields `clips` as continuous audio, as the protocol joins them."""
    rng = np.random.default_rng(0)
    pending: list[np.ndarray] = []
    for index, clip in enumerate(clips):
        gap = coloured_noise(round(GAP_S * SAMPLE_RATE), 1.0, rng) * np.float32(10 ** (FLOOR_DB / 20))
        pending += [read_audio(clip.path), gap]
        if index + 1 == len(clips) or sum(map(len, pending)) >= STREAM_S * SAMPLE_RATE:
            yield np.concatenate(pending)
            pending = []


if __name__ == "__main__":
    main()
