"""Files and standard input have the microphone's shape."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.audio.io import read_audio, write_audio
from kws.audio.samples import as_waveform, pcm16_from_waveform
from kws.audio.source import file_source, stdin_source
from kws.errors import AudioError, ConfigError

Tone = Callable[..., np.ndarray]


class Trickle(io.RawIOBase):
    """A pipe that gives at most three bytes a read."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.data.read(min(size, 3))


def raw(waveform: np.ndarray) -> bytes:
    return pcm16_from_waveform(waveform).astype("<i2").tobytes()


def wav_bytes(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


@pytest.fixture
def wav(tmp_path: Path, tone: Tone) -> Path:
    write_audio(tmp_path / "a.wav", tone())
    return tmp_path / "a.wav"


def test_file_source_gives_the_file_in_blocks(wav: Path) -> None:
    with file_source(wav, 0.08) as source:
        blocks = list(source)
    assert {block.size for block in blocks[:-1]} == {1280}
    assert source.dropped_blocks == 0
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(wav))


def test_realtime_takes_as_long_as_it_sounds(tmp_path: Path, tone: Tone) -> None:
    write_audio(tmp_path / "a.wav", tone(duration_s=0.3))
    start = time.monotonic()
    first_after = [time.monotonic() - start for _ in file_source(tmp_path / "a.wav", 0.1, is_realtime=True)]
    assert first_after[0] >= 0.09
    assert first_after[-1] >= 0.29


def test_close_ends_the_iteration_and_is_idempotent(wav: Path) -> None:
    source = file_source(wav)
    blocks = iter(source)
    next(blocks)
    source.close()
    source.close()
    assert list(blocks) == []


def test_file_source_reports_bad_input(tmp_path: Path, wav: Path) -> None:
    with pytest.raises(ConfigError, match="block_s"):
        file_source(wav, -1)
    with pytest.raises(AudioError, match="nowhere"), file_source(tmp_path / "nowhere.wav") as source:
        list(source)


@pytest.mark.parametrize("pipe", [io.BytesIO, Trickle])
@pytest.mark.parametrize("block_s", [1e-5, 0.01, 0.08, 5.0])
def test_raw_stdin(tone: Tone, pipe: Callable[[bytes], io.IOBase], block_s: float) -> None:
    waveform = tone(duration_s=0.21)
    with stdin_source(pipe(raw(waveform) + b"\0"), block_s=block_s) as source:
        blocks = list(source)
    assert {block.size for block in blocks[:-1]} <= {max(1, round(block_s * 16_000))}
    np.testing.assert_array_equal(np.concatenate(blocks), as_waveform(pcm16_from_waveform(waveform)))


def test_raw_stdin_of_another_rate(tone: Tone) -> None:
    blocks = list(stdin_source(io.BytesIO(raw(tone(rate=48_000))), sample_rate=48_000))
    converted = np.concatenate(blocks)
    assert converted.size == 16_000
    np.testing.assert_allclose(converted[1_000:-1_000], tone()[1_000:-1_000], atol=1e-3)


def test_text_stdin_is_read_as_bytes(tone: Tone) -> None:
    stream = io.TextIOWrapper(io.BytesIO(raw(tone())))
    assert np.concatenate(list(stdin_source(stream))).size == 16_000


@pytest.mark.parametrize("pipe", [io.BytesIO, Trickle])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_wav_on_stdin_states_its_rate_and_channels(
    tmp_path: Path, tone: Tone, pipe: Callable[[bytes], io.IOBase], rate: int
) -> None:
    data = wav_bytes(np.stack([tone(rate=rate), tone(880, rate=rate)], axis=1), rate)
    (tmp_path / "a.wav").write_bytes(data)
    streamed = np.concatenate(list(stdin_source(pipe(data + b"LIST\x04\0\0\0abcd"))))
    np.testing.assert_allclose(streamed, read_audio(tmp_path / "a.wav"), atol=1e-6)


def test_wav_on_stdin_of_unknown_length(tone: Tone) -> None:
    data = wav_bytes(tone(), 16_000)
    endless = data[:40] + b"\xff\xff\xff\xff" + data[44:]
    assert np.concatenate(list(stdin_source(io.BytesIO(endless)))).size == 16_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no audio"),
        (b"\0", "no audio"),
        (b"fLaC" + bytes(100), "is FLAC"),
        (b"OggS" + bytes(100), "is Ogg"),
        (b"RIFF\0\0\0\0AVI ", "isn't one"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0", "damaged header"),
        (wav_bytes(np.zeros(10), 16_000)[:36], "ends before its samples"),
        (wav_bytes(np.zeros(10), 16_000, "PCM_24"), "24-bit"),
        (wav_bytes(np.zeros(10), 16_000, "FLOAT"), "32-bit samples of format 3"),
    ],
)
def test_bad_stdin(data: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        list(stdin_source(io.BytesIO(data)))
