"""`kws doctor` finds what is wrong, says what to do, and works without a microphone or torch."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_system import pulse_null_sink

from kws.audio.microphone import Device
from kws.cli import main
from kws.doctor import machine, sound
from kws.doctor.finding import Finding, State
from kws.errors import MicrophoneError
from kws.model.catalogue import list_shipped

ROOT = Path(__file__).resolve().parents[1]


def noise(level: float = 0.01, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, round(seconds * 16_000)).astype(np.float32)


class FakeMicrophone:
    """Hears `sound` again and again; the device is at 48 kHz and lost a block."""

    sound = noise()

    def __init__(self, device: str | None = None) -> None:
        self.device_name, self.device_rate, self.dropped_blocks = "Test microphone", 48_000, 1

    def __enter__(self) -> FakeMicrophone:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def __iter__(self) -> Any:
        while True:
            yield self.sound


@pytest.fixture
def microphone(monkeypatch: pytest.MonkeyPatch) -> type[FakeMicrophone]:
    monkeypatch.setattr(sound, "Microphone", FakeMicrophone)
    monkeypatch.setattr(sound, "list_devices", lambda: [Device(0, "Test microphone", 1, 48_000, True)])
    return FakeMicrophone


def by_check(findings: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


class TestSound:
    def test_a_good_microphone(self, microphone: type[FakeMicrophone]) -> None:
        found = by_check(sound.check_microphone(None, 0.5))
        assert found["microphone"].measured == "Test microphone opens at 48000 Hz, resampled to 16000 Hz"
        assert found["lost blocks"].state is State.warning
        assert found["level"].state is State.ok
        assert found["level"].values["level_db"] == pytest.approx(-40, abs=0.5)

    @pytest.mark.parametrize(
        ("heard", "check", "state", "remedy"),
        [
            (np.zeros(16_000, np.float32), "level", State.failed, "unmute"),
            (np.clip(noise(2.0), -1, 1), "clipping", State.warning, "gain"),
            (noise() + np.float32(0.1), "DC offset", State.warning, "high-pass"),
        ],
    )
    def test_faults_are_measured_with_a_remedy(self, heard: np.ndarray, check: str, state: State, remedy: str) -> None:
        found = by_check(sound.judge(heard))[check]
        assert found.state is state
        assert remedy in found.remedy
        assert any(character.isdigit() for character in found.measured) or state is State.failed

    def test_a_quiet_room_is_no_fault(self) -> None:
        assert [finding.state for finding in sound.judge(noise(1e-4))] == [State.ok]

    def test_no_portaudio_is_told_and_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse() -> list[Device]:
            raise MicrophoneError("the PortAudio library is missing; install it with: sudo apt install libportaudio2")

        monkeypatch.setattr(sound, "list_devices", refuse)
        (found,) = sound.check_devices()
        assert found.state is State.warning
        assert "libportaudio2" in found.measured
        assert [finding.state for finding in sound.check_microphone(None, 1.0)] == [State.skipped]
        assert [finding.state for finding in sound.check_microphone("USB", 1.0)] == [State.failed]
        assert sound.check_echo(None).state is State.skipped

    def test_no_sound_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sound.sys, "platform", "linux")
        monkeypatch.setattr(sound.shutil, "which", lambda name: "pactl")
        refused = types.SimpleNamespace(returncode=1, stderr="Connection refused\n", stdout="")
        monkeypatch.setattr(sound.subprocess, "run", lambda *arguments, **options: refused)
        found = sound.check_server()
        assert found.state is State.warning
        assert "Connection refused" in found.measured
        assert "pulseaudio --start" in found.remedy

    def test_echo_of_a_loudspeaker(self, microphone: type[FakeMicrophone], monkeypatch: pytest.MonkeyPatch) -> None:
        played = []

        def play(waveform: np.ndarray, rate: int) -> None:
            played.append(rate)
            monkeypatch.setattr(microphone, "sound", 10 * microphone.sound)

        fake = types.SimpleNamespace(play=play, stop=lambda: None, PortAudioError=OSError)
        monkeypatch.setattr(sound, "require", lambda module, extra: fake)
        found = sound.check_echo(None)
        assert played == [16_000]
        assert found.state is State.warning
        assert found.values["above_room_db"] == pytest.approx(20, abs=0.5)
        assert "demo/assistant.py" not in found.remedy
        assert "demo/speaking.py" in found.remedy


class TestMachine:
    def test_packages_are_named_with_their_versions(self) -> None:
        found = by_check(machine.check_packages())["packages"]
        assert found.state is State.ok
        assert found.values["numpy"] == metadata.version("numpy")

    def test_a_missing_optional_package_is_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_version", lambda name: "" if name == "torch" else "1.0")
        found = by_check(machine.check_packages())["package torch"]
        assert found.state is State.skipped
        assert "pip install 'kws[train]'" in found.remedy
        assert machine.check_torch_pair().state is State.skipped

    def test_a_torch_that_does_not_fit_torchaudio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_version", lambda name: "2.11.0+cpu")
        refused = types.SimpleNamespace(returncode=1, stderr="Traceback\nOSError: libtorch_cuda.so: not found\n")
        monkeypatch.setattr(machine.subprocess, "run", lambda *arguments, **options: refused)
        found = machine.check_torch_pair()
        assert found.state is State.failed
        assert "libtorch_cuda.so" in found.measured
        assert "torchaudio~=2.11.0" in found.remedy

    def test_the_shipped_models_are_whole(self) -> None:
        findings = list(machine.check_models())
        assert len(findings) == len(list_shipped())
        assert {finding.state for finding in findings} == {State.ok}

    def test_a_damaged_wake_word(self, make_wakeword: Callable[..., Any], tmp_path: Path) -> None:
        folder = make_wakeword("hey computer").save(tmp_path / "hey_computer")
        (folder / "head.safetensors").write_bytes(b"damaged")
        found = by_check(machine.check_models([str(folder)]))[f"wake word {folder}"]
        assert found.state is State.failed
        assert "head.safetensors" in found.measured
        assert found.remedy

    def test_a_hash_that_pip_recorded_differently(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_recorded_sha256", lambda path: "0" * 64)
        found = next(finding for finding in machine.check_models() if finding.check.startswith("encoder"))
        assert found.state is State.failed
        assert "force-reinstall" in found.remedy

    def test_speed(self, tiny_encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = machine.check_speed(str(tiny_encoder_folder))
        assert found.state in (State.ok, State.warning)  # the machine may be busy
        assert 0 < found.values["cpu_s_per_s"] < 1
        monkeypatch.setattr(machine, "_measure", lambda encoder: (1.5, 1.5))
        assert machine.check_speed().state is State.failed
        monkeypatch.setattr(machine, "_measure", lambda encoder: (0.1, 0.9))
        assert machine.check_speed().state is State.warning


class TestCommand:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_measure", lambda encoder: (0.03, 0.04))
        monkeypatch.setattr(machine, "check_torch_pair", lambda: Finding("torch", State.skipped, "not here"))

    def run(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as exit_info:
            main(["doctor", *arguments])
        return int(exit_info.value.code or 0)

    def test_json(self, microphone: type[FakeMicrophone], capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("--json", "--seconds", "0.5") == 0
        findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert all(set(one) == {"check", "state", "measured", "remedy", "values"} for one in findings)
        assert {"python", "packages", "speed", "microphone", "level"} <= {one["check"] for one in findings}

    def test_a_failure_is_the_exit_code(
        self, microphone: type[FakeMicrophone], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(microphone, "sound", np.zeros(16_000, np.float32))
        assert self.run("--seconds", "0.5") == 1
        printed = capsys.readouterr().out
        assert "failed   level: nothing but zeros comes from it\n         → unmute" in printed
        assert self.run("--no-microphone") == 0

    @pytest.mark.parametrize("command", ["serve", "doctor"])
    def test_help_fits_a_terminal(
        self, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit):
            main([command, "--help"])
        printed = capsys.readouterr().out
        assert "Example" in printed
        assert max(map(len, printed.splitlines())) <= 80


ECHO = """
import json
from kws.doctor import sound
findings = [sound.check_server(), *sound.check_devices(), *sound.check_microphone(None, 0.5), sound.check_echo(None)]
print(json.dumps([finding.as_json() for finding in findings]))
"""


@pytest.mark.microphone
def test_a_real_sound_server_and_its_echo() -> None:
    """What is played into the null sink is what its monitor hears: an echo as loud as can be."""
    with pulse_null_sink() as pulse:
        child = subprocess.run(
            [sys.executable, "-c", ECHO], cwd=ROOT, env=pulse.env, capture_output=True, text=True, timeout=120
        )
    assert child.returncode == 0, child.stderr
    server, microphones, opened, level, echo = json.loads(child.stdout)
    assert (server["state"], microphones["state"], opened["state"]) == ("ok", "ok", "ok"), child.stdout
    assert level["remedy"].startswith("unmute")  # an idle null sink gives zeros
    assert echo["state"] == "warning", child.stdout
    assert echo["values"]["above_room_db"] > 40
