"""The small conventional network: it streams as it hears whole audio, and is kept and read like any encoder."""

import numpy as np
import pytest
import torch

from kws.errors import EncoderError
from kws.frames import SAMPLE_RATE
from kws.model.pretrained import load_encoder
from kws.model.small import MEL_GEOMETRY, SmallConfig, new_small_encoder
from kws.train.transfer.encoder_files import save_encoder


@pytest.fixture
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return new_small_encoder(SmallConfig(channels=12, blocks=2)).eval()


@pytest.mark.parametrize("size", [1, 160, 1280, "random"])
def test_stream_gives_the_offline_frames(encoder, noise, chunks, size):
    waveform = noise[:9000] if size == 1 else noise
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(waveform)[None])[0].numpy()
    stream = encoder.stream()
    frames = np.concatenate([*(stream.feed(chunk) for chunk in chunks(waveform, size)), stream.flush()])
    assert frames.shape == expected.shape == (MEL_GEOMETRY.num_frames(len(waveform)), 12)
    np.testing.assert_allclose(frames, expected, atol=1e-4)


def test_its_mel_bands_hear_pitch_and_level(encoder):
    time_s = np.arange(8000) / SAMPLE_RATE
    tones = [torch.from_numpy(np.sin(2 * np.pi * hz * time_s).astype(np.float32))[None] for hz in (300, 3000)]
    low, high = (encoder.log_mel(tone)[0, 5].argmax().item() for tone in tones)
    assert low < 10 < 20 < high
    loud, soft = (encoder.log_mel(gain * tones[0])[0, 5].max().item() for gain in (1.0, 0.1))
    assert loud - soft == pytest.approx(np.log(100) / 4, rel=0.01)  # 20 dB, in the network's units


def test_it_is_kept_and_read_like_any_encoder(encoder, noise, tmp_path):
    settings = save_encoder(encoder, tmp_path / "small")
    loaded = load_encoder(settings.name)
    waveform = torch.from_numpy(noise)[None]
    with torch.inference_mode():
        np.testing.assert_allclose(loaded(waveform).numpy(), encoder(waveform).numpy(), atol=0.02)  # half precision
    assert loaded.is_frozen
    assert len(loaded.sha256) == 64
    (tmp_path / "small" / "model.safetensors").write_bytes(b"")
    with pytest.raises(EncoderError, match="not a whole network"):
        load_encoder(settings.name)
