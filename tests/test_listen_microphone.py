"""`kws listen` hears what a real sound server plays, through PortAudio, in a process of its own."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from audio_system import PulseNullSink, pulse_null_sink

from kws.audio.io import write_audio
from kws.data.synth import draw_voice, speak
from kws.frames import SAMPLE_RATE
from kws.model.artefact import WakeWord

pytestmark = pytest.mark.microphone

ROOT = Path(__file__).resolve().parents[1]
READY_S = 60.0
HEY_COMPUTER = Path(__file__).parents[1] / "pretrained/hey_computer"
"""Made by `python demo/typed_phrase.py`."""


@dataclass(frozen=True)
class Case:
    """What is played, and what must be heard.

    Attributes:
        model: an artefact.
        recording: a sound file.
        keyword: what its model detects.
        threshold: of the detection; the artefact's own without it.
        is_silent_before: whether nothing may be detected before the recording is played.
    """

    model: Path
    recording: Path
    keyword: str
    threshold: float | None = None
    is_silent_before: bool = True


@pytest.fixture(scope="module")
def pulse() -> Iterator[PulseNullSink]:
    with pulse_null_sink() as sink:
        yield sink


@pytest.fixture
def firing_case(make_wakeword: Callable[..., WakeWord], noise, tmp_path: Path) -> Case:
    """Returns a case whose model fires on anything: the path from the sound server to the detection is what counts."""
    write_audio(tmp_path / "noise.wav", noise)
    model = make_wakeword("hey computer").save(tmp_path / "model.kws")
    return Case(model, tmp_path / "noise.wav", "hey computer", threshold=0.0, is_silent_before=False)


@pytest.fixture
def wake_word_case(tmp_path: Path) -> Case:
    """Returns a case with a real wake word, said three times by voices that its training never heard."""
    rng = np.random.default_rng(0)
    pause = np.zeros(SAMPLE_RATE, np.float32)
    takes = [speak("hey computer", draw_voice(rng, "validation")).waveform for _ in range(3)]
    write_audio(tmp_path / "takes.wav", np.concatenate([part for take in takes for part in (0.5 * take, pause)]))
    return Case(HEY_COMPUTER, tmp_path / "takes.wav", "hey computer")


@pytest.mark.parametrize("case_name", ["firing_case", "wake_word_case"])
def test_listen_hears_what_is_played(pulse: PulseNullSink, request: pytest.FixtureRequest, case_name: str) -> None:
    case: Case = request.getfixturevalue(case_name)
    threshold = [] if case.threshold is None else ["--threshold", str(case.threshold)]
    process = subprocess.Popen(
        [sys.executable, "-m", "kws", "listen", str(case.model), "--json", *threshold],
        **{"cwd": ROOT, "env": pulse.env, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore Ctrl-C
    )
    lines = _read_in_background(process)
    messages = _wait_for(process, "listening to")
    time.sleep(1.0)  # so that silence is heard before the recording
    heard_before = _take_all(lines)
    pulse.play(case.recording)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    messages += process.stderr.read() if process.stderr else ""
    heard = [json.loads(line) for line in _take_all(lines)]
    assert process.returncode == 0, messages
    assert "listened" in messages
    assert "dropped blocks: 0" in messages
    assert heard, messages
    assert all(detection["keyword"] == case.keyword for detection in heard)
    assert not (case.is_silent_before and heard_before)


def _read_in_background(process: subprocess.Popen[str]) -> queue.Queue[str]:
    lines: queue.Queue[str] = queue.Queue()
    thread = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True)
    thread.start()
    return lines


def _wait_for(process: subprocess.Popen[str], start: str) -> str:
    assert process.stderr is not None
    seen, deadline = "", time.monotonic() + READY_S
    for line in process.stderr:
        seen += line
        if line.startswith(start):
            return seen
        if time.monotonic() > deadline:
            break
    pytest.fail(f"kws listen did not begin: {seen}")


def _take_all(lines: queue.Queue[str]) -> list[str]:
    taken = []
    while not lines.empty():
        taken.append(lines.get())
    return taken
