"""The microphone as an iterator of 16 kHz blocks: PortAudio callback → bounded queue → resampler → consumer."""

from __future__ import annotations

import importlib
import math
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.resample import StreamResampler
from kws.audio.samples import Waveform, block_size
from kws.config import check
from kws.errors import MicrophoneError
from kws.frames import SAMPLE_RATE

STALL_S = 3.0
"""A device that gives no audio for so long is taken for lost: PortAudio does not always report an unplugged one."""

_INSTALL_PORTAUDIO = (
    "install it with: sudo apt install libportaudio2 (Debian, Ubuntu, Raspberry Pi OS), "
    "sudo dnf install portaudio (Fedora), brew install portaudio (macOS)"
)


@dataclass(frozen=True)
class Device:
    """An input device.

    Attributes:
        index: its number for `Microphone(device=…)`.
        name: its name, which `Microphone(device=…)` accepts too, whole or in part.
        num_channels: how many input channels it has.
        default_rate: its native sample rate, in Hz.
        is_default: whether `Microphone()` opens it.
    """

    index: int
    name: str
    num_channels: int
    default_rate: int
    is_default: bool

    def __str__(self) -> str:
        mark = "*" if self.is_default else " "
        return f"{mark} {self.index}: {self.name} ({self.num_channels} channels, {self.default_rate} Hz)"


def list_devices() -> list[Device]:
    """Returns the input devices that PortAudio found when it was first used in this process.

    Raises:
        MicrophoneError: no PortAudio.
    """
    sounddevice = _import_sounddevice()
    default = _default_index(sounddevice)
    return [
        Device(index, info["name"], info["max_input_channels"], round(info["default_samplerate"]), index == default)
        for index, info in enumerate(sounddevice.query_devices())
        if info["max_input_channels"] > 0
    ]


class Microphone:
    """Iterates over blocks of the live input: (num_samples,) float32 in −1..1 at 16 kHz. Use it in a `with` block.

    Opens the device at 16 kHz, or, where that is refused, at its native rate and resamples. A slow consumer loses the
    oldest blocks, which are counted. `close` ends the iteration, from any thread.

    Args:
        device: an index or (part of) a name from `list_devices`; the system's default without one.
        block_s: seconds a block lasts (a resampled block may differ by some samples).
        max_queued_s: seconds of audio kept for a slow consumer.

    Attributes:
        dropped_blocks: blocks lost so far, because the consumer was slow or because PortAudio overflowed.
        device_name: name of the open device.
        device_rate: sample rate of the open device, in Hz.

    Raises:
        MicrophoneError: on opening: no PortAudio, no such device, every rate refused; in iteration: device lost.
        ConfigError: an impossible `block_s` or `max_queued_s`.
    """

    def __init__(self, device: int | str | None = None, block_s: float = 0.08, max_queued_s: float = 5.0) -> None:
        block_size(block_s)
        check(max_queued_s > 0, "max_queued_s", max_queued_s, "more than 0 seconds")
        self.device = int(device) if isinstance(device, str) and device.isdigit() else device
        self.block_s = block_s
        self.dropped_blocks = 0
        self.device_name = ""
        self.device_rate = SAMPLE_RATE
        self._queue: deque[NDArray[np.float32]] = deque(maxlen=max(1, math.ceil(max_queued_s / block_s)))
        self._changed = threading.Condition()
        self._stream: Any = None
        self._has_ended = False

    def open(self) -> None:
        """Opens the device and begins to listen; does nothing if it is open."""
        if self._stream is not None:
            return
        sounddevice = _import_sounddevice()
        info = self._device_info(sounddevice)
        self._queue.clear()
        self._has_ended = False
        self._stream = self._start_stream(sounddevice, info)
        self.device_name = info["name"]
        self.device_rate = round(self._stream.samplerate)
        self._resampler = StreamResampler(self.device_rate)

    def close(self) -> None:
        """Stops listening and ends the iteration; does nothing if it is closed."""
        stream, self._stream = self._stream, None
        self._notify_end()
        if stream is not None:
            stream.close()

    def __enter__(self) -> Microphone:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Waveform]:
        if self._stream is None:
            raise MicrophoneError("the microphone is not open; use it as: with Microphone() as microphone: ...")
        while (block := self._next_block()) is not None:
            waveform = self._resampler.feed(block.mean(axis=1))
            if waveform.size:
                yield waveform

    def _next_block(self) -> NDArray[np.float32] | None:
        with self._changed:
            is_awake = self._changed.wait_for(lambda: self._queue or self._has_ended, timeout=STALL_S + self.block_s)
            if self._stream is None:
                return None
            if self._queue:
                return self._queue.popleft()
        reason = "stopped" if is_awake else f"gave no audio for {STALL_S:g} s"
        raise MicrophoneError(
            f"the microphone '{self.device_name}' {reason}: it was unplugged, or its sound server ended; "
            f"reconnect it, then start again. {_device_table()}"
        )

    def _on_audio(self, samples: NDArray[np.float32], num_frames: int, time: Any, status: Any) -> None:
        with self._changed:
            self.dropped_blocks += (len(self._queue) == self._queue.maxlen) + bool(status and status.input_overflow)
            self._queue.append(samples.copy())
            self._changed.notify()

    def _notify_end(self) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _device_info(self, sounddevice: ModuleType) -> Any:
        try:
            return sounddevice.query_devices(self.device, "input")
        except (ValueError, sounddevice.PortAudioError) as error:
            asked = "no default microphone" if self.device is None else f"no microphone '{self.device}'"
            raise MicrophoneError(f"there is {asked} ({error}). {_device_table()}") from error

    def _start_stream(self, sounddevice: ModuleType, info: Any) -> Any:
        native_rate = round(info["default_samplerate"])
        refusals = []
        for num_channels in sorted({1, min(2, info["max_input_channels"])}):
            for rate in dict.fromkeys((SAMPLE_RATE, native_rate)):
                try:
                    return self._try_stream(sounddevice, info["index"], rate, num_channels)
                except sounddevice.PortAudioError as error:
                    refusals.append(f"{rate} Hz, {num_channels} channel{'s'[: num_channels - 1]}: {error}")
        raise MicrophoneError(
            f"the microphone '{info['name']}' can't be opened ({'; '.join(refusals)}); close other programs that "
            f"use it, or choose another. {_device_table()}"
        )

    def _try_stream(self, sounddevice: ModuleType, index: int, rate: int, num_channels: int) -> Any:
        stream = sounddevice.InputStream(
            samplerate=rate,
            blocksize=block_size(self.block_s, rate),
            device=index,
            channels=num_channels,
            dtype="float32",
            callback=self._on_audio,
            finished_callback=self._notify_end,
        )
        try:
            stream.start()
        except sounddevice.PortAudioError:
            stream.close()
            self._has_ended = False
            raise
        return stream


def _import_sounddevice() -> ModuleType:
    try:
        return importlib.import_module("sounddevice")
    except ModuleNotFoundError as error:
        raise MicrophoneError("the package 'sounddevice' is not installed; run: pip install sounddevice") from error
    except OSError as error:
        raise MicrophoneError(f"the PortAudio library is missing ({error}); {_INSTALL_PORTAUDIO}") from error


def _default_index(sounddevice: ModuleType) -> int:
    try:
        return int(sounddevice.query_devices(None, "input")["index"])
    except (ValueError, sounddevice.PortAudioError):
        return -1


def _device_table() -> str:
    devices = list_devices()
    if not devices:
        return "PortAudio finds no input device; connect one, and check that the sound server runs"
    return "Input devices (* is the default):\n" + "\n".join(f"  {device}" for device in devices)
