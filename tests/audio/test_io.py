"""Good files of every kind are converted; bad ones raise an `AudioError` that names them."""

from __future__ import annotations

import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.audio.io import find_audio, read_audio, read_batch, read_blocks, recording_warnings, write_audio
from kws.errors import AudioError, ConfigError

Tone = Callable[..., np.ndarray]


@pytest.fixture
def wav(tmp_path: Path, tone: Tone) -> Path:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(), 16_000, subtype="PCM_16")
    return path


def cut_file(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def with_data_size(path: Path, num_bytes: int) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[:40] + struct.pack("<I", num_bytes) + data[44:])
    return path


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 1e-6), ("PCM_32", 1e-6), ("FLOAT", 0), ("DOUBLE", 1e-7)]
    + [("ULAW", 0.02), ("ALAW", 0.02)],
)
def test_every_sample_format(tmp_path: Path, tone: Tone, subtype: str, tolerance: float) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16_000, subtype=subtype)
    waveform = read_audio(tmp_path / "a.wav")
    assert waveform.dtype == np.float32 and waveform.shape == (16_000,)
    np.testing.assert_allclose(waveform, tone(), atol=tolerance)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_every_rate_becomes_16_khz(tmp_path: Path, tone: Tone, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate=rate), rate, subtype="FLOAT")
    waveform = read_audio(tmp_path / "a.wav")
    assert abs(waveform.size - 16_000) <= 1
    np.testing.assert_allclose(waveform[1_000:-1_000], tone()[1_000:15_000], atol=1e-3)


def test_channels_are_averaged(tmp_path: Path, tone: Tone) -> None:
    stereo = np.stack([tone(), np.zeros(16_000, np.float32)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), tone() / 2)


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.flac", "PCM_24"), ("a.ogg", "VORBIS"), ("a.ogg", "OPUS"), ("a.mp3", "MPEG_LAYER_III")]
)
def test_compressed_files(tmp_path: Path, tone: Tone, name: str, subtype: str) -> None:
    soundfile.write(tmp_path / name, tone(), 16_000, subtype=subtype)
    waveform = read_audio(tmp_path / name)
    assert abs(waveform.size - 16_000) <= 1_152
    assert abs(np.argmax(np.abs(np.fft.rfft(waveform[:16_000], 16_000))) - 440) <= 1


def test_the_file_is_never_changed(wav: Path) -> None:
    before, stamp = wav.read_bytes(), wav.stat().st_mtime_ns
    read_audio(wav)
    list(read_blocks(wav, 0.1))
    assert (wav.read_bytes(), wav.stat().st_mtime_ns) == (before, stamp)


def test_missing_file_folder_and_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match=r"nowhere\.wav: No such file"):
        read_audio(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match="is a folder"):
        read_audio(tmp_path)
    with pytest.raises(AudioError, match=r"empty\.wav is empty \(0 bytes\)"):
        read_audio(tmp_path / "empty.wav")


@pytest.mark.parametrize("content", [b"hello world, this is a text\n" * 50, b"RIFF", bytes(4_000), b"\xff" * 4_000])
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.raw", "a.txt"])
def test_a_file_that_is_not_audio(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=name) as caught:
        read_audio(tmp_path / name)
    assert "ffmpeg" in str(caught.value)


def test_wav_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    with pytest.raises(AudioError, match="holds no samples"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_in_a_file(tmp_path: Path, tone: Tone, value: float) -> None:
    waveform = tone(duration_s=3)
    waveform[40_000] = value
    soundfile.write(tmp_path / "a.wav", waveform, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav, from 2\.00 s, has NaN or infinity in 1 of"):
        read_audio(tmp_path / "a.wav")


def test_integers_stored_as_floats(tmp_path: Path, tone: Tone) -> None:
    soundfile.write(tmp_path / "a.wav", tone() * 32768, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="divide by 32768"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.w64", "a.ogg", "a.mp3", "a.caf"])
@pytest.mark.parametrize("share", [0.7, 0.3, 0.01])
def test_truncated_files(tmp_path: Path, name: str, share: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000)
    soundfile.write(tmp_path / name, noise, 16_000)
    with pytest.raises(AudioError, match=name):
        read_audio(cut_file(tmp_path / name, share))


def test_truncated_wav_says_how_much_is_there(wav: Path) -> None:
    with pytest.raises(AudioError, match="promises 32000 bytes, 15978 are there"):
        read_audio(cut_file(wav, 0.5))


@pytest.mark.parametrize("num_bytes", [0xFFFF_FFFF, 0x8000_0000, 0x7FFF_FFFF, 0x7FFF_F000, 32_004])
def test_wav_streamed_or_slightly_wrong_is_read_whole(wav: Path, num_bytes: int) -> None:
    assert read_audio(with_data_size(wav, num_bytes)).shape == (16_000,)


def test_absurd_sample_rate(wav: Path) -> None:
    data = wav.read_bytes()
    wav.write_bytes(data[:24] + struct.pack("<I", 1) + data[28:])
    with pytest.raises(AudioError, match="sample rate of 1 Hz"):
        read_audio(wav)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("block_s", [0.01, 0.08, 0.7, 10.0])
def test_blocks_are_the_whole_file(tmp_path: Path, tone: Tone, rate: int, block_s: float) -> None:
    soundfile.write(tmp_path / "a.wav", tone(duration_s=2.5, rate=rate), rate)
    blocks = list(read_blocks(tmp_path / "a.wav", block_s))
    assert {block.size for block in blocks[:-1]} <= {round(block_s * 16_000)}
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(tmp_path / "a.wav"))


def test_blocks_refuse_what_reading_refuses(wav: Path) -> None:
    with pytest.raises(ConfigError, match="block_s"):
        list(read_blocks(wav, 0))
    with pytest.raises(AudioError, match="truncated"):
        list(read_blocks(cut_file(wav, 0.5), 0.1))


@pytest.mark.parametrize("name", ["a.wav", "deep/er/a.flac"])
def test_written_audio_reads_back(tmp_path: Path, tone: Tone, name: str) -> None:
    write_audio(tmp_path / name, tone())
    info = soundfile.info(tmp_path / name)
    assert (info.subtype, info.samplerate, info.channels) == ("PCM_16", 16_000, 1)
    once = read_audio(tmp_path / name)
    np.testing.assert_allclose(once, tone(), atol=2**-16)
    write_audio(tmp_path / name, once)
    np.testing.assert_array_equal(read_audio(tmp_path / name), once)


def test_writing_replaces_whole_or_not_at_all(wav: Path, tone: Tone, monkeypatch: pytest.MonkeyPatch) -> None:
    before = wav.read_bytes()
    with pytest.raises(AudioError, match="NaN"):
        write_audio(wav, np.full(10, np.nan))

    def fail(path: Path, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(AudioError, match=r"can't write .*tone\.wav.*No space left"):
        write_audio(wav, tone())
    assert wav.read_bytes() == before
    assert list(wav.parent.iterdir()) == [wav]


def test_written_file_has_ordinary_permissions(tmp_path: Path, tone: Tone) -> None:
    (tmp_path / "plain").touch()
    write_audio(tmp_path / "a.wav", tone())
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.wav")}
    assert len(modes) == 1


def test_unknown_ending_is_not_written(tmp_path: Path, tone: Tone) -> None:
    with pytest.raises(AudioError, match=r"'\.xyz'; use \.wav or \.flac"):
        write_audio(tmp_path / "a.xyz", tone())


def test_find_audio(tmp_path: Path) -> None:
    for name in ("b.WAV", "sub/deep/a.flac", "sub/c.opus", "notes.txt", "sub/._b.wav", "odd.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_audio([tmp_path, tmp_path / "odd.bin", str(tmp_path / "b.WAV")])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b.WAV", "odd.bin", "sub/c.opus", "sub/deep/a.flac"]
    with pytest.raises(AudioError, match="nowhere doesn't exist"):
        find_audio([tmp_path, tmp_path / "nowhere"])


def test_batch_skips_counts_and_warns(tmp_path: Path, wav: Path) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    write_audio(tmp_path / "quiet.wav", np.zeros(16_000, np.float32))
    messages: list[str] = []
    batch = read_batch([tmp_path / "bad.wav", wav, tmp_path / "quiet.wav"], messages.append)
    assert [path.name for path, _ in batch] == ["tone.wav", "quiet.wav"]
    assert batch.num_read == 2
    assert len(batch.skipped) == 1 and "bad.wav" in batch.skipped[0]
    assert len(messages) == 2 and messages[0].startswith("skipped: ") and "quiet.wav: silence" in messages[1]


def test_batch_with_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    with pytest.raises(AudioError, match=r"none of the files could be read:\n.*bad\.wav"):
        list(read_batch([tmp_path / "bad.wav"]))
    with pytest.raises(AudioError, match="no audio files were found"):
        list(read_batch([]))


def test_warnings_state_the_measured_value(tone: Tone) -> None:
    quiet, loud = tone(amplitude=1e-4), np.clip(tone(amplitude=4), -1, 1)
    assert recording_warnings(tone()) == []
    assert recording_warnings(tone(amplitude=1.0)[:1]) != []
    assert "-83.0 dBFS" in recording_warnings(quiet)[0]
    assert "DC offset: its mean is +0.200" in recording_warnings(tone(amplitude=0.1) + np.float32(0.2))[0]
    (clipping,) = recording_warnings(loud)
    assert f"{np.mean(np.abs(loud) == 1):.2%}" in clipping
    assert [line.split(":")[0] for line in recording_warnings(np.full(100, 0.5, np.float32))] == [
        "silence",
        "DC offset",
    ]
    assert recording_warnings(np.zeros(0, np.float32)) == ["no samples"]


def test_audio_imports_without_torch_and_portaudio() -> None:
    modules = "kws.audio.io, kws.audio.microphone, kws.audio.resample, kws.audio.samples, kws.audio.source"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'sounddevice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
