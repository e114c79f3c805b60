"""The microphone through the real PortAudio and a real sound server: what is played is what is heard."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from audio_system import PulseNullSink, pulse_null_sink

from kws.audio.io import write_audio

pytestmark = pytest.mark.microphone

RECORD = """
import sys
import numpy
from kws.audio.microphone import Microphone, list_devices
with Microphone({options}) as microphone:
    print("listening", microphone.device_rate, [device.name for device in list_devices()], flush=True)
    heard, num_samples = [], 0
    for block in microphone:
        heard.append(block)
        num_samples += block.size
        if num_samples >= {duration_s} * 16000:
            break
numpy.save(sys.argv[1], numpy.concatenate(heard))
print("dropped", microphone.dropped_blocks)
"""

FOREVER = """
from kws.audio.microphone import Microphone
from kws.errors import MicrophoneError
try:
    with Microphone() as microphone:
        for index, block in enumerate(microphone):
            if index == 3:
                print("listening", flush=True)
except MicrophoneError as error:
    print("error:", error)
"""


def start_listening(script: str, env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        **{"env": env, "cwd": root, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("listening"):
        pytest.fail(line + "".join(process.communicate(timeout=30)))
    return process


@pytest.mark.parametrize("options", ["", "device='pulse', block_s=0.02"])
def test_a_tone_that_is_played_is_heard(
    pulse: PulseNullSink, tone: Callable[..., np.ndarray], tmp_path: Path, options: str
) -> None:
    write_audio(tmp_path / "tone.wav", tone(1_234, 2.0, amplitude=0.5))
    script = RECORD.format(options=options, duration_s=4)
    process = start_listening(script, pulse.env, str(tmp_path / "heard.npy"))
    time.sleep(0.5)  # so that silence is heard before the tone
    pulse.play(tmp_path / "tone.wav")
    output, errors = process.communicate(timeout=60)
    assert "dropped 0" in output, output + errors
    heard = np.load(tmp_path / "heard.npy")
    sounding = np.flatnonzero(np.abs(heard) > 0.05)
    assert abs((sounding[-1] - sounding[0]) / 16_000 - 2.0) < 0.1
    middle = heard[sounding[0] + 8_000 :][:8_000]
    peak_hz = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(middle.size)))) * 16_000 / middle.size
    assert abs(peak_hz - 1_234) <= 2
    assert abs(middle.std() - 0.5 / np.sqrt(2)) < 0.02
    assert sounding[0] > 1_600
    assert np.abs(heard[: sounding[0] - 160]).max() < 1e-3


def test_a_sound_server_that_ends_is_a_lost_device() -> None:
    with pulse_null_sink() as own:
        process = start_listening(FOREVER, own.env)
        own.daemon.terminate()
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "error: the microphone 'default'" in output
