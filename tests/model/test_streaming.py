"""The streaming encoder: a stream gives the offline frames on both back ends, and loading keeps its promises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kws.errors import AudioError, EncoderError
from kws.model.graphs import graph_problem
from kws.model.onnx_encoder import OnnxEncoder
from kws.model.settings import EncoderConfig

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from kws.model.encoder_folder import StreamingConfig, read_streaming_config  # noqa: E402
from kws.model.pretrained import load_encoder  # noqa: E402

CHUNK_SIZES = [160, 1280, 4000, "random"]
BACKENDS = ["torch", "onnx"]
TOLERANCE = 1e-4


def load(folder: Path, backend: str) -> Any:
    return load_encoder(folder) if backend == "torch" else OnnxEncoder(folder)


def offline(folder: Path, waveform: np.ndarray, **options: Any) -> np.ndarray:
    with torch.inference_mode():
        return load_encoder(folder, **options)(torch.from_numpy(waveform)[None])[0].numpy()


def streamed(stream: Any, pieces: Any) -> np.ndarray:
    return np.concatenate([*(stream.feed(piece) for piece in pieces), stream.flush()])


@pytest.fixture
def damaged(tiny_encoder_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_encoder_folder, tmp_path / "damaged")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", CHUNK_SIZES)
def test_stream_gives_the_offline_frames(tiny_encoder_folder, noise, chunks, backend, size):
    frames = streamed(load(tiny_encoder_folder, backend).stream(), chunks(noise, size))
    expected = offline(tiny_encoder_folder, noise)
    assert frames.shape == expected.shape == (103, 16)
    np.testing.assert_allclose(frames, expected, atol=TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_single_samples_give_the_offline_frames(tiny_encoder_folder, noise, chunks, backend):
    short = noise[:4000]
    frames = streamed(load(tiny_encoder_folder, backend).stream(), chunks(short, 1))
    np.testing.assert_allclose(frames, offline(tiny_encoder_folder, short), atol=TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_feed_longer_than_one_pass(tiny_encoder_folder, noise, backend):
    long = np.tile(noise, 7)  # more than MAX_FEED_FRAMES
    frames = streamed(load(tiny_encoder_folder, backend).stream(), [long])
    np.testing.assert_allclose(frames, offline(tiny_encoder_folder, long), atol=TOLERANCE)


def test_shipped_encoder_streams_its_offline_frames_on_both_back_ends(noise, chunks):
    from kws.model.encoder_folder import DEFAULT_ENCODER, find_encoder_folder

    folder = find_encoder_folder(DEFAULT_ENCODER)
    expected = offline(folder, noise)
    for backend in BACKENDS:
        frames = streamed(load(folder, backend).stream(), chunks(noise, 1280))
        np.testing.assert_allclose(frames, expected, atol=TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_flush_and_reset_leave_the_stream_fresh(tiny_encoder_folder, noise, backend):
    encoder = load(tiny_encoder_folder, backend)
    fresh, stream = streamed(encoder.stream(), [noise]), encoder.stream()
    streamed(stream, [noise[:5000]])
    np.testing.assert_array_equal(streamed(stream, [noise]), fresh)
    stream.feed(noise[:7000])
    stream.reset()
    np.testing.assert_array_equal(streamed(stream, [noise]), fresh)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_streams_share_nothing(tiny_encoder_folder, noise, chunks, backend):
    encoder = load(tiny_encoder_folder, backend)
    alone = streamed(encoder.stream(), chunks(noise, 1280))
    first, second, interleaved = encoder.stream(), encoder.stream(), []
    for piece in chunks(noise, 1280):
        interleaved.append(first.feed(piece))
        second.feed(-3 * piece)
    np.testing.assert_array_equal(np.concatenate([*interleaved, first.flush()]), alone)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "bad", [np.array([0, np.nan]), np.array([np.inf]), np.zeros((2, 100)), np.zeros(9, np.int64), "text"]
)
def test_bad_chunk_leaves_the_stream_as_before(tiny_encoder_folder, noise, backend, bad):
    encoder = load(tiny_encoder_folder, backend)
    stream, frames = encoder.stream(), []
    frames.append(stream.feed(noise[:7000]))
    with pytest.raises(AudioError):
        stream.feed(bad)
    frames += [stream.feed(noise[7000:]), stream.flush()]
    np.testing.assert_allclose(np.concatenate(frames), offline(tiny_encoder_folder, noise), atol=TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_audio_too_short_for_a_frame_gives_none(tiny_encoder_folder, backend):
    stream = load(tiny_encoder_folder, backend).stream()
    assert stream.feed(np.zeros(399, np.float32)).shape == (0, 16)
    assert stream.flush().shape == (0, 16)


def test_batch_gives_the_frames_of_each(tiny_encoder_folder, noise):
    encoder = load_encoder(tiny_encoder_folder)
    pair = torch.from_numpy(np.stack([noise, noise[::-1].copy()]))
    with torch.inference_mode():
        together = encoder(pair)
        apart = torch.cat([encoder(pair[:1]), encoder(pair[1:])])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_a_frame_sees_its_block_and_the_left_context_only(tiny_encoder_folder, noise):
    """Changing audio after a block changes nothing before; two layers of 12 frames can't see 30 frames back."""
    encoder = load_encoder(tiny_encoder_folder)
    block_end = encoder.geometry.num_samples(8)
    changed = noise.copy()
    changed[block_end:] = 0
    frames, with_change = offline(tiny_encoder_folder, noise), offline(tiny_encoder_folder, changed)
    np.testing.assert_allclose(frames[:8], with_change[:8], atol=1e-5)
    assert np.abs(frames[8:12] - with_change[8:12]).max() > 1e-2


def test_truncation_is_the_lower_part_of_the_whole(tiny_encoder_folder, noise, chunks):
    encoder = load_encoder(tiny_encoder_folder, layers=1)
    assert len(encoder.transformer_layers) == 1
    whole = load_encoder(tiny_encoder_folder)
    captured = {}
    whole.transformer_layers[0].register_forward_hook(lambda module, args, out: captured.update(state=out[0]))
    with torch.inference_mode():
        whole(torch.from_numpy(noise)[None])
        expected = whole.encoder.layer_norm(captured["state"])[0].numpy()
    frames = streamed(encoder.stream(), chunks(noise, 1280))
    np.testing.assert_allclose(frames, expected, atol=TOLERANCE)
    with pytest.raises(EncoderError, match="layers = 3 is too many"):
        load_encoder(tiny_encoder_folder, layers=3)


def test_mix_gives_every_layer_and_streams(tiny_encoder_folder, noise, chunks):
    encoder = load_encoder(tiny_encoder_folder, layer="mix")
    assert (encoder.num_states, encoder.dim) == (3, 48)
    frames = streamed(encoder.stream(), chunks(noise, "random"))
    expected = offline(tiny_encoder_folder, noise, layer="mix")
    np.testing.assert_allclose(frames, expected, atol=TOLERANCE)
    states = frames.reshape(len(frames), 3, 16)
    np.testing.assert_allclose(states.mean(2), 0, atol=1e-4)  # each layer is normalised
    assert np.abs(states[:, 0] - states[:, 2]).max() > 0.1


@pytest.mark.parametrize(("trainable", "expected"), [(0, []), (1, [1]), (-1, [0, 1])])
def test_freezing_survives_train(tiny_encoder_folder, trainable, expected):
    encoder = load_encoder(tiny_encoder_folder, trainable_layers=trainable)
    for layer in encoder.transformer_layers:
        layer.add_module("dropout", torch.nn.Dropout(0.5))
    torch.nn.Sequential(encoder).train()
    is_trained = [any(p.requires_grad for p in layer.parameters()) for layer in encoder.transformer_layers]
    assert [index for index, is_it in enumerate(is_trained) if is_it] == expected
    assert [layer.dropout.training for layer in encoder.transformer_layers] == is_trained
    assert encoder.feature_extractor.training == (trainable == -1)
    assert encoder.is_frozen == (trainable == 0)


def test_random_start_differs_in_every_matrix(tiny_encoder_folder):
    pretrained = dict(load_encoder(tiny_encoder_folder).named_parameters())
    encoder = load_encoder(tiny_encoder_folder, is_random=True)
    same = [
        name
        for name, value in encoder.named_parameters()
        if torch.equal(value, pretrained[name]) and "norm" not in name
    ]
    assert same == []
    assert encoder.sha256 == ""


def test_output_layer_is_kept_apart(tiny_encoder_folder):
    encoder = load_encoder(tiny_encoder_folder)
    assert encoder.output_layer.labels == ("<pad>", "AA", "B", "|")
    assert encoder.output_layer(torch.zeros(5, 16)).shape == (5, 4)
    assert not any("lm_head" in name for name in encoder.state_dict())


def test_weight_shapes_are_those_of_the_network(tiny_encoder_folder):
    state = load_encoder(tiny_encoder_folder).state_dict()
    shapes = read_streaming_config(tiny_encoder_folder).weight_shapes()
    assert {name: tuple(value.shape) for name, value in state.items()} == shapes


@pytest.mark.parametrize("backend", BACKENDS)
def test_missing_or_misshapen_weights_are_refused(damaged, backend):
    path, name = damaged / "model.safetensors", "wav2vec2.encoder.layers.1.attention.k_proj.weight"
    state = safetensors_torch.load_file(path)
    for change in ({}, {name: torch.zeros(3, 3)}):
        kept = {key: value for key, value in state.items() if key != name}
        safetensors_torch.save_file(kept | change, path)
        with pytest.raises(EncoderError, match=r"1 weights, first encoder\.layers\.1\.attention\.k_proj\.weight"):
            load(damaged, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{broken}"),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"streaming": {}}'),
    ],
)
def test_damaged_files_are_refused(damaged, backend, name, content):
    (damaged / name).write_bytes(content)
    with pytest.raises(EncoderError, match="fetch"):
        load(damaged, backend)


def test_damaged_or_foreign_graph_is_refused(damaged):
    config = json.loads((damaged / "config.json").read_text())
    config["streaming"]["block_frames"] = 8
    (damaged / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="exported from another encoder"):
        OnnxEncoder(damaged)
    (damaged / "step.onnx").write_bytes(b"no graph")
    with pytest.raises(EncoderError, match="export it again"):
        OnnxEncoder(damaged)
    (damaged / "step.onnx").unlink()
    with pytest.raises(EncoderError, match="can't be read"):
        OnnxEncoder(damaged)


def test_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(EncoderError, match=r"holds no config\.json.*streaming-small"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": 1}, "step-1.onnx"),
        ({"layer": "mix"}, "last layer"),
        ({"is_random": True}, "random"),
        ({}, ""),
        ({"layers": 2}, ""),
    ],
)
def test_graph_says_what_it_can_not_do(tiny_encoder_folder, options, reason):
    problem = graph_problem(EncoderConfig(name=str(tiny_encoder_folder), **options))
    assert reason in problem
    assert bool(problem) == bool(reason)


def test_both_back_ends_describe_themselves_alike(tiny_encoder_folder):
    one, other = load_encoder(tiny_encoder_folder), OnnxEncoder(tiny_encoder_folder)
    for name in ("geometry", "dim", "num_states", "sha256", "settings"):
        assert getattr(one, name) == getattr(other, name), name


def test_config_round_trips(tiny_encoder_folder):
    config = read_streaming_config(tiny_encoder_folder)
    assert isinstance(config, StreamingConfig)
    assert (config.block_frames, config.left_context_frames, config.geometry.hop) == (4, 12, 320)
