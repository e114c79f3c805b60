"""What several test folders share: a tiny seeded encoder, a wake word on it, audio, and ways to cut audio up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kws.model.artefact import Keyword, WakeWord, expected_shapes
from kws.model.settings import EncoderConfig, HeadConfig, TriggerConfig

Chunker = Callable[[np.ndarray, "int | str"], Iterator[np.ndarray]]
MakeWakeWord = Callable[..., WakeWord]

TINY_CONFIG = {
    "model_type": "wav2vec2",
    "conv_dim": [8] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "layer_norm_eps": 1e-5,
    "streaming": {"block_frames": 4, "left_context_frames": 12, "causal_positional_convolution": True},
}
TINY_LABELS = ("<pad>", "AA", "B", "|")


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a streaming encoder of random weights, as `pretrained/` has them; don't change it."""
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    from kws.export.onnx import export_encoder
    from kws.model.encoder_folder import StreamingConfig
    from kws.model.streaming import StreamingEncoder

    torch.set_num_threads(1)  # networks this small only lose by sharing, far more so on a busy machine
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = StreamingEncoder(StreamingConfig.from_json(TINY_CONFIG))
        state = {f"wav2vec2.{name}": value.half().contiguous() for name, value in encoder.state_dict().items()}
        state["lm_head.weight"] = torch.randn(len(TINY_LABELS), TINY_CONFIG["hidden_size"]).half()
        state["lm_head.bias"] = torch.randn(len(TINY_LABELS)).half()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TINY_CONFIG), encoding="utf-8")
    vocabulary = {label: index for index, label in enumerate(TINY_LABELS)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    export_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def make_wakeword(tiny_encoder_folder: Path) -> MakeWakeWord:
    """Returns a function that makes a wake word with a random head on the tiny encoder."""
    from kws.model.files import sha256_of

    def make(
        *names: str,
        seed: int = 0,
        head: HeadConfig | None = None,
        trigger: TriggerConfig | None = None,
        num_states: int = 1,
        **encoder: object,
    ) -> WakeWord:
        keywords = tuple(Keyword(name, 0.3, trigger or TriggerConfig(refractory_s=0.2)) for name in names or ("tiny",))
        settings = EncoderConfig(name=str(tiny_encoder_folder), **encoder)  # type: ignore[arg-type]
        sha256 = sha256_of(tiny_encoder_folder / "model.safetensors")
        head = head or HeadConfig(hidden=4, members=2, kernel=3, dilation=2)
        dim = TINY_CONFIG["hidden_size"] * num_states
        bare = WakeWord(keywords, settings, sha256, dim, num_states, head, {})
        generator = np.random.default_rng(seed)
        weights = {
            name: generator.normal(0, 1, shape).astype(np.float32) for name, shape in expected_shapes(bare).items()
        }
        return WakeWord(keywords, settings, sha256, dim, num_states, head, weights, {"seed": seed})

    return make


@pytest.fixture(scope="session")
def tiny_wakeword(make_wakeword: MakeWakeWord) -> WakeWord:
    """Returns a wake word with a random head on the tiny encoder."""
    return make_wakeword("tiny")


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """Returns two seconds and a bit of noise that comes and goes: (num_samples,) float32."""
    num_samples = 33_333
    envelope = np.abs(np.sin(np.arange(num_samples) / 2_000))
    return (np.random.default_rng(7).normal(0, 0.2, num_samples) * envelope).astype(np.float32)


@pytest.fixture(scope="session")
def chunks() -> Chunker:
    """Returns a function that cuts a waveform into chunks of `size` samples, or of random sizes ("random")."""

    def cut(waveform: np.ndarray, size: int | str) -> Iterator[np.ndarray]:
        generator, start = np.random.default_rng(1), 0
        while start < len(waveform):
            length = int(generator.integers(0, 3_000)) if size == "random" else int(size)
            yield waveform[start : start + length]
            start += length

    return cut
