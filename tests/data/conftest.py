"""Sounds made on the spot, and the synthesisers of this machine."""

from __future__ import annotations

import numpy as np
import pytest

from kws.data.synth import EspeakSynthesizer, FliteSynthesizer
from kws.errors import SynthesisError
from kws.frames import SAMPLE_RATE


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def espeak():
    try:
        return EspeakSynthesizer()
    except SynthesisError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def flite():
    try:
        return FliteSynthesizer()
    except SynthesisError as error:
        pytest.skip(str(error))


@pytest.fixture
def speech_like():
    """One second of silence, one of amplitude-modulated tone, half a second of silence."""
    time_s = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * time_s) * (1 + 0.5 * np.sin(2 * np.pi * 4 * time_s))
    return np.concatenate([np.zeros(SAMPLE_RATE), tone, np.zeros(SAMPLE_RATE // 2)]).astype(np.float32)
