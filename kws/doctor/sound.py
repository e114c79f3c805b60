"""Checks of sound: the sound server, PortAudio's devices, level and faults of the microphone, echo of own speech."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from kws.audio.microphone import Microphone, list_devices
from kws.audio.quality import LevelMeter, frame_levels_db
from kws.audio.samples import Waveform
from kws.doctor.finding import Finding, State
from kws.errors import MicrophoneError, require
from kws.frames import SAMPLE_RATE

ECHO_DB = 10.0
"""Own speech this far above the room can wake the assistant that speaks it."""
CHIRP_S = 1.0
CHIRP_HZ = (300.0, 3000.0)
CHIRP_LEVEL = 0.3
SETTLE_S = 0.4
"""Left out after opening a device: some begin with a click."""

_ASK_S = 10.0
_NO_MICROPHONE = "files and --stdin work without one; connect one, and check that the sound server runs"


def check_server() -> Finding:
    """Returns which sound server runs; only Linux has a choice of them."""
    if not sys.platform.startswith("linux"):
        return Finding("sound server", State.ok, f"that of {sys.platform}")
    if shutil.which("pactl") is None:
        remedy = "for PulseAudio or PipeWire: sudo apt install pulseaudio-utils"
        return Finding("sound server", State.skipped, "pactl is not here to ask; ALSA alone works too", remedy)
    try:
        child = subprocess.run(["pactl", "info"], capture_output=True, text=True, timeout=_ASK_S)
    except subprocess.TimeoutExpired:
        return Finding("sound server", State.warning, f"it did not answer within {_ASK_S:g} s", "restart it")
    if child.returncode:
        reason = " ".join(child.stderr.split()) or "pactl failed"
        remedy = "start it: systemctl --user start pipewire-pulse, or pulseaudio --start; ALSA alone works too"
        return Finding("sound server", State.warning, f"none runs for this user ({reason})", remedy)
    told = dict(line.split(": ", 1) for line in child.stdout.splitlines() if ": " in line)
    names = {"server": told.get("Server Name", "unknown"), "source": told.get("Default Source", "none")}
    return Finding("sound server", State.ok, f"{names['server']}, default source {names['source']}", values=names)


def check_devices() -> Iterator[Finding]:
    """Yields whether PortAudio is there and which microphones it finds, with their rates."""
    try:
        devices = list_devices()
    except MicrophoneError as error:
        yield Finding("PortAudio", State.warning, f"no microphone can be used: {error}", _NO_MICROPHONE)
        return
    if not devices:
        yield Finding("microphones", State.warning, "PortAudio finds no input device", _NO_MICROPHONE)
        return
    listed = "; ".join(str(device).strip() for device in devices)
    rates = {device.name: device.default_rate for device in devices}
    yield Finding("microphones", State.ok, listed, values={"rates": rates})


def check_microphone(device: str | None, seconds: float) -> Iterator[Finding]:
    """Yields what `seconds` of the microphone sound like: its rate, level, clipping, offset, lost blocks."""
    if not _has_device():
        if device is None:
            yield Finding("microphone", State.skipped, "there is none to listen to")
        else:
            yield Finding("microphone", State.failed, f"there is no microphone '{device}'", _NO_MICROPHONE)
        return
    try:
        with Microphone(device) as microphone:
            heard = _record(microphone, seconds)
            name, rate, num_dropped = microphone.device_name, microphone.device_rate, microphone.dropped_blocks
    except MicrophoneError as error:
        yield Finding("microphone", State.failed, str(error), "close other programs that use it, or choose another")
        return
    conversion = "no conversion" if rate == SAMPLE_RATE else f"resampled to {SAMPLE_RATE} Hz"
    values = {"device": name, "rate": rate, "dropped_blocks": num_dropped}
    yield Finding("microphone", State.ok, f"{name} opens at {rate} Hz, {conversion}", values=values)
    if num_dropped:
        yield Finding("lost blocks", State.warning, f"{num_dropped} were lost", "end other programs", values)
    yield from judge(heard)


def judge(heard: Waveform) -> Iterator[Finding]:
    """Yields the level of a recording of the room, (num_samples,) float32, and what is wrong with it."""
    meter = LevelMeter()
    meter.feed(heard)
    values = {
        "level_db": round(meter.level_db, 1),
        "peak": round(meter.peak, 4),
        "clipped_share": round(meter.clipped_share, 5),
        "dc_offset": round(meter.dc_offset, 5),
    }
    problems = meter.problems()
    if meter.peak == 0:
        remedy = "unmute the microphone, and check that the right one is the default (kws devices)"
        yield Finding("level", State.failed, "nothing but zeros comes from it", remedy, values)
        return
    for problem in problems:
        if problem.name != "silence":  # a quiet room is no fault
            yield Finding(problem.name, State.warning, problem.measured, problem.remedy, values)
    measured = f"{meter.level_db:.1f} dBFS, peak {meter.peak:.3f}, offset {meter.dc_offset:+.4f}"
    yield Finding("level", State.ok, measured, values=values)


def check_echo(device: str | None) -> Finding:
    """Returns how far above the room the microphone hears what this machine plays."""
    if not _has_device():
        return Finding("echo", State.skipped, "there is no microphone to hear it")
    sounddevice = require("sounddevice", "mic")
    try:
        with Microphone(device) as microphone:
            room = _record(microphone, CHIRP_S)
            sounddevice.play(chirp(), SAMPLE_RATE)
            during = _record(microphone, 2 * CHIRP_S)
            sounddevice.stop()
    except MicrophoneError as error:
        return Finding("echo", State.failed, str(error), "choose another microphone with --device")
    except (sounddevice.PortAudioError, ValueError) as error:
        return Finding("echo", State.skipped, f"nothing can be played here ({error})", "connect a loudspeaker")
    above_db = _loudest_db(during) - _loudest_db(room)
    values: dict[str, Any] = {"above_room_db": round(above_db, 1)}
    measured = f"the microphone hears the loudspeaker {above_db:.1f} dB above the room"
    if above_db < ECHO_DB:
        return Finding("echo", State.ok, f"{measured}: too little to wake on own speech", values=values)
    remedy = "turn detection off while your assistant speaks (demo/speaking.py), or use an echo canceller"
    return Finding("echo", State.warning, measured, remedy, values)


def chirp() -> Waveform:
    """Returns a tone that rises through the band of speech: (num_samples,) float32."""
    time_s = np.arange(round(CHIRP_S * SAMPLE_RATE)) / SAMPLE_RATE
    low_hz, high_hz = CHIRP_HZ
    phase = 2 * np.pi * (low_hz * time_s + (high_hz - low_hz) * time_s**2 / (2 * CHIRP_S))
    return (CHIRP_LEVEL * np.sin(phase)).astype(np.float32)


def _has_device() -> bool:
    try:
        return bool(list_devices())
    except MicrophoneError:
        return False


def _record(microphone: Microphone, seconds: float) -> Waveform:
    blocks, num_samples = [], 0
    for block in microphone:
        blocks.append(block)
        num_samples += block.size
        if num_samples >= (SETTLE_S + seconds) * SAMPLE_RATE:
            break
    return np.concatenate(blocks)[round(SETTLE_S * SAMPLE_RATE) :]


def _loudest_db(waveform: Waveform) -> float:
    return float(np.percentile(frame_levels_db(waveform - waveform.mean()), 75))
