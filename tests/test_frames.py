"""Samples, frames and seconds, against counting by hand and against a convolution stack."""

from __future__ import annotations

import pytest

from kws.frames import WAV2VEC2_GEOMETRY, FrameGeometry

GEOMETRIES = [WAV2VEC2_GEOMETRY, FrameGeometry((3, 2), (2, 2)), FrameGeometry((1,), (1,)), FrameGeometry((5,), (3,))]


def convolved_length(geometry: FrameGeometry, num_samples: int) -> int:
    for kernel, stride in zip(geometry.kernels, geometry.strides):
        num_samples = max(0, (num_samples - kernel) // stride + 1)
    return num_samples


def test_wav2vec2_has_the_published_geometry() -> None:
    assert WAV2VEC2_GEOMETRY.hop == 320
    assert WAV2VEC2_GEOMETRY.receptive_field == 400
    assert WAV2VEC2_GEOMETRY.overlap == 80
    assert WAV2VEC2_GEOMETRY.hop_s == 0.02


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_number_of_frames_is_that_of_the_convolutions(geometry: FrameGeometry) -> None:
    for num_samples in range(2_000):
        assert geometry.num_frames(num_samples) == convolved_length(geometry, num_samples)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_number_of_samples_is_the_fewest_that_give_the_frames(geometry: FrameGeometry) -> None:
    assert geometry.num_samples(0) == 0
    for num_frames in range(1, 50):
        num_samples = geometry.num_samples(num_frames)
        assert geometry.num_frames(num_samples) == num_frames
        assert geometry.num_frames(num_samples - 1) == num_frames - 1


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_frame_ends_where_it_becomes_whole(geometry: FrameGeometry) -> None:
    for frame in range(50):
        assert geometry.frame_end(frame) == geometry.num_samples(frame + 1)
        assert geometry.frame_end_s(frame) == geometry.frame_end(frame) / 16_000


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_first_frame_from_a_sample_is_the_first_that_ends_there_or_later(geometry: FrameGeometry) -> None:
    for sample in range(1_500):
        expected = next(frame for frame in range(2_000) if geometry.frame_end(frame) >= sample)
        assert geometry.first_frame_from(sample) == expected


@pytest.mark.parametrize(("seconds", "num_frames"), [(0.0, 0), (0.02, 1), (0.029, 1), (0.031, 2), (1.0, 50)])
def test_seconds_as_frames(seconds: float, num_frames: int) -> None:
    assert WAV2VEC2_GEOMETRY.frames_in(seconds) == num_frames
