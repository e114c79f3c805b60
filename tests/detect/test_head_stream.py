"""Heads as a graph: what the torch head and a sigmoid give, whatever the chunks."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from kws.detect.head_stream import LANES, Heads, HeadStream, sigmoid
from kws.model.settings import HeadConfig

HEADS = [
    HeadConfig(kind="conv", hidden=12, kernel=9, dilation=5),
    HeadConfig(kind="conv", hidden=8, kernel=1, dilation=7),
    HeadConfig(kind="conv", hidden=6, members=3, kernel=5, dilation=2),
    HeadConfig(kind="gru", hidden=12),
]


@pytest.fixture(params=HEADS, ids=lambda head: f"{head.kind}{head.kernel}")
def head(request: pytest.FixtureRequest) -> HeadConfig:
    return request.param


def frames_for(num_states: int, num_frames: int = 150) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 2, (num_frames, 16 * num_states)).astype(np.float32)


@pytest.mark.parametrize("num_states", [1, 3])
def test_scores_equal_torch(make_wakeword, head, num_states):
    torch = pytest.importorskip("torch")
    from kws.model.head import Head

    wakeword = make_wakeword("one", "two", head=head, num_states=num_states)
    network = Head(wakeword.dim, 2, head, num_states).eval()
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in wakeword.weights.items()})
    frames = frames_for(num_states)
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(frames)[None], network.initial_cache())[0][0]).numpy()
    scores = HeadStream(wakeword).feed(frames)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_chunks_change_nothing(make_wakeword, head, size):
    wakeword, frames = make_wakeword("one", head=head), frames_for(1)
    stream = HeadStream(wakeword)
    pieces = [stream.feed(frames[start : start + size]) for start in range(0, len(frames), size)]
    np.testing.assert_allclose(np.concatenate(pieces), HeadStream(wakeword).feed(frames), atol=1e-5)


def test_no_frames_give_no_scores_and_reset_forgets(make_wakeword, head):
    wakeword, frames = make_wakeword("one", "two", head=head), frames_for(1)
    stream = HeadStream(wakeword)
    assert stream.feed(frames[:0]).shape == (0, 2)
    first = stream.feed(frames)
    assert stream.feed(frames[:0]).shape == (0, 2)
    assert not np.array_equal(stream.feed(frames), first) or head.kernel == 1
    stream.reset()
    np.testing.assert_array_equal(stream.feed(frames), first)


def test_streams_of_one_head_share_nothing(make_wakeword, head):
    shared, frames = Heads([make_wakeword("one", head=head)]), frames_for(1)
    first, second = HeadStream(shared), HeadStream(shared)
    first.feed(-frames)
    np.testing.assert_array_equal(second.feed(frames), HeadStream(shared).feed(frames))


@pytest.mark.parametrize("num_states", [1, 3])
def test_stacked_heads_score_as_each_alone(make_wakeword, head, num_states):
    wakewords = [make_wakeword(*names, head=head, num_states=num_states) for names in (["a"], ["b", "c"], ["d"])]
    rng = np.random.default_rng(5)
    for wakeword in wakewords:
        for array in wakeword.weights.values():
            array += rng.normal(0, 0.1, array.shape).astype(array.dtype)
    frames = frames_for(num_states)
    alone = np.concatenate([HeadStream(wakeword).feed(frames) for wakeword in wakewords], axis=1)
    together = HeadStream(*wakewords)
    pieces = [together.feed(frames[:40]), together.feed(frames[40:])]
    np.testing.assert_allclose(np.concatenate(pieces), alone, atol=1e-5)
    assert not np.allclose(alone[:, 0], alone[:, 3])


def test_dominant_layer_wins_the_mix(make_wakeword):
    wakeword = make_wakeword("one", num_states=3)
    weights = dict(wakeword.weights) | {"state_weights": np.array([-900, 0, 900], np.float32)}
    frames = frames_for(3)
    mixed = HeadStream(dataclasses.replace(wakeword, weights=weights)).feed(frames)
    alone = dataclasses.replace(wakeword, dim=16, num_states=1, weights=weights | {"state_weights": np.zeros(1, "f4")})
    np.testing.assert_allclose(mixed, HeadStream(alone).feed(frames[:, 32:]), atol=1e-6)


def test_more_keywords_than_are_computed_side_by_side(make_wakeword, head):
    names = [f"word {index}" for index in range(LANES + 3)]
    many, one = make_wakeword(*names, head=head), make_wakeword("one", head=head, seed=1)
    scores = HeadStream(many, one).feed(frames_for(1))
    expected = [HeadStream(wakeword).feed(frames_for(1)) for wakeword in (many, one)]
    assert scores.shape == (len(frames_for(1)), LANES + 4)
    np.testing.assert_allclose(scores, np.concatenate(expected, axis=1), atol=1e-5)
    assert len(np.unique(scores[-1])) > LANES


def test_sigmoid_is_quiet_and_exact_at_both_ends():
    logits = np.array([-1e4, -50, -1, 0, 1, 50, 1e4], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = sigmoid(logits)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [0, np.exp(-50.0), 0.26894142, 0.5, 0.73105858, 1, 1], rtol=1e-6)


def test_low_scores_are_not_rounded_to_those_of_what_was_not_heard(make_wakeword, head):
    wakeword = make_wakeword("one", head=head)
    output = {"output.weight": np.zeros((1, head.width), np.float32), "output.bias": np.array([-30], np.float32)}
    scores = HeadStream(dataclasses.replace(wakeword, weights=dict(wakeword.weights) | output)).feed(frames_for(1))
    np.testing.assert_allclose(scores, np.exp(-30.0), rtol=1e-5)
