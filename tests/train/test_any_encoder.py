"""A wake word is trained on, and found with, an encoder of `transformers`: loaded by path, cut, streamed by window."""

import json

import numpy as np
import pytest

import kws
from kws.train.wakeword import train_wakeword

transformers = pytest.importorskip("transformers")

FEW = [
    "pool.num_voices=2", "pool.num_validation_voices=2", "windows.num_positives=4", "windows.num_negatives=4",
    "validation_windows=1", "validation_window_s=4", "validation_positives=2", "training.epochs=2",
    "training.rounds=1", "training.batch_size=4", "encoder.hop_s=0.4",
]  # fmt: skip


def save_encoder(folder, **sizes):
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**sizes)).save_pretrained(folder)
    return folder


def check_training(folder, tmp_path, *overrides):
    name = f"encoder.name={json.dumps(str(folder))}"
    trained = train_wakeword("jarvis", tmp_path / "jarvis", overrides=[*FEW, name, *overrides])
    detector = kws.load(trained.path)
    waveform = (0.1 * np.random.default_rng(0).standard_normal(60_000)).astype("f4")
    scores = detector.scores(waveform)
    assert scores.shape == (187, 1)
    stream = detector.stream()
    streamed = [stream.feed_scores(waveform[start : start + 7000]) for start in range(0, len(waveform), 7000)]
    np.testing.assert_allclose(np.concatenate([*streamed, stream.flush_scores()]), scores, atol=1e-4)
    return trained


def test_a_small_checkpoint(tmp_path):
    folder = save_encoder(
        tmp_path / "encoder", conv_dim=[16] * 7, hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=64, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    trained = check_training(folder, tmp_path, "encoder.layers=2", "encoder.layer=mix")
    assert trained.wakeword.num_states == 3
    assert trained.wakeword.dim == 3 * 32


@pytest.mark.slow
def test_the_configuration_of_wav2vec2_base_960h_with_six_layers(tmp_path):
    """`Wav2Vec2Config`'s defaults are those of facebook/wav2vec2-base-960h; the weights are random."""
    folder = save_encoder(tmp_path / "encoder", vocab_size=32)
    trained = check_training(folder, tmp_path, "encoder.layers=6")
    assert trained.wakeword.dim == 768
    encoder = kws.load_encoder(folder, layers=6)
    assert len(encoder.transformer_layers) == 6
    assert not any("lm_head" in name for name, _ in encoder.named_parameters())
    assert encoder.output_layer.weight.shape == (32, 768)
