"""Reads any audio file as 16 kHz mono, writes PCM16, finds recordings in folders and reads them in batches."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from kws.audio.quality import LevelMeter
from kws.audio.resample import MAX_RATE, MIN_RATE, reblocked, resampled
from kws.audio.samples import Waveform, as_waveform, block_size, pcm16_from_waveform, peak_problem
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

AUDIO_EXTENSIONS = frozenset(
    f".{name}"
    for name in [
        "wav",
        "wave",
        "flac",
        "ogg",
        "oga",
        "opus",
        "mp3",
        "aif",
        "aiff",
        "aifc",
        "au",
        "snd",
        "caf",
        "w64",
        "rf64",
        "sph",
    ]
)
"""File name endings that `find_audio` collects from folders, in lower case."""

_READ_S = 1.0
_CONVERT = "convert it with: ffmpeg -i FILE -ar 16000 -ac 1 OUT.wav"
_WRITE_FORMATS = {".wav": "WAV", ".flac": "FLAC"}

# A stream written to a pipe can't know its length: it promises about 2 or 4 GiB, and is whole all the same.
_UNKNOWN_LENGTH_BYTES = 0x7FFF_0000
_MISSING_BYTES = 1024
_MISSING_SHARE = 0.1
_PROMISED = re.compile(r"^\s*(?:data|SSND|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_OGG = ("Last page lacks an end-of-stream bit", "Junk after the last page")


def read_audio(path: Path | str) -> Waveform:
    """Returns the file at `path` as a waveform: (num_samples,) float32 at 16 kHz, channels averaged.

    Any sample rate, number of channels and sample format that libsndfile reads; the file is never changed.

    Raises:
        AudioError: a missing, empty, truncated, damaged or non-audio file, or one with NaN or infinity.
    """
    return np.concatenate(list(_chunks(Path(path))) or [np.zeros(0, dtype=np.float32)])


def read_blocks(path: Path | str, block_s: float) -> Iterator[Waveform]:
    """Yields the file at `path` in blocks of `block_s` seconds, as `read_audio` would return it, in constant memory.

    The last block may be shorter.

    Raises:
        AudioError: as `read_audio`, when the fault is reached.
        ConfigError: `block_s` is not a positive number.
    """
    yield from reblocked(_chunks(Path(path)), block_size(block_s))


def write_audio(path: Path | str, waveform: Waveform) -> None:
    """Writes `waveform`, (num_samples,) in −1..1 at 16 kHz, to `path` as 16-bit WAV or FLAC, whole or not at all.

    The folder is made if need be. Louder samples are clipped.

    Raises:
        AudioError: another file name ending, an invalid waveform, or a path that can't be written.
    """
    path = Path(path)
    file_format = _WRITE_FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise AudioError(f"can't write {path}: the name ends in '{path.suffix}'; use {' or '.join(_WRITE_FORMATS)}")
    pcm16 = pcm16_from_waveform(as_waveform(waveform))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(temporary, pcm16, SAMPLE_RATE, format=file_format, subtype="PCM_16")
        os.replace(temporary, path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(
            f"can't write {path}: {error}; check the folder, its permissions and the free space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def find_audio(paths: Iterable[Path | str]) -> list[Path]:
    """Returns the audio files among `paths`, sorted, each once: files as named, folders searched to any depth.

    Hidden files in folders are left out.

    Raises:
        AudioError: a path that doesn't exist.
    """
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            found.update(file for file in path.rglob("*") if _is_audio(file))
        elif path.exists():
            found.add(path)
        else:
            raise AudioError(f"{path} doesn't exist; check the spelling, or the folder you are in ({Path.cwd()})")
    return sorted(found)


def read_batch(paths: Iterable[Path | str], warn: Callable[[str], object] | None = None) -> AudioBatch:
    """Returns an iterable over `(path, waveform)` of the files at `paths` that skips and counts the unreadable ones.

    Args:
        paths: audio files, as from `find_audio`.
        warn: called with one line for each file skipped, and for each warning about one that was read.
    """
    return AudioBatch([Path(path) for path in paths], warn)


class AudioBatch:
    """Yields `(path, waveform)` of the readable files among `paths`.

    Attributes:
        paths: all files asked for.
        num_read: how many were read so far.
        skipped: the message of each file that could not be read, in order; each names its file.

    Raises:
        AudioError: at the end of the iteration, if not one file was read.
    """

    def __init__(self, paths: list[Path], warn: Callable[[str], object] | None = None) -> None:
        self.paths = paths
        self.num_read = 0
        self.skipped: list[str] = []
        self._warn = warn or (lambda message: None)

    def __iter__(self) -> Iterator[tuple[Path, Waveform]]:
        self.num_read, self.skipped = 0, []
        for path in self.paths:
            try:
                waveform = read_audio(path)
            except AudioError as error:
                self.skipped.append(str(error))
                self._warn(f"skipped: {error}")
                continue
            for warning in recording_warnings(waveform):
                self._warn(f"{path}: {warning}")
            self.num_read += 1
            yield path, waveform
        if self.num_read == 0:
            raise AudioError(self._nothing_left())

    def _nothing_left(self) -> str:
        if not self.paths:
            return f"no audio files were found; known endings are {' '.join(sorted(AUDIO_EXTENSIONS))}"
        return "none of the files could be read:\n" + "\n".join(f"  {message}" for message in self.skipped)


def recording_warnings(waveform: Waveform) -> list[str]:
    """Returns a line for each of silence, clipping and DC offset found in `waveform`, with the measured value."""
    if waveform.size == 0:
        return ["no samples"]
    meter = LevelMeter()
    meter.feed(waveform)
    return [str(problem) for problem in meter.problems()]


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_EXTENSIONS and not path.name.startswith(".") and path.is_file()


def _chunks(path: Path) -> Iterator[Waveform]:
    with _open(path) as file:
        if not MIN_RATE <= file.samplerate <= MAX_RATE:
            raise AudioError(
                f"{path} states a sample rate of {file.samplerate} Hz; expected {MIN_RATE} to {MAX_RATE} Hz. "
                "Its header is wrong or damaged: get the file again"
            )
        _check_promise(path, file)
        yield from resampled(_mono_chunks(path, file), file.samplerate)


def _open(path: Path) -> soundfile.SoundFile:
    if path.is_dir():
        raise AudioError(f"{path} is a folder; name an audio file in it")
    try:
        is_empty = path.stat().st_size == 0
    except OSError as error:
        raise AudioError(f"can't read {path}: {error.strerror}; check the spelling and permissions") from error
    if is_empty:
        raise AudioError(f"{path} is empty (0 bytes); record or download it again")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        reason = str(error).rpartition(": ")[2].strip() or "unknown format"
        raise AudioError(f"{path} is not audio that can be read, or is damaged ({reason}); {_CONVERT}") from error


def _check_promise(path: Path, file: soundfile.SoundFile) -> None:
    header = file.extra_info
    for promised, present in ((int(a), int(b)) for a, b in _PROMISED.findall(header)):
        if promised - present > _MISSING_BYTES and promised < _UNKNOWN_LENGTH_BYTES:
            raise AudioError(_truncated(path, f"its header promises {promised} bytes, {present} are there"))
    if all(sign in header for sign in _CUT_OGG):
        raise AudioError(_truncated(path, "its last page is cut"))


def _truncated(path: Path, reason: str) -> str:
    return f"{path} is truncated ({reason}); copy or download it again, or keep what is there: {_CONVERT}"


def _mono_chunks(path: Path, file: soundfile.SoundFile) -> Iterator[Waveform]:
    num_read = 0
    while True:
        try:
            samples = file.read(block_size(_READ_S, file.samplerate), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            where = f"after {num_read / file.samplerate:.2f} s"
            raise AudioError(f"{path} is damaged or truncated {where} ({error}); {_CONVERT}") from error
        if not len(samples):
            break
        problem = peak_problem(samples.ravel())
        if problem:
            raise AudioError(f"{path}, from {num_read / file.samplerate:.2f} s, {problem}")
        num_read += len(samples)
        yield samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if num_read == 0:
        raise AudioError(f"{path} holds no samples; record or download it again")
    if num_read < (1 - _MISSING_SHARE) * file.frames:
        raise AudioError(_truncated(path, f"its header promises {file.frames} samples, {num_read} are there"))
