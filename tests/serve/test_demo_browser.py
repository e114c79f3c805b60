"""What the detector in the browser runs on: the wake word's own depth of its encoder, weights and all."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from kws.errors import EncoderError
from kws.export.onnx import export_encoder
from kws.model.graphs import load_onnx_encoder
from kws.model.onnx_session import open_session
from kws.model.settings import EncoderConfig
from kws.serve.demo_browser import browser_graph, describe_browser_model


@pytest.fixture(scope="module")
def folder(tiny_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the tiny encoder with graphs of both depths."""
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    shutil.copytree(tiny_encoder_folder, folder)
    export_encoder(folder, layers=1)
    return folder


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_graph_has_the_wake_words_depth_and_its_weights_inside(folder, noise, layers):
    settings = EncoderConfig(name=str(folder), layers=layers)
    encoder = load_onnx_encoder(settings)
    session = open_session(browser_graph(settings), {})
    cache = dict(zip(encoder.cache_names, encoder.initial_cache()))
    samples = noise[: encoder.geometry.num_samples(encoder.block_frames)]
    frames = session.run(["frames"], cache | {"samples": samples})[0]
    np.testing.assert_allclose(frames, encoder.step(samples[None], encoder.initial_cache())[0][0], atol=1e-5)
    assert sorted(one.name for one in session.get_inputs()) == sorted([*cache, "samples"])


def test_described_caches_are_those_of_the_graph(folder, make_wakeword):
    wakeword = make_wakeword("one", layers=1)
    with pytest.raises(EncoderError, match="--layers 1"):  # its own folder has the whole depth alone
        describe_browser_model(wakeword)
    described = describe_browser_model(replace(wakeword, encoder=replace(wakeword.encoder, name=str(folder))))
    assert described["encoder"]["caches"] == {"position": [7, 16], "past_0": [0, 32]}
