"""A private PulseAudio daemon with a null sink: what is played into it is what PortAudio's default microphone hears."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SINK = "kws"
START_S = 10.0
_PROGRAMS = ("pulseaudio", "pactl", "paplay")
_INSTALL = "apt install pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins"


@dataclass(frozen=True)
class PulseNullSink:
    """A running daemon.

    Attributes:
        env: environment for a subprocess whose default microphone is to be this sink's monitor. PortAudio reads it
            once, when `sounddevice` is first imported, so run what listens in a subprocess.
        daemon: the daemon's process; end it to see a device lost.
    """

    env: dict[str, str]
    daemon: subprocess.Popen[bytes]

    def play(self, path: Path | str) -> None:
        """Plays the sound file at `path` into the sink in real time, and returns at its end."""
        self.start_playing(path).wait()

    def start_playing(self, path: Path | str) -> subprocess.Popen[bytes]:
        """Returns the process that plays the sound file at `path` into the sink."""
        return subprocess.Popen(["paplay", "--device", SINK, str(path)], env=self.env)


def missing_parts() -> str:
    """Returns what this machine lacks for `pulse_null_sink`, or an empty string."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if ctypes.util.find_library("portaudio") is None:
        missing.append("libportaudio")
    if not any(Path(folder).glob("**/alsa-lib/libasound_module_pcm_pulse.so") for folder in ("/usr/lib", "/usr/lib64")):
        missing.append("ALSA's pulse plugin")
    return f"missing {', '.join(missing)} ({_INSTALL})" if missing else ""


@contextmanager
def pulse_null_sink() -> Iterator[PulseNullSink]:
    """Yields a fresh daemon whose sink's monitor is the default source; skips the test where a part is missing."""
    reason = missing_parts()
    if reason:
        pytest.skip(reason)
    # A socket's path holds 107 characters at most: pytest's own folders may be too deep.
    with tempfile.TemporaryDirectory(prefix="kws-pulse-") as folder:
        env = _environment(Path(folder))
        with open(Path(folder) / "daemon.log", "wb") as log:
            daemon = subprocess.Popen(_daemon_command(Path(folder)), env=env, stdout=log, stderr=log)
        try:
            _wait_until_ready(daemon, env, Path(folder) / "daemon.log")
            yield PulseNullSink(env, daemon)
        finally:
            daemon.terminate()
            daemon.wait()


def _environment(folder: Path) -> dict[str, str]:
    private = {
        "PULSE_SERVER": f"unix:{folder}/native",
        "PULSE_RUNTIME_PATH": str(folder / "pulse"),
        "PULSE_COOKIE": str(folder / "cookie"),
        "PULSE_SINK": SINK,
        "PULSE_SOURCE": f"{SINK}.monitor",
        "XDG_RUNTIME_DIR": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "DBUS_SESSION_BUS_ADDRESS": "disabled:",
    }
    return {**os.environ, **private}


def _daemon_command(folder: Path) -> Sequence[str]:
    options = "-n --daemonize=no --exit-idle-time=-1 --disable-shm=yes --use-pid-file=no --log-target=stderr"
    # Without norewinds the monitor is up to two seconds behind, and then hears the sound with no silence before it.
    null_sink = f"module-null-sink sink_name={SINK} rate=48000 channels=2 norewinds=1"
    socket = f"module-native-protocol-unix auth-anonymous=1 socket={folder}/native"
    return ["pulseaudio", *options.split(), "-L", null_sink, "-L", socket]


def _wait_until_ready(daemon: subprocess.Popen[bytes], env: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + START_S
    select = ["pactl", "set-default-source", f"{SINK}.monitor"]
    while subprocess.run(select, env=env, capture_output=True).returncode != 0:
        if daemon.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"pulseaudio does not start here: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.1)
