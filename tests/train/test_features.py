"""Frames for training: a frozen encoder's graph gives what torch would."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kws.detect.runtime import load_encoder_for
from kws.frames import SAMPLE_RATE
from kws.model.artefact import load_wakeword
from kws.model.files import pretrained_folder
from kws.model.pretrained import load_encoder
from kws.model.settings import DEFAULT_ENCODER
from kws.train import features


@pytest.fixture
def waveforms():
    return 0.05 * np.random.default_rng(0).standard_normal((2, round(1.7 * SAMPLE_RATE))).astype(np.float32)


def test_a_frozen_encoder_gives_the_frames_of_the_graph_that_detection_runs(waveforms, monkeypatch):
    encoder = load_encoder(DEFAULT_ENCODER)
    with torch.inference_mode():
        of_torch = encoder(torch.from_numpy(waveforms)).numpy()
    monkeypatch.setattr(type(encoder), "forward", None)  # torch is not asked
    frames = features.encode(encoder, waveforms)
    assert frames.dtype == np.float16
    detection = load_encoder_for(load_wakeword(pretrained_folder() / "hey_computer"))
    assert features._graph_of(encoder).precision == detection.precision
    assert 0 < np.std(frames - of_torch) < 0.05 * np.std(of_torch)


def test_an_encoder_that_learns_is_run_by_torch(waveforms, monkeypatch):
    encoder = load_encoder(DEFAULT_ENCODER, trainable_layers=1)
    with torch.no_grad():
        for parameter in encoder.transformer_layers.parameters():
            parameter.mul_(1.5)
        expected = encoder(torch.from_numpy(waveforms)).numpy()
    np.testing.assert_allclose(features.encode(encoder, waveforms), expected, atol=4e-3)
