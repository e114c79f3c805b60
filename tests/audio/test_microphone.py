"""The microphone against a stand-in for sounddevice: slow consumers, lost devices, refused rates, no PortAudio."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kws.audio import microphone as microphone_module
from kws.audio.microphone import Device, Microphone, list_devices
from kws.errors import ConfigError, MicrophoneError


class PortAudioError(Exception):
    """As sounddevice's."""


class FakeStream:
    """A stream whose audio the test delivers."""

    def __init__(self, owner: FakeSounddevice, **options: Any) -> None:
        if (options["samplerate"], options["channels"]) not in owner.accepted:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")
        self.owner, self.options, self.samplerate = owner, options, float(options["samplerate"])
        self.is_closed = False

    def start(self) -> None:
        if self.owner.is_busy:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")
        self.owner.stream = self

    def close(self) -> None:
        self.is_closed = True
        self.options["finished_callback"]()

    def deliver(self, waveform: np.ndarray, has_overflowed: bool = False) -> None:
        buffer = np.repeat(waveform.astype(np.float32)[:, None], self.options["channels"], axis=1)
        self.options["callback"](buffer, len(buffer), None, SimpleNamespace(input_overflow=has_overflowed))
        buffer[:] = np.nan  # PortAudio reuses its buffer: whoever kept a reference hears this


class FakeSounddevice(ModuleType):
    """The part of sounddevice that `Microphone` uses."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.devices = [
            {"name": "Speakers", "max_input_channels": 0, "default_samplerate": 48_000.0, "index": 0},
            {"name": "USB Mic", "max_input_channels": 2, "default_samplerate": 48_000.0, "index": 1},
            {"name": "Webcam", "max_input_channels": 1, "default_samplerate": 44_100.0, "index": 2},
        ]
        self.accepted = {(16_000, 1)}
        self.is_busy = False
        self.stream: Any = None

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.devices
        inputs = [info for info in self.devices if info["max_input_channels"] > 0]
        if device is None:
            if not inputs:
                raise PortAudioError("Error querying device -1")
            return inputs[0]
        for info in inputs:
            if info["index"] == device or (isinstance(device, str) and device in str(info["name"])):
                return info
        raise ValueError(f"No input device matching {device!r}")

    def InputStream(self, **options: Any) -> FakeStream:
        return FakeStream(self, **options)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    module = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    monkeypatch.setattr(microphone_module, "STALL_S", 0.2)
    return module


def block(value: float, num_samples: int = 1280) -> np.ndarray:
    return np.full(num_samples, value, dtype=np.float32)


def test_blocks_arrive_in_order_and_are_copies(fake: FakeSounddevice) -> None:
    with Microphone() as microphone:
        for value in (0.1, 0.2, 0.3):
            fake.stream.deliver(block(value))
        blocks = iter(microphone)
        for value in (0.1, 0.2, 0.3):
            np.testing.assert_array_equal(next(blocks), block(value))
    assert fake.stream.options["blocksize"] == 1280
    assert (microphone.device_name, microphone.device_rate, microphone.dropped_blocks) == ("USB Mic", 16_000, 0)


def test_slow_consumer_loses_the_oldest_blocks_and_they_are_counted(fake: FakeSounddevice) -> None:
    with Microphone(block_s=0.08, max_queued_s=0.4) as microphone:
        for number in range(100):
            fake.stream.deliver(block(number / 100))
        assert microphone.dropped_blocks == 95
        blocks = iter(microphone)
        assert [round(float(next(blocks)[0]), 2) for _ in range(5)] == [0.95, 0.96, 0.97, 0.98, 0.99]
        fake.stream.deliver(block(0), has_overflowed=True)
        assert microphone.dropped_blocks == 96


@pytest.mark.parametrize(("accepted", "rate", "num_channels"), [((48_000, 1), 48_000, 1), ((48_000, 2), 48_000, 2)])
def test_refused_rate_opens_at_the_native_one_and_resamples(
    fake: FakeSounddevice, tone: Callable[..., np.ndarray], accepted: tuple[int, int], rate: int, num_channels: int
) -> None:
    fake.accepted = {accepted}
    heard: list[np.ndarray] = []
    with Microphone(block_s=0.08) as microphone:
        for part in np.split(tone(1_000, 2.0, rate), 25):
            fake.stream.deliver(part)
        for waveform in microphone:
            heard.append(waveform)
            if not microphone._queue:
                break
    assert (microphone.device_rate, fake.stream.options["channels"]) == (rate, num_channels)
    waveform = np.concatenate(heard)
    assert waveform.dtype == np.float32
    assert 0 <= 32_000 - waveform.size < 1_600
    np.testing.assert_allclose(waveform[1_000:30_000], tone(1_000, 2.0)[1_000:30_000], atol=1e-3)


def test_every_rate_refused(fake: FakeSounddevice) -> None:
    fake.accepted = set()
    with pytest.raises(MicrophoneError, match=r"(?s)USB Mic.*16000 Hz.*48000 Hz.*Webcam"):
        Microphone().open()


def test_busy_device(fake: FakeSounddevice) -> None:
    fake.is_busy = True
    with pytest.raises(MicrophoneError, match=r"Device unavailable.*close other programs"):
        Microphone().open()
    fake.is_busy = False
    with Microphone() as microphone:
        fake.stream.deliver(block(0.5))
        assert next(iter(microphone)).size == 1280


def test_lost_device_gives_what_was_heard_then_raises(fake: FakeSounddevice) -> None:
    with Microphone() as microphone:
        blocks = iter(microphone)
        fake.stream.deliver(block(0.5))
        fake.stream.options["finished_callback"]()
        assert next(blocks).size == 1280
        with pytest.raises(MicrophoneError, match=r"(?s)USB Mic' stopped.*Webcam"):
            next(blocks)


def test_silent_death_of_a_device_is_noticed(fake: FakeSounddevice) -> None:
    with Microphone() as microphone, pytest.raises(MicrophoneError, match=r"gave no audio for 0.2 s"):
        next(iter(microphone))
    assert fake.stream.is_closed


def test_close_is_idempotent_and_ends_an_iteration_in_another_thread(fake: FakeSounddevice) -> None:
    microphone = Microphone()
    microphone.close()
    microphone.open()
    microphone.open()
    fake.stream.deliver(block(0.5))
    heard: list[int] = []
    thread = threading.Thread(target=lambda: heard.extend(waveform.size for waveform in microphone))
    thread.start()
    while not heard:
        time.sleep(0.01)
    microphone.close()
    microphone.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert heard == [1280]


def test_it_can_be_opened_again(fake: FakeSounddevice) -> None:
    microphone = Microphone()
    for value in (0.1, 0.2):
        with microphone:
            fake.stream.deliver(block(value))
            assert next(iter(microphone))[0] == np.float32(value)
            fake.stream.deliver(block(0.9))


def test_closed_microphone_says_how_to_use_it(fake: FakeSounddevice) -> None:
    with pytest.raises(MicrophoneError, match="with Microphone"):
        next(iter(Microphone()))


@pytest.mark.parametrize(("device", "name"), [(2, "Webcam"), ("2", "Webcam"), ("Web", "Webcam"), (None, "USB Mic")])
def test_device_by_index_or_name(fake: FakeSounddevice, device: int | str | None, name: str) -> None:
    with Microphone(device) as microphone:
        assert microphone.device_name == name


def test_unknown_device_lists_the_known_ones(fake: FakeSounddevice) -> None:
    with pytest.raises(MicrophoneError, match=r"(?s)no microphone 'Toaster'.*\* 1: USB Mic.*2: Webcam"):
        Microphone("Toaster").open()


def test_no_input_device(fake: FakeSounddevice) -> None:
    fake.devices = fake.devices[:1]
    assert list_devices() == []
    with pytest.raises(MicrophoneError, match=r"no default microphone.*finds no input device"):
        Microphone().open()


def test_list_devices(fake: FakeSounddevice) -> None:
    assert list_devices() == [Device(1, "USB Mic", 2, 48_000, True), Device(2, "Webcam", 1, 44_100, False)]


@pytest.mark.parametrize("action", [list_devices, lambda: Microphone().open()])
def test_no_portaudio_names_the_package(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(MicrophoneError, match=r"PortAudio library not found.*libportaudio2"):
        action()


def test_no_sounddevice_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MicrophoneError, match="pip install sounddevice"):
        list_devices()


@pytest.mark.parametrize("options", [{"block_s": 0}, {"block_s": -1}, {"max_queued_s": 0}])
def test_impossible_options(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Microphone(**options)
