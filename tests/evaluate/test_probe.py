"""The probe: LogME against its own definition, a linear probe that learns, and the layer it recommends."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from kws.evaluate.probe import (
    LOGME_ROUNDS,
    Layer,
    draw_probed,
    format_probed,
    linear_probe,
    logme,
    measure_depth,
    probe_layers,
    recommend,
)
from kws.model.settings import EncoderConfig


def clips(rng, num_clips=60, dim=6, gap=3.0):
    labels = np.arange(num_clips) % 3
    centres = gap * rng.standard_normal((3, dim))
    return centres[labels] + rng.standard_normal((num_clips, dim)), labels


def test_logme_is_the_maximum_of_the_evidence():
    """Evidence of y = F w + noise with Gaussian w is a Gaussian of y, which SciPy knows; its maximum by search."""
    rng = np.random.default_rng(0)
    features, labels = clips(rng, 30, 4)

    def evidence(target, alpha, beta):
        covariance = features @ features.T / alpha + np.eye(len(target)) / beta
        return multivariate_normal.logpdf(target, np.zeros(len(target)), covariance)

    grid = np.logspace(-3, 3, 61)
    best = [
        max(evidence((labels == label).astype(float), alpha, beta) for alpha in grid for beta in grid)
        for label in range(3)
    ]
    assert LOGME_ROUNDS >= 10
    assert logme(features, labels) == pytest.approx(np.mean(best) / 30, abs=0.01)


def test_logme_prefers_features_that_tell_the_labels():
    rng = np.random.default_rng(1)
    features, labels = clips(rng)
    assert logme(features, labels) > logme(rng.standard_normal(features.shape), labels) + 0.1
    wide = np.concatenate([features, rng.standard_normal((60, 200))], axis=1)  # more dimensions than clips
    assert np.isfinite(logme(wide, labels))


def test_a_linear_probe_learns_what_is_there_and_nothing_else():
    rng = np.random.default_rng(2)
    features, labels = clips(rng, 240)
    inputs, truth = torch.from_numpy(features).float(), torch.from_numpy(labels)
    assert linear_probe(inputs[:120], truth[:120], inputs[120:], truth[120:]) > 0.95
    noise = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))
    assert linear_probe(noise[:120], truth[:120], noise[120:], truth[120:]) < 0.5


def layer(depth, accuracy, error=0.02):
    return Layer(depth, accuracy, error, 0.1 * depth, 0.01 * depth if depth else None)


def test_the_fewest_layers_within_a_standard_error_are_recommended():
    layers = [layer(0, 0.99), layer(1, 0.7), layer(2, 0.885), layer(3, 0.9), layer(4, 0.89)]
    found = recommend(layers, mix_accuracy=0.91)
    assert (found.recommended, found.recommends_mix) == (2, False)
    assert found.settings == "--set encoder.layers=2"
    assert "50% less CPU time" in format_probed(found)
    assert recommend(layers, mix_accuracy=0.95).settings == "--set encoder.layer=mix"
    deep = recommend([layer(0, 0.5), layer(1, 0.6), layer(2, 0.9)], 0.9)
    assert deep.settings == "--set encoder.layers=0"  # all of them
    assert draw_probed(found, "alexa").startswith(b"\x89PNG")


def test_every_layer_is_probed_and_costs_more_than_the_one_before(tiny_encoder_folder):
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    windows = (rng.standard_normal((24, 6000)) * np.where(labels, 0.3, 0.003)[:, None]).astype(np.float32)
    settings = EncoderConfig(name=str(tiny_encoder_folder))
    found = probe_layers(settings, (windows[:12], labels[:12]), (windows[12:], labels[12:]))
    assert [one.layers for one in found.layers] == [0, 1, 2]
    assert found.layers[0].cpu_s_per_s is None
    assert all(0 <= one.accuracy <= 1 and np.isfinite(one.logme) for one in found.layers)
    assert 0 < measure_depth(settings, 1) < 1
