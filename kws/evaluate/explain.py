"""What was heard in a recording: phones with times from the removed output layer, and the detections among them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kws.audio.io import read_blocks
from kws.detect.detector import Detection, Detector
from kws.detect.files import detect_file
from kws.evaluate.heard import BOUNDARY, Listener, Phone, between, spell, utterances
from kws.model.artefact import ARCHIVE_SUFFIX, METADATA_FILE
from kws.model.files import pretrained_folder

BLOCK_S = 10.0
MARGIN_S = 0.3
"""What is heard this long before a detection's start counts to it, in seconds: its length is only typical."""


@dataclass(frozen=True)
class Explanation:
    """What was heard in one recording.

    Attributes:
        path: the recording.
        phones: all of it, in order.
        detections: in order of their ends; empty where only an encoder listened.
    """

    path: Path
    phones: Sequence[Phone]
    detections: Sequence[Detection]

    def heard_in(self, detection: Detection) -> list[Phone]:
        """Returns the phones around `detection`."""
        return between(self.phones, detection.start_s - MARGIN_S, detection.end_s)

    def to_dict(self) -> dict[str, Any]:
        """Returns phones and detections with their times, for JSON."""
        return {
            "file": str(self.path),
            "detections": [asdict(one) | {"heard": spell(self.heard_in(one))} for one in self.detections],
            "phones": [asdict(phone) for phone in self.phones],
        }

    def lines(self, has_times: bool = False) -> list[str]:
        """Returns what was heard for people to read, detections between; with `has_times`, a line for each phone."""
        timed = [(words[0].start_s, _line(words)) for words in utterances(self.phones)]
        if has_times:
            timed = [(phone.start_s, _phone_line(phone)) for phone in self.phones if phone.label != BOUNDARY]
        timed += [(one.end_s, self._mark(one)) for one in self.detections]
        lines = [line for _, line in sorted(timed, key=lambda entry: entry[0])]
        return [f"{self.path}:", *(lines or ["  nothing was heard"])]

    def _mark(self, detection: Detection) -> str:
        heard = spell(self.heard_in(detection)) or "nothing"
        return (
            f"> {detection.start_s:7.2f} – {detection.end_s:.2f} s  '{detection.keyword}' detected, score "
            f"{detection.score:.3f}; heard there: {heard}"
        )


def explain_file(path: Path, listener: Listener, detector: Detector | None = None) -> Explanation:
    """Returns what was heard in the recording at `path`.

    Args:
        path: any audio file, of any length.
        listener: the encoder with its output layer.
        detector: marks its detections.

    Raises:
        AudioError: an unreadable file.
    """
    phones = listener.hear_blocks(read_blocks(path, BLOCK_S))
    return Explanation(path, phones, list(detect_file(detector, path)) if detector is not None else [])


def is_wakeword(name: str) -> bool:
    """Returns whether `name` is a wake word, and not an encoder."""
    path = Path(name).expanduser()
    folders = (path, pretrained_folder() / name)
    return path.suffix == ARCHIVE_SUFFIX or any((folder / METADATA_FILE).is_file() for folder in folders)


def json_line(explanation: Explanation) -> str:
    """Returns `explanation` as one line of JSON."""
    return json.dumps(explanation.to_dict(), ensure_ascii=False)


def _line(phones: Sequence[Phone]) -> str:
    return f"  {phones[0].start_s:7.2f} – {phones[-1].end_s:.2f} s  {spell(phones)}"


def _phone_line(phone: Phone) -> str:
    return f"  {phone.start_s:7.2f} – {phone.end_s:.2f} s  {phone.label:3} {phone.probability:.2f}"
