"""Takes the README's picture of `kws demo`: a real run, in headless Chromium, whose microphone hears synthetic speech.

Launch:
    python demo/screenshot.py                                   # demo/page.png, with the wake word of the tests
    python demo/screenshot.py hey_computer --out page.png --dark --phone

It needs Playwright (`pip install playwright`) and Chromium.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from kws.data.text import random_sentence
from kws.detect.detector import load

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browsing import Shown, launch, say  # noqa: E402 (what the browser tests use)

NUM_PHRASES = 4
PAUSE_S = 0.9
THRESHOLD_SHARE = 0.44
"""Where the threshold is dragged to, as a share of the chart's height."""
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


def main() -> int:
    """Serves, listens, drags the threshold, takes the picture; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(ROOT / "pretrained/hey_computer"), help="the wake word")
    parser.add_argument("--out", type=Path, default=ROOT / "demo/page.png", help="the picture")
    parser.add_argument("--seconds", type=float, default=31.0, help="how long it listens")
    parser.add_argument("--dark", action="store_true", help="in dark colours")
    parser.add_argument("--phone", action="store_true", help="on a phone's screen")
    arguments = parser.parse_args()
    (keyword, *_) = load(arguments.model).keywords
    with tempfile.TemporaryDirectory() as folder, served(arguments.model, Path(folder)) as url:
        recording = speech(keyword, Path(folder) / "speech.wav")
        num_heard = take_picture(url, recording, arguments)
    print(f"{arguments.out}: {num_heard} detections of '{keyword}', {arguments.out.stat().st_size / 1e3:.0f} kB")
    return int(num_heard == 0)


def speech(keyword: str, path: Path) -> Path:
    """Writes the keyword among other sentences, by voices that training never heard, and returns the path."""
    rng = np.random.default_rng(3)
    texts = [text for _ in range(NUM_PHRASES) for text in (keyword, random_sentence(rng, 3, 6, avoid=keyword))]
    return say(path, texts, rng, PAUSE_S)


@contextmanager
def served(model: str, folder: Path) -> Iterator[str]:
    """Yields the address of a `kws demo` of `model`."""
    command = [sys.executable, "-m", "kws", "demo", str(Path(model).resolve()), "--web", "http://127.0.0.1:0"]
    child = subprocess.Popen(command, cwd=folder, env=None, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stderr is not None
        lines = iter(child.stderr.readline, "")
        yield next(line.split()[-1] for line in lines if line.startswith("listening on "))
    finally:
        child.terminate()
        child.communicate()


def take_picture(url: str, recording: Path, arguments: argparse.Namespace) -> int:
    """Writes the picture and returns how many detections were listed by then."""
    width, height = SIZES["phone" if arguments.phone else "desktop"]
    options = {"color_scheme": "dark" if arguments.dark else "light", "permissions": ["microphone"]}
    with sync_playwright() as playwright:
        browser = launch(playwright, recording)
        page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
        page.goto(url)
        shown = Shown(page, [])
        shown.listen_for(1)
        page.wait_for_timeout(1000 * arguments.seconds)
        shown.drag(THRESHOLD_SHARE)
        shown.effect()
        page.wait_for_timeout(500)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=arguments.out)
        num_heard = shown.num_heard
        browser.close()
    return num_heard


if __name__ == "__main__":
    sys.exit(main())
