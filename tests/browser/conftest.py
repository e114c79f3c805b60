"""The demo, served to headless Chromium with a microphone fed from a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import PATIENCE_MS, Open, Shown, find_chromium, launch, say
from serving import Serving

WAKEWORD = Path(__file__).parents[2] / "pretrained/hey_computer"
TINY_TRAINING = (
    "pool.num_voices=3", "pool.num_validation_voices=2", "windows.num_positives=16", "windows.num_negatives=16",
    "validation_windows=2", "training.epochs=2", "training.rounds=1", "training.batch_size=16", "head.hidden=8",
)  # fmt: skip


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    """Returns Playwright, which drives the browser; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="drives the browser: pip install playwright")
    if find_chromium() is None:
        pytest.skip("no Chromium here: install it (apt install chromium), or name it in KWS_CHROMIUM")
    with api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture
def show(playwright: Any) -> Iterator[Open]:
    """Returns a function that opens an address in a browser whose microphone hears a recording, again and again."""
    with ExitStack() as stack:

        def show(url: str, recording: Path, size: tuple[int, int] = (1280, 800), **options: Any) -> Shown:
            browser = launch(playwright, recording)
            stack.callback(browser.close)
            viewport = {"width": size[0], "height": size[1]}
            page = browser.new_context(viewport=viewport, permissions=["microphone"], **options).new_page()
            page.set_default_timeout(PATIENCE_MS)
            shown, host = Shown(page, []), url.split("/")[2]
            page.on("pageerror", lambda error: shown.problems.append(str(error)))
            page.on("request", lambda request: _note_foreign(request.url, host, shown.problems))
            page.goto(url)
            return shown

        yield show


def _note_foreign(url: str, host: str, problems: list[str]) -> None:
    if url.split(":")[0] not in ("data", "blob") and url.split("/")[2] != host:
        problems.append(f"a request to {url}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a folder with the wake word "hey computer", which tests may change."""
    shutil.copytree(WAKEWORD, tmp_path / "wakewords/hey_computer")
    return tmp_path / "wakewords"


@pytest.fixture
def demo(folder: Path, tiny_encoder_folder: Path) -> Callable[..., Any]:
    """Returns a function that serves the demo of `folder`, whose trainings are tiny."""
    from kws.serve.demo import Demo, make_demo_app
    from kws.serve.demo_shelf import Shelf
    from kws.serve.demo_watch import Watch
    from kws.serve.settings import ServeConfig

    tiny = (*TINY_TRAINING, f"encoder.name={json.dumps(str(tiny_encoder_folder))}")

    @contextmanager
    def serve(*overrides: str, port: int = 0) -> Iterator[Serving]:
        app = partial(make_demo_app, Demo(Shelf([], folder), (*tiny, *overrides)))
        web = [f"http://127.0.0.1:{port}"]
        with Serving(Watch(), ServeConfig(), wyoming=[], web=web, web_app=app) as serving:
            yield serving

    return serve


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a recording of "hey computer", said twice in eight seconds, with other words between."""
    texts = ["hey computer", "the weather is fine", "hey computer"]
    path = tmp_path_factory.mktemp("spoken") / "spoken.wav"
    return say(path, texts, np.random.default_rng(3), pause_s=1.2)
