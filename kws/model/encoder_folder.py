"""Encoders on disk: finding their folders and reading what is in them, without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws.errors import EncoderError
from kws.frames import FrameGeometry
from kws.model.files import pretrained_folder
from kws.model.settings import DEFAULT_ENCODER

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
OUTPUT_LAYER_FILE = "output_layer.safetensors"
VOCABULARY_FILE = "vocab.json"
GRAPH_FILE = "step.onnx"
INT8_GRAPH_FILE = "step.int8.onnx"

WEIGHTS_PREFIX = "wav2vec2."
"""Before the network's names in the weight file, as `transformers` writes them; the output layer's have none."""

_CONVOLUTION = "encoder.pos_conv_embed.conv"
POSITION_WEIGHT = f"{_CONVOLUTION}.weight"
POSITION_MAGNITUDE = f"{_CONVOLUTION}.parametrizations.weight.original0"
POSITION_DIRECTION = f"{_CONVOLUTION}.parametrizations.weight.original1"
"""The positional convolution is stored weight-normalised. Source: Salimans & Kingma 2016, arXiv:1602.07868, eq. 2."""


@dataclass(frozen=True)
class StreamingConfig:
    """The part of a `Wav2Vec2Config` that the streaming encoder reads, and its `streaming` section."""

    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    num_conv_pos_embeddings: int
    num_conv_pos_embedding_groups: int
    layer_norm_eps: float
    block_frames: int
    left_context_frames: int

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StreamingConfig:
        """Returns the config held in `values`, a parsed `config.json`; raises KeyError on what is missing."""
        flat: dict[str, Any] = {**values, **values["streaming"]}
        names = cls.__dataclass_fields__
        chosen: dict[str, Any] = {
            name: tuple(flat[name]) if isinstance(flat[name], list) else flat[name] for name in names
        }
        return cls(**chosen)

    @property
    def geometry(self) -> FrameGeometry:
        """How samples map to frames."""
        return FrameGeometry(self.conv_kernel, self.conv_stride)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    def linear_names(self) -> list[str]:
        """Returns the names of the linear layers, nearly all of the network's weights."""
        suffix, shapes = ".weight", self.weight_shapes()
        return [name.removesuffix(suffix) for name in shapes if name.endswith(suffix) and len(shapes[name]) == 2]

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of every parameter of the network, by its name in the weight file without the prefix."""
        dim, wide, kernel = self.hidden_size, self.intermediate_size, self.num_conv_pos_embeddings
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (size, width) in enumerate(zip(self.conv_dim, self.conv_kernel)):
            name, before = f"feature_extractor.conv_layers.{index}", (1, *self.conv_dim)[index]
            shapes |= {f"{name}.conv.weight": (size, before, width)} | _norm_shapes(f"{name}.layer_norm", size)
        shapes |= _norm_shapes("feature_projection.layer_norm", self.conv_dim[-1])
        shapes |= _linear_shapes("feature_projection.projection", self.conv_dim[-1], dim)
        shapes |= {f"{_CONVOLUTION}.bias": (dim,), POSITION_MAGNITUDE: (1, 1, kernel)}
        shapes |= {POSITION_DIRECTION: (dim, dim // self.num_conv_pos_embedding_groups, kernel)}
        for index in range(self.num_hidden_layers):
            name = f"encoder.layers.{index}"
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                shapes |= _linear_shapes(f"{name}.attention.{part}", dim, dim)
            shapes |= _linear_shapes(f"{name}.feed_forward.intermediate_dense", dim, wide)
            shapes |= _linear_shapes(f"{name}.feed_forward.output_dense", wide, dim)
            shapes |= _norm_shapes(f"{name}.layer_norm", dim) | _norm_shapes(f"{name}.final_layer_norm", dim)
        return shapes | _norm_shapes("encoder.layer_norm", dim)


def list_encoders() -> list[str]:
    """Returns the names of the encoders that come with the package."""
    return sorted(path.parent.name for path in pretrained_folder().glob(f"*/{CONFIG_FILE}"))


def find_encoder_folder(name: str) -> Path | None:
    """Returns the folder of the encoder `name`, a shipped one or a path; None if it must be a hub id.

    Raises:
        EncoderError: `name` is a folder that holds no encoder.
    """
    for folder in (pretrained_folder() / name, Path(name).expanduser()):
        if (folder / CONFIG_FILE).is_file():
            return folder
    if Path(name).expanduser().is_dir():
        raise EncoderError(
            f"the folder {name} holds no {CONFIG_FILE}, so it is no encoder; the shipped default is '{DEFAULT_ENCODER}'"
        )
    return None


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in the file at `path`.

    Raises:
        EncoderError: it can't be read, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} can't be read as JSON ({error}); fetch the encoder again") from error
    if not isinstance(values, dict):
        raise EncoderError(f"{path} holds no JSON object; fetch the encoder again")
    return values


def read_streaming_config(folder: Path) -> StreamingConfig | None:
    """Returns the config of the streaming encoder in `folder`; None if it holds another kind of encoder.

    Raises:
        EncoderError: the config can't be read or is incomplete.
    """
    values = read_json(folder / CONFIG_FILE)
    if "streaming" not in values:
        return None
    try:
        return StreamingConfig.from_json(values)
    except (KeyError, TypeError) as error:
        raise EncoderError(f"{folder / CONFIG_FILE} lacks a setting ({error!r}); fetch the encoder again") from error


def _linear_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm_shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}
