"""What a training run leaves: the artefact with its card, the resolved config, the report and a TensorBoard log."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kws.config import to_dict
from kws.data.synth.timbre import Timbres
from kws.evaluate.report import Report, write_report
from kws.model.artefact import Keyword, WakeWord
from kws.model.encoder import Encoder
from kws.model.files import write_atomically
from kws.model.head import Head
from kws.train.calibration import Calibrated
from kws.train.sounds import Sounds

if TYPE_CHECKING:
    from kws.train.wakeword import WakeWordConfig

RECORDED_VERSIONS = ("kws", "torch", "numpy", "espeakng-loader")


@dataclass(frozen=True)
class TrainedWakeWord:
    """What a training run made.

    Attributes:
        path: folder of the artefact.
        wakeword: the artefact itself.
        held_out: what was measured on held-out audio.
    """

    path: Path
    wakeword: WakeWord
    held_out: Calibrated


def assemble(
    head: Head,
    encoder: Encoder,
    settings: WakeWordConfig,
    sounds: tuple[Sounds, Sounds],
    calibrated: Calibrated,
    duration_s: float,
) -> WakeWord:
    """Returns the artefact of a trained head."""
    takes = [take for part in sounds for speaker in part.speakers for take in speaker.phrases]
    keyword = Keyword(settings.phrase, round(float(np.median([take.end_s for take in takes])), 2), settings.trigger)
    details: dict[str, Any] = {
        "created": date.today().isoformat(),
        "seed": settings.seed,
        "duration_s": round(duration_s, 1),
        "made_from": _counts(sounds),
        "metrics": calibrated.to_dict(),
        "versions": versions(),
        "data_licences": _licences(sounds),
        "config": to_dict(settings),
    }
    return make_wakeword(keyword, head, encoder, settings, details)


def make_wakeword(
    keyword: Keyword, head: Head, encoder: Encoder, settings: WakeWordConfig, details: dict[str, Any]
) -> WakeWord:
    """Returns the artefact of `head`, which was trained on `encoder` with `settings`."""
    return WakeWord(
        keywords=(keyword,),
        encoder=encoder.settings,
        encoder_sha256=encoder.sha256,
        dim=encoder.dim,
        num_states=encoder.num_states,
        head=settings.head,
        weights={name: tensor.detach().numpy() for name, tensor in head.state_dict().items()},
        details=details,
    )


def write_result(out: Path, wakeword: WakeWord, config: str, report: Report) -> None:
    """Writes the artefact, its card, `config.toml`, `report/` and `log/` into `out`."""
    write_report(out / "report", report)
    _write_log(out / "log", report)
    write_atomically(out / "config.toml", config.encode())
    wakeword.save(out, card=card(wakeword))


def card(wakeword: WakeWord) -> str:
    """Returns CARD.md: what the wake word was made from, what was measured, and what that doesn't show."""
    details = wakeword.details
    at = details["metrics"]["at_threshold"]
    low, high = at["false_rejection_rate_interval"]
    rate_low, rate_high = at["false_alarms_per_hour_interval"]
    measured = (
        f"missed {at['num_missed']} of {at['num_positives']}, {at['false_rejection_rate']:.1%} (95 % interval "
        f"{low:.1%}–{high:.1%}); {at['num_false_alarms']} false alarms in {at['hours']:.2f} h (95 % interval "
        f"{rate_low:.2g}–{rate_high:.2g} an hour)"
    )
    made_from = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in details["made_from"].items())
    licences = "\n".join(f"- {licence}" for licence in details["data_licences"])
    return f"""# Wake word "{wakeword.keywords[0].name}"

Made with `kws` on {details["created"]}, seed {details["seed"]}, encoder `{wakeword.encoder.name}` (SHA-256
{wakeword.encoder_sha256[:16]}…), in {details["duration_s"]:.0f} s on {platform.machine()}.

## Made from
{made_from}

## Measured
On {details["metrics"]["measured_on"]}, at the threshold {details["metrics"]["at_threshold"]["threshold"]:g}:
{measured}.

These are not figures for real people in a real room unless such recordings were given: measure with `kws evaluate`.

## Data licences
{licences}
"""


def _counts(sounds: tuple[Sounds, Sounds]) -> dict[str, Any]:
    training, validation = sounds
    return {
        "synthetic_voices": len(training.speakers) - training.num_recorded,
        "held_out_synthetic_voices": len(validation.speakers) - validation.num_recorded,
        "timbres_of_real_people": len(training.timbres.speakers) if training.timbres else 0,
        "recordings_of_the_phrase": training.num_recorded,
        "held_out_recordings_of_the_phrase": validation.num_recorded,
        "recordings_of_other_speech": len(training.background) + len(validation.background),
        "recordings_of_noise": len(training.noises) + len(validation.noises),
        "recorded_rooms": len(training.rirs) + len(validation.rirs),
    }


def _licences(sounds: tuple[Sounds, Sounds]) -> list[str]:
    licences = synthesis_licences(sounds[0].timbres)
    if any(part.num_recorded or part.background or part.noises or part.rirs for part in sounds):
        licences.append("recordings: given by the user, under his own terms")
    return licences


def synthesis_licences(timbres: Timbres | None) -> list[str]:
    """Returns what to say of synthetic speech, and of the people whose `timbres` it was given."""
    from_people = timbres.details.get("licences", []) if timbres else []
    made = "synthetic speech: made on this machine by this run"
    return [made, *(f"timbres of its voices: {licence}" for licence in from_people)]


def versions() -> dict[str, str]:
    """Returns the versions that an artefact records: of Python and of the packages that shaped it."""
    found = {"python": platform.python_version()}
    for name in RECORDED_VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _write_log(folder: Path, report: Report) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for epoch, loss in enumerate(report.losses):
            writer.add_scalar("loss", loss, epoch)
        for index, point in enumerate(report.points):
            writer.add_scalar("det/false_rejection_rate", point.false_rejection_rate, index)
            writer.add_scalar("det/false_alarms_per_hour", point.false_alarms_per_hour, index)
