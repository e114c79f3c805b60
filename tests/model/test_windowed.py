"""Encoders of `transformers`: loaded whole or cut, output layer apart, and a stream that equals `forward`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from checkpoints import KINDS, LABELS, build_checkpoint

from kws.errors import AudioError, EncoderError
from kws.frames import WAV2VEC2_GEOMETRY

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

from kws.model.pretrained import load_encoder  # noqa: E402

WINDOW = {"window_s": 0.5, "hop_s": 0.1}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def wav2vec2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("checkpoint"), "Wav2Vec2")


def forward(encoder, waveform: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return encoder(torch.from_numpy(waveform)[None])[0].numpy()


def streamed(stream, pieces) -> np.ndarray:
    return np.concatenate([*(stream.feed(piece) for piece in pieces), stream.flush()])


@pytest.mark.parametrize("size", [160, 1280, 4000, "random"])
def test_stream_equals_forward(folder, noise, chunks, size):
    encoder = load_encoder(folder, **WINDOW)
    expected = forward(encoder, noise)
    assert expected.shape == (WAV2VEC2_GEOMETRY.num_frames(len(noise)), 16)
    np.testing.assert_allclose(streamed(encoder.stream(), chunks(noise, size)), expected, atol=1e-4)


def test_one_window_is_the_network_of_transformers(folder, noise):
    """A whole window, normalised as the feature extractor does, gives `transformers`' own last hidden state."""
    encoder = load_encoder(folder, **WINDOW)
    window = noise[: WAV2VEC2_GEOMETRY.num_samples(25)]
    normalised = (window - window.mean()) / np.sqrt(window.var() + 1e-7)
    network = transformers.AutoModelForCTC.from_pretrained(folder).eval()
    with torch.inference_mode():
        output = network(torch.from_numpy(normalised)[None], output_hidden_states=True)
        frames = encoder(torch.from_numpy(window)[None])
        torch.testing.assert_close(frames, output.hidden_states[-1], atol=1e-4, rtol=0)
        torch.testing.assert_close(encoder.output_layer(frames), output.logits, atol=1e-4, rtol=0)


def test_output_layer_is_removed_and_kept(folder):
    encoder = load_encoder(folder)
    assert encoder.output_layer.labels == LABELS
    assert encoder.output_layer.weight.shape == (5, 16)
    assert not any("lm_head" in name for name in encoder.state_dict())
    assert len(encoder.sha256) == 64


@pytest.mark.parametrize("layer", ["last", "mix"])
def test_truncation_streams_too(folder, noise, chunks, layer):
    encoder = load_encoder(folder, layers=2, layer=layer, **WINDOW)
    assert len(encoder.transformer_layers) == 2
    assert encoder.dim == (48 if layer == "mix" else 16)
    frames = streamed(encoder.stream(), chunks(noise, "random"))
    np.testing.assert_allclose(frames, forward(encoder, noise), atol=1e-4)
    assert np.abs(frames[:, -16:] - forward(load_encoder(folder, **WINDOW), noise)).max() > 1e-2


@pytest.mark.parametrize("num_samples", [0, 399, 400, 5_000, 8_000, 8_080, 8_081, 9_700])
def test_audio_shorter_than_or_about_one_window(wav2vec2_folder, noise, num_samples):
    encoder = load_encoder(wav2vec2_folder, **WINDOW)
    frames = streamed(encoder.stream(), [noise[:num_samples]])
    assert len(frames) == WAV2VEC2_GEOMETRY.num_frames(num_samples)
    np.testing.assert_allclose(frames, forward(encoder, noise[:num_samples]), atol=1e-4)


def test_streams_share_nothing_and_end_fresh(wav2vec2_folder, noise, chunks):
    encoder = load_encoder(wav2vec2_folder, **WINDOW)
    alone = streamed(encoder.stream(), chunks(noise, 1280))
    first, second, pieces = encoder.stream(), encoder.stream(), []
    for piece in chunks(noise, 1280):
        pieces.append(first.feed(piece))
        second.feed(-piece)
    np.testing.assert_array_equal(np.concatenate([*pieces, first.flush()]), alone)
    np.testing.assert_array_equal(streamed(first, chunks(noise, 1280)), alone)
    with pytest.raises(AudioError):
        first.feed(np.array([np.nan]))
    np.testing.assert_array_equal(streamed(first, chunks(noise, 1280)), alone)


def test_freezing_survives_train(wav2vec2_folder):
    encoder = load_encoder(wav2vec2_folder, trainable_layers=1).train()
    assert [layer.training for layer in encoder.transformer_layers] == [False, False, True]
    assert not encoder.network.feature_extractor.training
    trained = {name for name, value in encoder.named_parameters() if value.requires_grad}
    assert trained
    assert all(".layers.2." in name for name in trained)


def test_random_start_differs_in_every_matrix(folder):
    pretrained = dict(load_encoder(folder).named_parameters())
    encoder = load_encoder(folder, is_random=True)
    same = [
        name
        for name, value in encoder.named_parameters()
        if value.ndim > 1 and value.unique().numel() > 1 and torch.equal(value, pretrained[name])
    ]
    assert same == []


def test_missing_weight_is_an_error(wav2vec2_folder, tmp_path):
    damaged = shutil.copytree(wav2vec2_folder, tmp_path / "damaged")
    state = safetensors_torch.load_file(damaged / "model.safetensors")
    del state["wav2vec2.encoder.layers.1.attention.k_proj.weight"]
    safetensors_torch.save_file(state, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"1 encoder weights uninitialised.*layers\.1\.attention\.k_proj"):
        load_encoder(damaged)


def test_missing_output_layer_is_not(wav2vec2_folder, tmp_path):
    bare = shutil.copytree(wav2vec2_folder, tmp_path / "bare")
    state = safetensors_torch.load_file(bare / "model.safetensors")
    kept = {name: value for name, value in state.items() if "lm_head" not in name and "masked_spec_embed" not in name}
    safetensors_torch.save_file(kept, bare / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(bare).output_layer is None


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "{}", "{"])
def test_folder_of_something_else_is_an_error(tmp_path, content):
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(EncoderError, match=str(tmp_path)):
        load_encoder(tmp_path)


def test_folder_without_weights_is_an_error(wav2vec2_folder, tmp_path):
    empty = shutil.copytree(wav2vec2_folder, tmp_path / "empty")
    (empty / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="fetch it again"):
        load_encoder(empty)


def test_unreachable_hub_id_names_the_command_and_the_default(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=r"hf download nobody/wav2vec2-not-here.*encoder\.name=streaming-small"):
        load_encoder("nobody/wav2vec2-not-here")
