"""What the browser tests share: Chromium, a page whose microphone hears a recording, and ways to use it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.io import write_audio
from kws.data.synth import VoiceConfig, draw_voice, speak
from kws.frames import SAMPLE_RATE

UNBENT = VoiceConfig(rate=(0.9, 1.1), pitch=(0.95, 1.1), pitch_range=(0.8, 1.2), tract=(0.97, 1.03))
PATIENCE_MS = 120_000
"""How long a test waits for what should come at once: the machine may be busy."""
EFFECT = re.compile(r"(\d+)× at \d\.\d\d in the last .*; heard (\d+)×")


def find_chromium() -> str | None:
    """Returns the path of Chromium or Chrome, None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("KWS_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def launch(playwright: Any, recording: Path) -> Any:
    """Returns a headless browser whose microphone hears `recording` again and again."""
    arguments = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}",
    ]
    return playwright.chromium.launch(executable_path=find_chromium(), args=arguments)


@dataclass
class Shown:
    """A page of the demo.

    Attributes:
        page: Playwright's.
        problems: errors of its scripts and requests to other hosts; must stay empty.
    """

    page: Any
    problems: list[str]

    def wait_for(self, selector: str, text: str) -> str:
        """Returns the text of `selector` once it holds `text`, a regular expression."""
        self.page.locator(selector).filter(has_text=re.compile(text)).first.wait_for(timeout=PATIENCE_MS)
        return str(self.page.text_content(selector))

    def listen_for(self, num_detections: int) -> None:
        """Starts the microphone and returns once there were so many detections."""
        self.wait_for(".choice[aria-pressed=true]", "hey computer")
        self.page.click("#listen")
        self.wait_for_log(num_detections)

    def wait_for_log(self, num_detections: int) -> None:
        """Returns once so many detections are listed."""
        self.page.locator("#log li").nth(num_detections - 1).wait_for(timeout=PATIENCE_MS)

    @property
    def num_heard(self) -> int:
        """Detections listed."""
        return int(self.page.locator("#log li").count())

    @property
    def threshold(self) -> float:
        """The first threshold, as a screen reader hears it."""
        return float(self.page.get_attribute(".handle", "aria-valuenow"))

    def drag(self, to_share: float) -> None:
        """Drags the first threshold with the mouse to a height of the chart: 0 at its top."""
        mouse, chart = self.page.mouse, self.page.locator("#chart").bounding_box()
        handle = self.page.locator(".handle").first.bounding_box()
        x = chart["x"] + chart["width"] / 2
        mouse.move(x, handle["y"] + handle["height"] / 2)
        mouse.down()
        mouse.move(x, chart["y"] + chart["height"] * to_share, steps=8)
        mouse.up()

    def effect(self) -> tuple[int, int]:
        """Returns the detections that there would have been at the threshold set, and those that there were."""
        found = EFFECT.search(self.wait_for(".effect", rf"× at {self.threshold:.2f} "))
        assert found
        return int(found[1]), int(found[2])


Open = Callable[..., Shown]


def say(path: Path, texts: list[str], rng: np.random.Generator, pause_s: float, gain: float = 0.4) -> Path:
    """Writes `texts`, each by a voice of its own, with pauses around them and a little noise, and returns the path."""
    pause = np.zeros(round(pause_s * SAMPLE_RATE), np.float32)
    pieces = [pause]
    for text in texts:
        pieces += [gain * speak(text, draw_voice(rng, "validation", config=UNBENT)).waveform, pause]
    waveform = np.concatenate(pieces)
    waveform = waveform + (rng.normal(0, 0.001, len(waveform)) if gain else 0)
    write_audio(path, np.clip(waveform, -1, 1).astype(np.float32))
    return path
