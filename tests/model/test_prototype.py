"""The shipped encoder gives the frames that its training code gave; the reference was stored by that code."""

from pathlib import Path

import numpy as np
import pytest

from kws.model.onnx_encoder import load_onnx_encoder
from kws.model.settings import EncoderConfig

REFERENCE = Path(__file__).parents[1] / "assets/prototype_reference.npz"


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as arrays:
        return dict(arrays)


def test_torch_reproduces_frames_and_logits(reference):
    torch = pytest.importorskip("torch")
    from kws.model.pretrained import load_encoder

    encoder = load_encoder("prototype")
    with torch.inference_mode():
        frames = encoder(torch.from_numpy(reference["waveform"])[None])
        logits = encoder.output_layer(frames)
    np.testing.assert_allclose(frames[0], reference["frames"], atol=1e-3)
    np.testing.assert_allclose(logits[0], reference["logits"], atol=1e-3)


def test_onnx_stream_reproduces_frames(reference):
    stream = load_onnx_encoder(EncoderConfig(name="prototype")).stream()
    waveform = reference["waveform"]
    frames = [stream.feed(waveform[start : start + 1280]) for start in range(0, len(waveform), 1280)]
    np.testing.assert_allclose(np.concatenate([*frames, stream.flush()]), reference["frames"], atol=1e-3)
