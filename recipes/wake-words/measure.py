"""Makes wake words from text, from recordings and from both, and measures them on people they never heard.

Launch (from the repository, with the recordings described in README.md at DATA):
    python recipes/wake-words/measure.py --data DATA --out runs/table --sources text 5 20 100 text+20 --seeds 3

What is in `--out` already is not made again, so a stopped run goes on. All wake words are measured in one pass.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import kws
from kws.audio.io import read_audio, write_audio
from kws.data.manifest import Clip, read_clips
from kws.data.negatives import near_misses
from kws.data.synth import draw_voice, speak
from kws.data.synth.speech import is_phone_input
from kws.data.text import normalize
from kws.detect.detector import Detector
from kws.evaluate.latency import arrivals_s, measure_latency, word_end_s
from kws.evaluate.material import CLEAN, conditions_of
from kws.evaluate.metrics import point_at, wilson_interval
from kws.evaluate.protocol import (
    BACKGROUND_S,
    Condition,
    NegativeScores,
    evaluate,
    read_talk,
    score_negatives,
    score_positives,
)
from kws.model.artefact import load_wakeword
from kws.train.enrolment import enrol
from kws.train.wakeword import slug

WORDS = ("alexa", "computer", "jarvis")
RATES = (2.0, 1.0, 0.5)
LATENCY_RATE = 0.5
HALF = "last word alone"
"""Condition in which people say half of a phrase: all of it should be missed."""
CLOSE = "close words"
"""Condition in which kept-out voices say the words closest to a phrase instead: all of them should be missed."""
ADULT_AGE = 13
TEST_FOLD = 4
NUM_SPOKEN, SPOKEN_SEED = 200, 1
"""Recordings of a phrase that nobody has recorded, and the draw of voices for them."""


@dataclass(frozen=True)
class Run:
    """One wake word to make: `source` is "text", a number of recordings, or "text+" and one.

    `variant` is what is set otherwise than by default in it, overrides with spaces between them.
    """

    word: str
    source: str
    seed: int
    variant: str = ""

    @property
    def name(self) -> str:
        """Its folder, and the name of its keyword."""
        return "-".join([slug(self.word), self.source, str(self.seed), *self.variant.replace("/", "_").split()])

    @property
    def num_recordings(self) -> int:
        """Recordings of the word that it learns from."""
        count = self.source.removeprefix("text").removeprefix("+")
        return int(count) if count else 0


def main() -> None:
    """Makes what is missing in `--out`, measures it, and writes and prints the table."""
    arguments = parse_arguments()
    asked = (arguments.words, arguments.sources, range(arguments.seeds), arguments.vary)
    runs = [Run(*values) for values in product(*asked)]
    for run in runs:
        if not (arguments.out / run.name / "wakeword.json").is_file():
            make(run, arguments)
    rows = measure(runs, arguments)
    results, table = arguments.out / arguments.results, table_of(rows)
    results.write_text(json.dumps(rows, indent=1) + "\n")
    results.with_suffix(".md").write_text(table)
    print(table, end="")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings; see README.md")
    parser.add_argument("--out", type=Path, required=True, help="where wake words and results are written")
    parser.add_argument("--words", nargs="+", default=WORDS, help="which wake words; others than in DATA are spoken")
    parser.add_argument("--sources", nargs="+", default=["text"], help="text, a number of recordings, text+NUMBER")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, with other draws")
    parser.add_argument(
        "--snr", nargs="*", type=float, default=[10.0, 5.0], help="noise conditions beside clean, in dB"
    )
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, section.key=value")
    parser.add_argument(
        "--vary", nargs="+", default=[""], help="wake words with these settings each, such as '' head.members=1"
    )
    parser.add_argument("--backend", default="auto", help="what runs the encoder in measuring: auto, onnx, int8, torch")
    parser.add_argument("--results", default="results.json", help="file of results in --out, and with .md of the table")
    return parser.parse_args()


def make(run: Run, arguments: argparse.Namespace) -> None:
    """Trains or enrols `run` into the output folder."""
    out, overrides = arguments.out / run.name, [*arguments.set, *run.variant.split(), f"seed={run.seed}"]
    clips = drawn_recordings(run, arguments.data)
    print(run.name, flush=True)
    if not run.source.startswith("text"):
        enrol(run.word, [clip.path for clip in clips], out, phrase=run.word, overrides=overrides)
        return
    positives = write_manifest(arguments.out / f"{run.name}.jsonl", clips) if clips else None
    kws.train(run.word, out, positives=positives, overrides=overrides)


def drawn_recordings(run: Run, data: Path) -> list[Clip]:
    """Returns the recordings that `run` learns from; the seed decides which, and more recordings hold fewer."""
    if not run.num_recordings:
        return []
    clips = read_clips(data / f"wake-words/{run.word}/enrol.jsonl")
    order = np.random.default_rng([run.seed, 1]).permutation(len(clips))
    return [clips[index] for index in order[: run.num_recordings]]


def measure(runs: Sequence[Run], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns what each of `runs` gives on the test recordings, all of them scored in one pass of the encoder."""
    detector = load_all(runs, arguments)
    tests = {word: read_clips(arguments.data / f"wake-words/{word}/test.jsonl") for word in WORDS}
    speech = continuous_speech(arguments.data) | {f"recordings of {word}": clips for word, clips in tests.items()}
    tests |= {
        phrase: spoken([phrase], arguments.out / f"{slug(phrase)}-spoken")
        for phrase in set(arguments.words) - set(WORDS)
    }
    negatives = [score_negatives(detector, *item) for item in track(speech.items(), "speech without the words")]
    tested_in, rows = test_conditions(arguments.data, arguments.snr), []
    for word in arguments.words:
        last = word.split()[-1]
        conditions = score_conditions(detector, tests[word], tested_in)
        if last != word and last in tests:
            halves = score_conditions(detector, tests[last], tested_in)
            conditions |= {f"{HALF}, {name}": scores for name, scores in halves.items()}
        close = spoken(close_texts(word), arguments.out / f"{slug(word)}-close")
        conditions |= {CLOSE: score_positives(detector, close, tested_in[CLEAN], seed=0)}
        ends_s = [word_end_s(read_audio(clip.path)) for clip in tests[word]]
        others = [scores for scores in negatives if scores.name != f"recordings of {last}"]
        for run in runs:
            if run.word == word:
                rows.append(vars(run) | row_of(detector, run, conditions, others, ends_s))
    return rows


def score_conditions(
    detector: Detector, clips: Sequence[Clip], conditions: Mapping[str, Condition]
) -> dict[str, list[np.ndarray]]:
    """Returns the scores of `clips` in each of `conditions`, by its name."""
    listed = track(conditions.items(), "recordings of the word")
    return {name: score_positives(detector, clips, condition, seed=0) for name, condition in listed}


def test_conditions(data: Path, snrs_db: Sequence[float]) -> dict[str, Condition]:
    """Returns clean, after talk, and the test fold's noise at each of `snrs_db`."""
    talk = read_talk(continuous_speech(data)["librispeech-mini/dev"], seed=0)
    return conditions_of(talk, noises(data), snrs_db)


def load_all(runs: Sequence[Run], arguments: argparse.Namespace) -> Detector:
    """Returns a detector of all `runs`, each keyword named as its run is."""
    wakewords = []
    for run in runs:
        wakeword = load_wakeword(arguments.out / run.name)
        wakewords.append(replace(wakeword, keywords=(replace(wakeword.keywords[0], name=run.name),)))
    return Detector(wakewords, arguments.backend)


def row_of(
    detector: Detector,
    run: Run,
    conditions: dict[str, list[np.ndarray]],
    negatives: Sequence[NegativeScores],
    ends_s: Sequence[float | None],
) -> dict[str, Any]:
    """Returns counts, rates, hours and intervals of one run, and its latency at half a false alarm an hour."""
    evaluation = evaluate(detector, run.name, conditions, negatives)
    column = detector.keywords.index(run.name)
    clips = [scores[:, column] for scores in conditions[CLEAN]]
    latency = measure_latency(
        clips,
        [None if end_s is None else end_s + BACKGROUND_S for end_s in ends_s],
        evaluation.trigger_at(point_at(evaluation.curves[CLEAN], LATENCY_RATE).threshold),
        evaluation.hop_s,
        arrivals_s(detector, max(map(len, clips))),
    )
    rates = {
        name: {f"{rate:g}": point_at(curve, rate).to_dict() for rate in RATES}
        for name, curve in evaluation.curves.items()
    }
    own = {name: point.to_dict() for name, point in evaluation.at_threshold.items()}
    return {"at_false_alarms_per_hour": rates, "at_own_threshold": own, "latency": latency.to_dict()}


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """Returns misses as a Markdown table, of each word and the mean of the words, over the seeds (lowest, highest)."""
    columns = [*(f"{rate:g} FA/h" for rate in RATES), f"95 % at {RATES[-1]:g} FA/h", "own threshold", "FA there"]
    lines = ["| from, word, condition | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for made_by in dict.fromkeys(_made_by(row) for row in rows):
        chosen = [row for row in rows if _made_by(row) == made_by]
        words = list(dict.fromkeys(row["word"] for row in chosen))
        for word in words:
            of_word = [row for row in chosen if row["word"] == word]
            for condition in of_word[0]["at_own_threshold"]:
                lines.append(f"| {made_by}, {word}, {condition} | {_cells(of_word, condition)} |")
        for condition in chosen[0]["at_own_threshold"] if len(words) > 1 else ():
            if all(condition in row["at_own_threshold"] for row in chosen):
                lines.append(f"| **{made_by}, mean, {condition}** | {_cells(chosen, condition)} |")
    medians, ninetieths = ([row["latency"][key] for row in rows] for key in ("median_s", "percentile_90_s"))
    latency = f"median {np.median(medians):.2f} s, 90 % {np.median(ninetieths):.2f} s"
    lines += ["", f"From the end of the word to the detection at {LATENCY_RATE:g} FA/h: {latency}.", ""]
    return "\n".join(lines)


def _made_by(row: Mapping[str, Any]) -> str:
    return f"{row['source']} {row['variant']}".strip()


def _cells(rows: Sequence[Mapping[str, Any]], condition: str) -> str:
    points = [[row["at_false_alarms_per_hour"][condition][f"{rate:g}"] for row in rows] for rate in RATES]
    own = [row["at_own_threshold"][condition] for row in rows]
    if len({row["word"] for row in rows}) == 1:
        low, high = wilson_interval(
            round(np.mean([point["num_missed"] for point in points[-1]])), own[0]["num_positives"]
        )
        interval = f"{100 * low:.1f}–{100 * high:.1f} of {own[0]['num_positives']}"
        alarms = "/".join(str(point["num_false_alarms"]) for point in own) + f" in {own[0]['hours']:.2f} h"
    else:
        interval, alarms = "", f"{np.mean([point['false_alarms_per_hour'] for point in own]):.1f} an hour"
    missed = [_missed(rows, column) for column in (*points, own)]
    return " | ".join([*missed[:-1], interval, missed[-1], alarms])


def _missed(rows: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]) -> str:
    """Returns the percentage of misses, the mean of the words: mean of the seeds, lowest and highest."""
    of_seed: dict[int, list[float]] = {}
    for row, point in zip(rows, points):
        of_seed.setdefault(row["seed"], []).append(100 * point["false_rejection_rate"])
    means = [float(np.mean(missed)) for missed in of_seed.values()]
    spread = f" ({min(means):.1f}–{max(means):.1f})" if len(means) > 1 else ""
    return f"{np.mean(means):.1f} %{spread}"


def spoken(texts: Sequence[str], folder: Path) -> list[Clip]:
    """Returns `texts` in turn as spoken by synthetic voices that are kept out of training, written to `folder`."""
    rng = np.random.default_rng(SPOKEN_SEED)
    for index in range(NUM_SPOKEN):
        text = texts[index % len(texts)]
        write_audio(folder / f"{index:03d}.wav", speak(text, draw_voice(rng, "validation")).waveform)
    return read_clips(folder)


def close_texts(phrase: str) -> list[str]:
    """Returns `phrase` with one of its words replaced by one that comes close, for each such word."""
    texts = near_misses(phrase, np.random.default_rng(SPOKEN_SEED), num_edits=0)
    return [text for text in texts if not is_phone_input(text)]


def continuous_speech(data: Path) -> dict[str, list[Clip]]:
    """Returns the recordings in which no wake word is said, children apart."""
    manifest = data / "speechocean762/test.jsonl"
    ages = [json.loads(line)["age"] for line in manifest.read_text().splitlines()]
    clips = read_clips(manifest)
    speech = {
        "librispeech-mini/dev": read_clips(data / "librispeech-mini/dev.jsonl"),
        "speechocean762/test, adults": [clip for clip, age in zip(clips, ages) if age >= ADULT_AGE],
        "speechocean762/test, children": [clip for clip, age in zip(clips, ages) if age < ADULT_AGE],
    }
    return {name: [clip for clip in part if not says_a_wake_word(clip)] for name, part in speech.items()}


def says_a_wake_word(clip: Clip) -> bool:
    """Returns whether the transcript of `clip` has one of the wake words."""
    return any(word in WORDS for word in normalize(clip.text or "").split())


def noises(data: Path) -> list[Clip]:
    """Returns the noise recordings of the test fold, which nothing is trained on."""
    manifest = data / "noise/all.jsonl"
    folds = [json.loads(line)["fold"] for line in manifest.read_text().splitlines()]
    return [clip for clip, fold in zip(read_clips(manifest), folds) if fold == TEST_FOLD]


def write_manifest(path: Path, clips: Sequence[Clip]) -> Path:
    """Writes `clips` as a manifest and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"audio_filepath": str(clip.path.resolve()), "speaker": clip.speaker}) for clip in clips]
    path.write_text("\n".join(lines) + "\n")
    return path


if __name__ == "__main__":
    main()
