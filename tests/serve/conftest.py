"""Detectors and a server for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from demo_server import TRIGGER
from serving import Serve, Serving

from kws.detect.detector import Detector
from kws.serve.settings import ServeConfig


@pytest.fixture(scope="session")
def eager_detector(make_wakeword: Callable[..., Any]) -> Detector:
    """Returns a detector of two keywords that fire on anything, every 0.2 s."""
    wakewords = [make_wakeword("hey computer"), make_wakeword("go on", seed=1)]
    return Detector([wakeword.with_threshold(0.0) for wakeword in wakewords])


@pytest.fixture(scope="session")
def deaf_detector(make_wakeword: Callable[..., Any]) -> Detector:
    """Returns a detector that never fires."""
    return Detector([make_wakeword("hey computer").with_threshold(1.0)])


@pytest.fixture
def serve(eager_detector: Detector) -> Serve:
    """Returns a function that serves a detector, by default the eager one, with limits given by name."""

    @contextmanager
    def serve(detector: Detector | None = None, uris: dict[str, Any] | None = None, **limits: Any) -> Iterator[Serving]:
        with Serving(detector or eager_detector, ServeConfig(**limits), **(uris or {})) as serving:
            yield serving

    return serve


@pytest.fixture
def folder(make_wakeword: Callable[..., Any], tmp_path: Path) -> Path:
    """Returns a folder with two wake words for the demo, a folder and an archive."""
    make_wakeword("hey computer", seed=5, trigger=TRIGGER).save(tmp_path / "hey_computer")
    make_wakeword("go on", trigger=TRIGGER).save(tmp_path / "go_on.kws")
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo offers what a test makes, not what comes with the package."""
    monkeypatch.setattr("kws.serve.demo_shelf.pretrained_folder", lambda: tmp_path / "nothing")
