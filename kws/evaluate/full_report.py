"""The report of `kws evaluate`: what was measured ─▶ report.json, pictures, clips and one page, index.html."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.io import read_audio, write_audio
from kws.config import to_dict
from kws.detect.detector import Detector
from kws.evaluate.cost import Cost
from kws.evaluate.examples import Example, loudest, worst_misses
from kws.evaluate.heard import Listener
from kws.evaluate.latency import Latency, arrivals_s, measure_latency, word_end_s
from kws.evaluate.material import CLEAN, Material, Scores
from kws.evaluate.metrics import (
    REPORTED_FALSE_ALARMS_PER_HOUR,
    det_curve,
    hours_to_prove,
    smoothed_scores,
)
from kws.evaluate.page import render_page
from kws.evaluate.plots import THEMES, draw_det_curves, draw_thresholds
from kws.evaluate.protocol import BACKGROUND_S, Evaluation, evaluate
from kws.model.files import write_atomically

CLIPS = "clips"
_CLIP_NAME = re.compile(r"(miss|alarm)-[\w.-]+\.wav")


@dataclass(frozen=True)
class FullReport:
    """Everything that the report shows of one keyword.

    Attributes:
        model: what was measured, as the user named it.
        evaluation: misses and false alarms.
        groups: misses at the artefact's threshold, by age group and condition; empty where no age is known.
        peaks: highest smoothed score of each positive, by condition.
        latency: over the clean positives.
        cost: of one live stream; None if it was not measured.
        misses: the worst of each condition.
        alarms: the loudest, and where there are few, what came nearest.
        skipped: a message for each recording that couldn't be read.
    """

    model: str
    evaluation: Evaluation
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]]
    peaks: Mapping[str, Sequence[float]]
    latency: Latency
    cost: Cost | None
    misses: Mapping[str, Sequence[Example]]
    alarms: Sequence[Example]
    skipped: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it for JSON, without the audio; `clip` is the file of each example."""
        return {
            "model": self.model,
            "kws": _version(),
            "created": date.today().isoformat(),
            "trigger": to_dict(self.evaluation.trigger),
            **self.evaluation.to_dict(),
            "age_groups_at_threshold": self.groups,
            "hours_without_alarm_to_prove": {
                str(rate): hours_to_prove(rate) for rate in REPORTED_FALSE_ALARMS_PER_HOUR
            },
            "latency": self.latency.to_dict(),
            "cost": None if self.cost is None else self.cost.to_dict(),
            "worst_misses": {
                name: [example.to_dict() | {"clip": clip} for clip, example in named_misses(name, examples)]
                for name, examples in self.misses.items()
            },
            "loudest_without_phrase": [
                example.to_dict() | {"clip": clip} for clip, example in named_alarms(self.alarms)
            ],
            "skipped": list(self.skipped),
        }


def build_report(
    model: str,
    detector: Detector,
    keyword: str,
    material: Material,
    scores: Scores,
    listener: Listener | None = None,
    cost: Cost | None = None,
    num_examples: int = 10,
) -> FullReport:
    """Returns the report of `keyword`.

    Args:
        model: how the user named it.
        detector: what was measured.
        keyword: one of the detector's.
        material: what it heard.
        scores: what it gave there.
        listener: says what the encoder's output layer heard in the examples.
        cost: from `measure_cost`.
        num_examples: clips of each kind at most.

    Raises:
        ConfigError: the detector has no such keyword.
    """
    evaluation = evaluate(detector, keyword, scores.positives, scores.negatives)
    column, trigger, geometry = detector.keywords.index(keyword), evaluation.trigger, detector.geometry
    positives = {name: [clip[:, column] for clip in clips] for name, clips in scores.positives.items()}
    arrivals = arrivals_s(detector, max(map(len, positives[CLEAN])))
    ends_s = [_word_end_s(material, index) for index in range(len(material.positives))]
    examples = {
        name: list(worst_misses(material, name, clips, trigger, geometry, num_examples))
        for name, clips in positives.items()
    }
    alarms = loudest(scores.negatives, column, trigger, geometry, num_examples)
    return FullReport(
        model=model,
        evaluation=evaluation,
        groups={
            group: {name: _misses([clips[index] for index in indices], evaluation) for name, clips in positives.items()}
            for group, indices in material.groups.items()
        },
        peaks={
            name: [float(smoothed_scores(clip, trigger).max(initial=0.0)) for clip in clips]
            for name, clips in positives.items()
        },
        latency=measure_latency(positives[CLEAN], ends_s, trigger, geometry.hop_s, arrivals),
        cost=cost,
        misses={name: [_listen(example, listener) for example in found] for name, found in examples.items()},
        alarms=[_listen(example, listener) for example in alarms],
        skipped=material.skipped,
    )


def write_full_report(folder: Path, report: FullReport) -> Path:
    """Writes the report into `folder` and returns its page; clips of an earlier report there are removed."""
    for path in (folder / CLIPS).glob("*.wav"):
        if _CLIP_NAME.fullmatch(path.name):
            path.unlink()
    misses = {name: named_misses(name, examples) for name, examples in report.misses.items()}
    alarms = named_alarms(report.alarms)
    for clip, example in [*(named for found in misses.values() for named in found), *alarms]:
        write_audio(folder / clip, example.waveform)
    for theme in THEMES:
        write_atomically(folder / f"det-{theme}.png", draw_det_curves(report.evaluation, theme))
        write_atomically(folder / f"thresholds-{theme}.png", draw_thresholds(report.evaluation, report.peaks, theme))
    values = report.to_dict()
    write_atomically(
        folder / "report.json", (json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )
    page = folder / "index.html"
    write_atomically(page, render_page(values, misses, alarms).encode())
    return page


def named_misses(condition: str, examples: Sequence[Example]) -> list[tuple[str, Example]]:
    """Returns each miss with the name of its clip within the report's folder."""
    name = re.sub(r"\W+", "-", condition.replace("-", "minus "))
    return [(f"{CLIPS}/miss-{name}-{index:02}.wav", example) for index, example in enumerate(examples, 1)]


def named_alarms(examples: Sequence[Example]) -> list[tuple[str, Example]]:
    """Returns each alarm with the name of its clip within the report's folder."""
    return [(f"{CLIPS}/alarm-{index:02}.wav", example) for index, example in enumerate(examples, 1)]


def _misses(clips: Sequence[np.ndarray], evaluation: Evaluation) -> dict[str, Any]:
    point = det_curve(clips, [], evaluation.trigger, evaluation.hop_s, [evaluation.trigger.threshold])[0]
    return {name: value for name, value in point.to_dict().items() if "alarms" not in name and name != "hours"}


def _word_end_s(material: Material, index: int) -> float | None:
    end_s = word_end_s(read_audio(material.positives[index].path))
    return None if end_s is None else end_s + BACKGROUND_S


def _listen(example: Example, listener: Listener | None) -> Example:
    return example if listener is None else replace(example, heard=listener.hear(example.waveform))


def _version() -> str:
    try:
        return version("kws")
    except PackageNotFoundError:
        return "from source"
