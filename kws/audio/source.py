"""Files and standard input as sources: context managers over 16 kHz blocks, in the shape of `Microphone`."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from kws.audio.io import read_blocks
from kws.audio.resample import reblocked, resampled
from kws.audio.samples import Waveform, block_size, pcm16_from_bytes
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

_COMPRESSED = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3"}
_SKIP_BYTES = 65_536
_PCM, _EXTENSIBLE = 1, 0xFFFE
_UNKNOWN_LENGTH_BYTES = 0x7FFF_0000
_PIPE = "pipe raw audio in, for example: arecord -t raw -f S16_LE -r 16000 -c 1"


class BlockSource:
    """Iterates once over `blocks`: (num_samples,) float32 in −1..1 at 16 kHz, the last one maybe shorter.

    Attributes:
        dropped_blocks: always 0; these sources wait for the consumer.
    """

    def __init__(self, blocks: Iterator[Waveform]) -> None:
        self.dropped_blocks = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[Waveform]:
        return self._blocks

    def close(self) -> None:
        """Ends the iteration and closes what it read from; does nothing if it is closed."""
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> BlockSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def file_source(path: Path | str, block_s: float = 0.08, is_realtime: bool = False) -> BlockSource:
    """Returns the file at `path` as a source, read as by `kws.audio.io.read_blocks`.

    Args:
        path: any audio file.
        block_s: seconds a block lasts.
        is_realtime: whether each block comes only when a microphone would have heard it.

    Raises:
        AudioError: in iteration, an unreadable file.
        ConfigError: an impossible `block_s`.
    """
    block_size(block_s)
    blocks = read_blocks(path, block_s)
    return BlockSource(_paced(blocks) if is_realtime else blocks)


def stdin_source(stream: IO[Any], sample_rate: int = SAMPLE_RATE, block_s: float = 0.08) -> BlockSource:
    """Returns `stream` as a source: raw mono 16-bit little-endian samples, or a 16-bit WAV of any channels and rate.

    The stream is left open at the end; an odd last byte is ignored.

    Args:
        stream: a binary stream; `sys.stdin` will do.
        sample_rate: of raw samples, in Hz; a WAV header states its own.
        block_s: seconds a block lasts.

    Raises:
        AudioError: in iteration, a stream that is empty, compressed, or a WAV of another sample format.
        ConfigError: an impossible `block_s`.
    """
    block_size(block_s)
    return BlockSource(_stream_blocks(getattr(stream, "buffer", stream), sample_rate, block_s))


def _paced(blocks: Iterator[Waveform]) -> Iterator[Waveform]:
    start, num_samples = time.monotonic(), 0
    for block in blocks:
        num_samples += block.size
        time.sleep(max(0.0, start + num_samples / SAMPLE_RATE - time.monotonic()))
        yield block


def _stream_blocks(stream: IO[bytes], sample_rate: int, block_s: float) -> Iterator[Waveform]:
    head = _read_up_to(stream, 4)
    if len(head) < 2:
        raise AudioError(f"the standard input holds no audio; {_PIPE}")
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise AudioError(f"the standard input is {name}, expected raw 16-bit samples or WAV; name the file instead")
    num_channels, num_bytes = 1, None
    if head == b"RIFF":
        head, (sample_rate, num_channels, num_bytes) = b"", _read_wav_header(stream)
    chunks = _pcm16_chunks(stream, head, num_bytes, block_size(block_s, sample_rate), num_channels)
    yield from reblocked(resampled(chunks, sample_rate), block_size(block_s))


def _pcm16_chunks(
    stream: IO[bytes], head: bytes, num_bytes: int | None, num_frames: int, num_channels: int
) -> Iterator[Waveform]:
    frame_bytes = 2 * num_channels
    left = num_bytes
    while True:
        wanted = num_frames * frame_bytes - len(head)
        data = head + _read_up_to(stream, wanted if left is None else min(wanted, left))
        left = None if left is None else left - len(data)
        head = b""
        whole = len(data) - len(data) % frame_bytes
        if whole == 0:
            return
        waveform = pcm16_from_bytes(data[:whole])
        yield waveform if num_channels == 1 else waveform.reshape(-1, num_channels).mean(axis=1)


def _read_wav_header(stream: IO[bytes]) -> tuple[int, int, int | None]:
    if _read_up_to(stream, 8)[4:] != b"WAVE":
        raise AudioError(f"the standard input begins like a WAV but isn't one; {_PIPE}")
    sample_rate = num_channels = 0
    while len(chunk := _read_up_to(stream, 8)) == 8:
        name, size = struct.unpack("<4sI", chunk)
        if name == b"data" and num_channels > 0:
            return sample_rate, num_channels, size if 0 < size < _UNKNOWN_LENGTH_BYTES else None
        if name == b"fmt ":
            sample_rate, num_channels = _parse_wav_format(_read_up_to(stream, 16))
            size -= 16
        _skip(stream, size + size % 2)
    raise AudioError(f"the WAV on the standard input ends before its samples; {_PIPE}")


def _parse_wav_format(body: bytes) -> tuple[int, int]:
    if len(body) < 16:
        raise AudioError(f"the WAV on the standard input has a damaged header; {_PIPE}")
    tag, num_channels, sample_rate, _, _, num_bits = struct.unpack("<HHIIHH", body)
    if tag not in (_PCM, _EXTENSIBLE) or num_bits != 16 or num_channels == 0:
        raise AudioError(
            f"the WAV on the standard input has {num_bits}-bit samples of format {tag} in {num_channels} channels; "
            "expected 16-bit integers. Name the file instead, which takes any format"
        )
    return sample_rate, num_channels


def _skip(stream: IO[bytes], num_bytes: int) -> None:
    while num_bytes > 0 and (data := stream.read(min(num_bytes, _SKIP_BYTES))):
        num_bytes -= len(data)


def _read_up_to(stream: IO[bytes], num_bytes: int) -> bytes:
    parts = []
    while num_bytes > 0 and (data := stream.read(num_bytes)):
        parts.append(data)
        num_bytes -= len(data)
    return b"".join(parts)
