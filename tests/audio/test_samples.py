"""What `feed` accepts, and what it refuses with a remedy."""

from __future__ import annotations

import numpy as np
import pytest

from kws.audio.samples import as_waveform, block_size, pcm16_from_bytes, pcm16_from_waveform
from kws.errors import AudioError, ConfigError


def test_int16_is_scaled_to_full_scale() -> None:
    waveform = as_waveform(np.array([-32768, 0, 16384], dtype=np.int16))
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, [-1.0, 0.0, 0.5])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8"])
def test_floats_keep_their_values(dtype: str) -> None:
    waveform = as_waveform(np.array([-1.0, 0.25, 0.5], dtype=dtype))
    assert waveform.dtype == np.float32 and waveform.dtype.isnative
    np.testing.assert_array_equal(waveform, [-1.0, 0.25, 0.5])


def test_big_endian_int16() -> None:
    np.testing.assert_array_equal(as_waveform(np.array([16384], dtype=">i2")), [0.5])


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_empty_chunk_is_fine(dtype: str) -> None:
    assert as_waveform(np.zeros(0, dtype=dtype)).shape == (0,)


def test_strided_input_becomes_contiguous() -> None:
    stereo = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
    waveform = as_waveform(stereo[:, 1])
    assert waveform.flags.c_contiguous
    np.testing.assert_array_equal(waveform, stereo[:, 1])


def test_torch_tensor() -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(as_waveform(torch.tensor([0.5, -0.5])), [0.5, -0.5])
    with pytest.raises(AudioError, match="can't be read as an array"):
        as_waveform(torch.zeros(3, requires_grad=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_infinity_are_refused(value: float, dtype: str) -> None:
    chunk = np.zeros(160, dtype=dtype)
    chunk[7] = value
    with pytest.raises(AudioError, match="1 of 160 samples, first at sample 7"):
        as_waveform(chunk)


@pytest.mark.parametrize(
    ("chunk", "given"),
    [
        (np.zeros((2, 160), dtype=np.float32), r"shape \(2, 160\)"),
        (np.float32(0.5), r"shape \(\)"),
        (np.zeros(160, dtype=np.int32), "dtype int32"),
        (np.zeros(160, dtype=np.uint8), "dtype uint8"),
        (np.zeros(160, dtype=bool), "dtype bool"),
        (np.zeros(160, dtype=complex), "dtype complex128"),
        (np.array(["a"]), "dtype <U1"),
        (b"\0\0", "bytes was given.*pcm16_from_bytes"),
        ([0.1, 0.2], "list was given"),
        (None, "NoneType was given"),
        (np.full(160, 12_000.0, dtype=np.float32), "up to 12000.*divide by 32768"),
        (np.full(160, 1e300), "up to 1e[+]300"),
    ],
)
def test_other_input_is_refused_with_what_was_given_and_expected(chunk: object, given: str) -> None:
    with pytest.raises(AudioError, match=given) as caught:
        as_waveform(chunk)
    assert "expected" in str(caught.value)


def test_pcm16_bytes_are_little_endian() -> None:
    np.testing.assert_array_equal(pcm16_from_bytes(b"\x00\x40\x00\x80"), [0.5, -1.0])
    assert pcm16_from_bytes(bytearray()).shape == (0,)
    with pytest.raises(AudioError, match="3 bytes"):
        pcm16_from_bytes(b"\0\0\0")


def test_pcm16_round_trip_is_exact_and_loud_samples_clip() -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(pcm16_from_waveform(as_waveform(every)), every)
    np.testing.assert_array_equal(pcm16_from_waveform(np.array([2.0, -2.0], dtype=np.float32)), [32767, -32768])


@pytest.mark.parametrize("block_s", [0, -1, 61, float("nan"), float("inf")])
def test_impossible_block_is_refused(block_s: float) -> None:
    with pytest.raises(ConfigError, match="block_s"):
        block_size(block_s)
