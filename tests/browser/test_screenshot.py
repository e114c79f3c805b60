"""The script that takes the README's picture takes one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from browsing import find_chromium

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 200_000
"""Largest picture that the repository takes."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: install it, or name it in KWS_CHROMIUM"),
]


def test_it_shows_detections(tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="drives the browser: pip install playwright")
    picture = tmp_path / "page.png"
    command = [sys.executable, ROOT / "demo/screenshot.py", "--seconds", "2", "--phone", "--out", picture]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert "detections of 'hey computer'" in child.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < MAX_BYTES


def test_the_picture_of_the_readme_is_small() -> None:
    assert (ROOT / "demo/page.png").stat().st_size < MAX_BYTES
