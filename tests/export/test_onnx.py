"""The exported graph: small, without weights, equal to torch, and nothing is written when it is not."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from kws.detect.detector import Detector  # noqa: E402
from kws.errors import EncoderError  # noqa: E402
from kws.export import onnx as export  # noqa: E402
from kws.export.step_graph import StepGraph, _unfold  # noqa: E402
from kws.model.encoder_folder import find_encoder_folder, list_encoders, read_streaming_config  # noqa: E402
from kws.model.onnx_session import open_session  # noqa: E402


@pytest.mark.parametrize("name", list_encoders())
def test_shipped_graphs_are_small_and_equal_torch(name):
    folder = find_encoder_folder(name)
    if read_streaming_config(folder) is None:
        pytest.skip("not a streaming encoder")
    assert (folder / "step.onnx").stat().st_size < 300_000
    assert export.parity_error(folder) < export.MAX_ERROR


def test_weights_are_outside_under_their_own_names(tiny_encoder_folder):
    model = onnx.load(tiny_encoder_folder / "step.onnx", load_external_data=False)
    outside = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.external_data}
    assert outside == read_streaming_config(tiny_encoder_folder).weight_shapes()
    assert not any(tensor.raw_data for tensor in model.graph.initializer if tensor.external_data)


def test_other_strides_and_kernels_than_wav2vec2s(tiny_encoder_folder):
    """Unfolding has three cases: kernel = stride, a multiple of it, and a remainder."""

    class Bare(StepGraph):
        def weights(self):
            return {}

    graph, rows = Bare(read_streaming_config(tiny_encoder_folder)), 24
    cases = [(2, 2), (6, 3), (7, 3), (3, 1), (1, 1)]
    for kernel, stride in cases:
        name = _unfold(graph, graph.input(f"x{kernel}{stride}", rows // 4 * stride + kernel, 2), 2, kernel, stride)
        graph.output(f"y{kernel}{stride}", name, "n", kernel * 2)
    session = open_session(graph.model(), {}, num_threads=1)
    inputs = {
        f"x{kernel}{stride}": np.random.default_rng(0).normal(size=(6 * stride + kernel, 2)).astype(np.float32)
        for kernel, stride in cases
    }
    for (kernel, stride), unfolded in zip(cases, session.run(None, inputs)):
        rows_in = inputs[f"x{kernel}{stride}"]
        expected = np.stack([rows_in[i * stride : i * stride + kernel].ravel() for i in range(7)])
        np.testing.assert_array_equal(unfolded, expected)


def test_graph_that_differs_from_torch_is_not_written(tiny_encoder_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_encoder_folder, tmp_path / "encoder")
    (folder / "step.onnx").unlink()
    monkeypatch.setattr(export, "parity_error", lambda *_: float("nan"))
    with pytest.raises(EncoderError, match="differs from torch"):
        export.export_encoder(folder)
    assert not (folder / "step.onnx").exists()


def test_only_streaming_encoders_are_exported(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(EncoderError, match="no streaming encoder"):
        export.export_encoder(tmp_path)


def test_the_first_layers_alone_are_a_graph_of_their_own(tiny_encoder_folder, make_wakeword, noise, tmp_path):
    folder = shutil.copytree(tiny_encoder_folder, tmp_path / "encoder")
    path = export.export_encoder(folder, layers=1)
    assert path.name == "step-1.onnx"
    wakeword = make_wakeword("cut", layers=1)
    moved = replace(wakeword, encoder=replace(wakeword.encoder, name=str(folder)))
    torch_detector, detector = (Detector([moved], backend=backend) for backend in ("torch", "auto"))
    assert detector.backends == ["onnx"]
    np.testing.assert_allclose(detector.scores(noise), torch_detector.scores(noise), atol=1e-4)
    with pytest.raises(EncoderError, match="has 2 transformer layers; 3 is none of 1 to 2"):
        export.export_encoder(folder, layers=3)
