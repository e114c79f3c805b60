"""The examples in demo/ run, and do what they say; a pipe from another program works as ffmpeg's would."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kws.audio.io import read_audio, write_audio
from kws.audio.samples import Waveform
from kws.detect.detector import Detection, Detector
from kws.frames import SAMPLE_RATE

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 1280


def example(name: str) -> types.ModuleType:
    """Returns the script demo/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"demo_{name}", ROOT / "demo" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(waveform: np.ndarray) -> Iterator[Waveform]:
    yield from (waveform[start : start + BLOCK] for start in range(0, len(waveform), BLOCK))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Returns what is as loud as speech."""
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


class LoudDetector:
    """Stands in for a `Detector`: fires in the first loud block of its stream."""

    def __init__(self) -> None:
        self.num_streams = 0

    def stream(self) -> LoudDetector:
        return self

    def reset(self) -> None:
        self.has_fired = False

    def feed(self, block: Waveform) -> list[Detection]:
        is_loud = bool(np.abs(block).max() > 0.05)
        fires, self.has_fired = is_loud and not getattr(self, "has_fired", False), is_loud
        return [Detection("hey computer", 0.9, 0.0, 0.0)] if fires else []


@pytest.fixture
def model(make_wakeword: Callable[..., object], tmp_path: Path) -> Path:
    """Returns an artefact that fires on anything."""
    wakeword = make_wakeword("hey computer")
    return wakeword.with_threshold(0.0).save(tmp_path / "hey_computer")  # type: ignore[attr-defined]


class TestAssistant:
    def test_the_command_after_the_wake_word_is_handed_on(self) -> None:
        word, command = speech(0.2), speech(1.5, seed=1)
        heard: list[np.ndarray] = []
        pieces = [silence(1), word, silence(0.6), command, silence(1.5)]
        pieces += [word, silence(0.6), 0.5 * command, silence(1.5)]
        example("assistant").assist(LoudDetector(), blocks(np.concatenate(pieces)), heard.append)
        assert len(heard) == 2
        for waveform, gain in zip(heard, (1.0, 0.5)):
            assert len(waveform) == pytest.approx(len(command) + 2 * 0.3 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
            assert np.abs(waveform).max() == pytest.approx(gain * np.abs(command).max(), rel=1e-6)

    def test_nothing_said_after_it_is_nothing_to_hand_on(self) -> None:
        heard: list[np.ndarray] = []
        pieces = [silence(1), speech(0.2), silence(10)]
        example("assistant").assist(LoudDetector(), blocks(np.concatenate(pieces)), heard.append)
        assert heard == []

    def test_the_script_runs_a_program_on_the_command(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        write_audio(tmp_path / "talk.wav", np.concatenate([silence(2), speech(1.0), silence(2)]))
        program = f"'{sys.executable}' -c 'import sys; print(\"got\", sys.argv[-1])'"
        arguments = ["--file", tmp_path / "talk.wav", "--out", tmp_path / "commands", "--exec", program]
        monkeypatch.setattr(sys, "argv", ["assistant.py", str(model), *map(str, arguments)])
        example("assistant").main()
        path = tmp_path / "commands/command-1.wav"
        assert f"got {path}" in capfd.readouterr().out
        assert len(read_audio(path)) / SAMPLE_RATE == pytest.approx(1.6, abs=0.1)


class TestSpeaking:
    def test_own_speech_does_not_wake(self) -> None:
        """The answer is loud in the microphone for a second after each wake word; the detector fires on all of it."""
        word, answer = speech(0.4), speech(1.0)
        sound = np.concatenate([silence(0.5), word, answer, silence(1.0), word, answer, silence(0.5)])
        speaking, heard_s, until_s = example("speaking"), [0.0], [0.0]

        def source() -> Iterator[Waveform]:
            for block in blocks(sound):
                heard_s[0] += len(block) / SAMPLE_RATE
                yield block

        def begin_to_speak() -> None:
            until_s[0] = heard_s[0] + 1.4

        assert speaking.converse(_EveryBlock(), blocks(sound), lambda: None, lambda: False) > 10
        assert speaking.converse(_EveryBlock(), source(), begin_to_speak, lambda: heard_s[0] <= until_s[0]) == 2


class _EveryBlock(LoudDetector):
    """Fires in every loud block."""

    def feed(self, block: Waveform) -> list[Detection]:
        return [Detection("hey computer", 0.9, 0.0, 0.0)] if np.abs(block).max() > 0.05 else []


class TestCapture:
    @pytest.fixture
    def run(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        def run(*arguments: object) -> None:
            write_audio(tmp_path / "talk.wav", speech(6.0))
            monkeypatch.chdir(tmp_path)
            monkeypatch.setattr(sys, "argv", ["capture.py", str(model), "--file", "talk.wav", *map(str, arguments)])
            example("capture").main()

        return run

    def test_nothing_is_kept_unless_asked_for(
        self, run: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = sorted(tmp_path.rglob("*.wav"))
        run()
        assert "hey computer" in capsys.readouterr().out
        assert set(tmp_path.rglob("*.wav")) - set(before) <= {tmp_path / "talk.wav"}

    def test_what_fired_is_kept(
        self, run: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("--capture", "fired")
        assert "does everybody here know?" in capsys.readouterr().out
        kept = sorted((tmp_path / "fired").glob("*.wav"))
        assert kept
        for path in kept:
            assert re.fullmatch(r"hey_computer-\d{8}T\d{6}\.\d+-[01]\.\d\d\.wav", path.name)
            assert 0.5 < len(read_audio(path)) / SAMPLE_RATE <= 3.1


@pytest.mark.skipif(os.name != "posix", reason="a pipe of the shell")
def test_a_pipe_from_another_program(model: Path, tmp_path: Path) -> None:
    """As `ffmpeg -i talk.mp3 -f s16le -ac 1 -ar 48000 - | kws listen hey_computer --stdin --rate 48000`."""
    write_pcm = (
        "import sys, numpy; pcm16 = numpy.random.default_rng(0).integers(-3000, 3000, 96_000, 'int16');"
        "[(sys.stdout.buffer.write(pcm16[start:start + 997].tobytes()), sys.stdout.flush())"
        " for start in range(0, 96_000, 997)]"
    )
    listen = f"'{sys.executable}' -m kws listen '{model}' --stdin --rate 48000 --json"
    piped = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -c \"{write_pcm}\" | {listen}"], cwd=ROOT, capture_output=True, text=True
    )
    assert piped.returncode == 0, piped.stderr
    assert '"keyword": "hey computer"' in piped.stdout
    assert "listened 2.0 s" in piped.stderr
    assert "dropped blocks: 0" in piped.stderr


def test_every_example_explains_itself(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("assistant", "speaking", "capture", "many_clients"):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
        with pytest.raises(SystemExit) as exit_info:
            example(name).main()
        assert exit_info.value.code == 0
        assert f"python demo/{name}.py" in capsys.readouterr().out


def test_a_real_detector_fits_the_examples(tiny_wakeword: object) -> None:
    detector = Detector([tiny_wakeword.with_threshold(0.0)])  # type: ignore[attr-defined]
    assert example("speaking").converse(detector, blocks(speech(1.0)), lambda: None, lambda: False) > 0
