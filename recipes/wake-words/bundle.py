"""Makes the wake words that come with the package, and measures each on people, for its card.

Launch (from the repository, with the recordings described in README.md at DATA):
    python recipes/wake-words/bundle.py --data DATA --out pretrained

Wake words that are in `--out` already are only measured, all of them in one pass.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from measure import WORDS, continuous_speech, score_conditions, test_conditions, write_manifest
from rich.progress import track

import kws
from kws.data.manifest import read_clips
from kws.evaluate.material import CLEAN
from kws.evaluate.protocol import Evaluation, evaluate, score_negatives
from kws.model.artefact import load_wakeword
from kws.train.result import card
from kws.train.wakeword import CONFIG_FILE, slug

PHRASES = {"computer": 64, "jarvis": 64, "alexa": 64, "hey computer": 48}
"""Which, and the `false_alarms_per_hour` of each, lower than by default: what ships had better miss than fire."""
RECORDED = ("computer", "jarvis")
"""Which of them learn from recordings too; the others show what text alone gives."""
VOICES = "voices.count_power=0"
"""Half of the voices are flite's, where it is installed."""
LICENCE = "recordings of the phrase: Picovoice wake-word-benchmark (Apache-2.0)"
SNR_DB = 10.0


def main() -> None:
    """Trains and measures every phrase into `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings; see README.md")
    parser.add_argument("--out", type=Path, default=Path("pretrained"), help="folder of wake words")
    parser.add_argument("--phrases", nargs="+", choices=PHRASES, default=list(PHRASES))
    arguments = parser.parse_args()
    folders = {phrase: arguments.out / slug(phrase) for phrase in arguments.phrases}
    for phrase, folder in folders.items():
        if not (folder / "wakeword.json").is_file():
            print(phrase, flush=True)
            train(phrase, folder, arguments.data)
    for evaluation in measured_on_people(folders, arguments.data):
        note(folders[evaluation.keyword], evaluation)


def train(phrase: str, folder: Path, data: Path) -> None:
    """Trains `phrase` into `folder` from text, and from all recordings in `enrol` if it is one of `RECORDED`."""
    positives = None
    if phrase in RECORDED:
        positives = write_manifest(folder / "enrol.jsonl", read_clips(data / f"wake-words/{phrase}/enrol.jsonl"))
    kws.train(phrase, folder, positives=positives, overrides=[VOICES, f"false_alarms_per_hour={PHRASES[phrase]}"])
    for left in ("report", "log"):
        shutil.rmtree(folder / left)
    for left in ("enrol.jsonl", CONFIG_FILE):  # the artefact holds the settings
        (folder / left).unlink(missing_ok=True)


def measured_on_people(folders: Mapping[str, Path], data: Path) -> list[Evaluation]:
    """Returns misses on `test` recordings of each phrase's last word, and false alarms on other people's speech.

    The last word alone should be missed: half a phrase must not fire.
    """
    detector = kws.load(*folders.values())
    tests = {word: read_clips(data / f"wake-words/{word}/test.jsonl") for word in WORDS}
    speech = continuous_speech(data) | {f"recordings of {word}": clips for word, clips in tests.items()}
    negatives = [score_negatives(detector, *item) for item in track(speech.items(), "speech without the words")]
    spoken, tested_in = {phrase.split()[-1] for phrase in folders}, test_conditions(data, [SNR_DB])
    conditions = {word: score_conditions(detector, tests[word], tested_in) for word in spoken & set(WORDS)}
    evaluations = []
    for phrase in folders:
        word = phrase.split()[-1]
        others = [scores for scores in negatives if scores.name != f"recordings of {word}"]
        evaluations.append(evaluate(detector, phrase, conditions.get(word, {CLEAN: []}), others))
    return evaluations


def note(folder: Path, evaluation: Evaluation) -> None:
    """Writes what was measured, and whose recordings were learned from, into the artefact in `folder` and its card."""
    wakeword = load_wakeword(folder)
    points = {name: point.to_dict() for name, point in evaluation.at_threshold.items()}
    phrase = evaluation.keyword.split()
    details = {**wakeword.details, "half_of_the_phrase_by_people" if len(phrase) > 1 else "measured_on_people": points}
    details["data_licences"] = [
        LICENCE if licence.startswith("recordings:") else licence for licence in details["data_licences"]
    ]
    wakeword = replace(wakeword, details=details)
    spoken = f"'{phrase[-1]}'" + (", half of the phrase, which must not fire" if len(phrase) > 1 else "")
    wakeword.save(folder, card=card(wakeword) + people_section(points, spoken))


def people_section(points: Mapping[str, Mapping[str, Any]], spoken: str) -> str:
    """Returns the card's section on people, who said what `spoken` names."""
    alarms = points[CLEAN]
    how = f"By `recipes/wake-words/bundle.py`, at the threshold {alarms['threshold']:.3g}:"
    lines = ["", "## Measured on people", how, ""]
    for name, point in points.items():
        if point["num_positives"]:
            low, high = point["false_rejection_rate_interval"]
            missed = f"{point['num_missed']} of {point['num_positives']} recordings of {spoken}"
            lines.append(f"- {name}: did not fire in {missed} (95 % interval {low:.1%}–{high:.1%})")
    low, high = alarms["false_alarms_per_hour_interval"]
    fired = f"{alarms['num_false_alarms']} false alarms in {alarms['hours']:.2f} h of other people's continuous speech"
    lines.append(f"- {fired} (95 % interval {low:.2g}–{high:.2g} an hour)")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
