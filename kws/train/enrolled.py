"""What an enrolment leaves: a threshold set on held-out speech, and an artefact that says what was not measured."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from kws.config import to_dict
from kws.data.pool import Take
from kws.data.synth.timbre import Timbres
from kws.evaluate.metrics import count_firings, poisson_interval
from kws.model.artefact import Keyword, WakeWord
from kws.model.encoder import Encoder
from kws.model.head import Head
from kws.train.calibration import head_logits, smoothed_logits, tail_level, threshold_logit
from kws.train.head_training import FrameSet
from kws.train.losses import NEGATIVE
from kws.train.result import make_wakeword, synthesis_licences, versions
from kws.train.wakeword import WakeWordConfig

MAX_MISSED_SHARE = 0.02
"""Share of its own training windows that a threshold may miss at most, whatever the false alarms."""
MISSES_NOT_MEASURED = "misses: every recording was learned from, none was held out"
SPEECH_NOT_MEASURED = "false alarms on people's speech: the speech that must not fire was synthetic"


@dataclass(frozen=True)
class QuietFrames:
    """Held-out audio without the phrase.

    Attributes:
        frames: (num_windows, num_frames, dim) float16.
        are_people: whether people speak in it, of an encoder's bank, and not synthetic voices.
    """

    frames: np.ndarray
    are_people: bool


@dataclass(frozen=True)
class Enrolled:
    """What an enrolment made.

    Attributes:
        path: folder of the artefact.
        wakeword: the artefact itself.
    """

    path: Path
    wakeword: WakeWord


def calibrate_enrolled(
    head: Head, data: FrameSet, quiet: QuietFrames, settings: WakeWordConfig, hop_s: float
) -> dict[str, Any]:
    """Shifts the bias of `head` in place so that the trigger's threshold suits, and returns what was measured.

    The rate is that of `tail_level`. The threshold stays where the head's own training windows still fire.

    Args:
        head: trained.
        data: what it was trained on.
        quiet: what nothing may fire on.
        settings: the rate aimed at, and the trigger.
        hop_s: seconds between two frames.
    """
    trigger = settings.trigger
    positives = data.frames[data.end_frames != NEGATIVE]
    peaks = np.array([smoothed_logits(logits, trigger).max() for logits in head_logits(head, positives)])
    others = head_logits(head, quiet.frames)
    tail = tail_level(others, trigger, settings.false_alarms_per_hour, hop_s)
    own = float(np.quantile(peaks, MAX_MISSED_SHARE))
    shift = threshold_logit(trigger) - min(tail, own)
    with torch.no_grad():
        head.output.bias.add_(shift)
    num_alarms = sum(count_firings(expit(logits + shift), trigger, hop_s) for logits in others)
    hours = sum(map(len, others)) * hop_s / 3600
    whose = "people" if quiet.are_people else "synthetic voices"
    return {
        "measured_on": f"{whose} that training never heard, in noise",
        "num_false_alarms": num_alarms,
        "hours": round(hours, 4),
        "false_alarms_per_hour_interval": poisson_interval(num_alarms, hours),
        "target_false_alarms_per_hour": settings.false_alarms_per_hour,
        "is_target_in_reach": tail <= own,
        "training_windows_with_the_phrase": len(peaks),
        "training_windows_missed": int(np.sum(peaks + shift < threshold_logit(trigger))),
        "not_measured": [MISSES_NOT_MEASURED, *([] if quiet.are_people else [SPEECH_NOT_MEASURED])],
    }


def describe(
    head: Head,
    encoder: Encoder,
    settings: WakeWordConfig,
    takes: list[Take],
    timbres: Timbres | None,
    measured: dict[str, Any],
    duration_s: float,
) -> WakeWord:
    """Returns the artefact of an enrolled head."""
    length_s = round(float(np.median([take.end_s for take in takes])), 2)
    details: dict[str, Any] = {
        "created": date.today().isoformat(),
        "method": "enrolment",
        "seed": settings.seed,
        "duration_s": round(duration_s, 1),
        "made_from": {
            "recordings_of_the_phrase": len(takes),
            "synthetic_voices": settings.pool.num_voices,
        },
        "metrics": measured,
        "versions": versions(),
        "data_licences": [
            "recordings: given by the user, under his own terms",
            *synthesis_licences(timbres),
        ],
        "config": to_dict(settings),
    }
    keyword = Keyword(settings.phrase, length_s, settings.trigger)
    return make_wakeword(keyword, head, encoder, settings, details)


def card(wakeword: WakeWord) -> str:
    """Returns CARD.md: how few recordings it comes from, and what nobody has measured."""
    details = wakeword.details
    measured, made_from = details["metrics"], details["made_from"]
    low, high = measured["false_alarms_per_hour_interval"]
    not_measured = "\n".join(f"- {what}" for what in measured["not_measured"])
    licences = "\n".join(f"- {licence}" for licence in details["data_licences"])
    return f"""# Wake word "{wakeword.keywords[0].name}"

Enrolled with `kws` on {details["created"]}, seed {details["seed"]}, from {made_from["recordings_of_the_phrase"]}
recordings, in {details["duration_s"]:.0f} s on {platform.machine()}; encoder `{wakeword.encoder.name}` (SHA-256
{wakeword.encoder_sha256[:16]}…).

## Measured
On {measured["measured_on"]}: {measured["num_false_alarms"]} false alarms in {3600 * measured["hours"]:.0f} s (95 %
interval {low:.2g}–{high:.2g} an hour). Of the windows that it was trained on, it misses
{measured["training_windows_missed"]} of {measured["training_windows_with_the_phrase"]}.

## Not measured
{not_measured}

Measure with `kws evaluate`; improve with `kws train PHRASE --from` this folder.

## Data licences
{licences}
"""
