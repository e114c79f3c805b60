"""The streaming wav2vec2: samples ─▶ convolutions ─▶ projection ─▶ causal position ─▶ block attention ─▶ frames.

Frame `i` sees its own block of `block_frames` frames and the `left_context_frames` frames before that block, so that
a stream which caches the last samples, projected frames, keys and values gives exactly the frames of the offline pass.
Parameter names are those of `transformers`' `Wav2Vec2Model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from kws.model.encoder import Encoder
from kws.model.encoder_folder import StreamingConfig
from kws.model.incremental import IncrementalStream


class EncoderCache(NamedTuple):
    """What the network keeps between two calls.

    Attributes:
        position: (batch, dim, kernel - 1) the last projected frames, for the positional convolution.
        keys: per layer (batch, heads, past, head_dim), past ≤ left_context_frames.
        values: likewise.
    """

    position: Tensor
    keys: Sequence[Tensor]
    values: Sequence[Tensor]


class _ConvolutionLayer(nn.Module):
    """A convolution as one product of matrices over unfolded windows: with the channels last, nothing is transposed.

    On a CPU this takes two thirds of `conv1d`'s time, and compiled training half.
    """

    def __init__(self, in_dim: int, out_dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_dim, out_dim, kernel, stride, bias=False)
        self.layer_norm = nn.LayerNorm(out_dim)  # transformers too leaves layer_norm_eps out here

    def forward(self, inputs: Tensor) -> Tensor:
        windows = inputs.unfold(1, self.conv.kernel_size[0], self.conv.stride[0])  # (batch, frames, in_dim, kernel)
        # kernel before channels: each window is then one run of memory
        weight = self.conv.weight.transpose(1, 2).flatten(1)
        return F.gelu(self.layer_norm(F.linear(windows.transpose(2, 3).flatten(2), weight)))


class _FeatureExtractor(nn.Module):
    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        dims = (1, *config.conv_dim)
        self.conv_layers = nn.ModuleList(
            _ConvolutionLayer(dims[i], dims[i + 1], kernel, stride)
            for i, (kernel, stride) in enumerate(zip(config.conv_kernel, config.conv_stride))
        )

    def forward(self, waveform: Tensor) -> Tensor:
        hidden = waveform[:, :, None]  # (batch, num_samples, 1)
        for layer in self.conv_layers:
            hidden = layer(hidden)
        return hidden  # (batch, num_frames, conv_dim)


class _FeatureProjection(nn.Module):
    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        return self.projection(self.layer_norm(features))


class _PositionalConvolution(nn.Module):
    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        convolution = nn.Conv1d(
            config.hidden_size,
            config.hidden_size,
            config.num_conv_pos_embeddings,
            groups=config.num_conv_pos_embedding_groups,
        )
        self.conv = weight_norm(convolution, dim=2)

    def forward(self, hidden: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        padded = torch.cat([past, hidden.transpose(1, 2)], dim=2)
        return F.gelu(self.conv(padded)).transpose(1, 2), padded[:, :, -past.shape[2] :]


class _Attention(nn.Module):
    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.head_dim = dim // config.num_attention_heads
        self.k_proj, self.v_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.q_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, hidden: Tensor, mask: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key = torch.cat([key, self._split(self.k_proj(hidden))], dim=2)
        value = torch.cat([value, self._split(self.v_proj(hidden))], dim=2)
        query = self._split(self.q_proj(hidden)) * self.head_dim**-0.5
        # written out: with a mask, scaled_dot_product_attention trains at a third of the speed on a CPU
        scores = torch.matmul(query, key.transpose(-1, -2)).masked_fill(~mask, float("-inf"))
        context = torch.matmul(torch.softmax(scores, dim=-1), value)
        return self.out_proj(context.transpose(1, 2).flatten(2)), key, value

    def _split(self, hidden: Tensor) -> Tensor:
        return hidden.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (batch, heads, num_frames, head_dim)


class _FeedForward(nn.Module):
    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output_dense(F.gelu(self.intermediate_dense(hidden)))


class _Layer(nn.Module):
    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = _FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, mask: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        context, key, value = self.attention(self.layer_norm(hidden), mask, key, value)
        hidden = hidden + context
        return hidden + self.feed_forward(self.final_layer_norm(hidden)), key, value


class _TransformerEncoder(nn.Module):
    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.pos_conv_embed = _PositionalConvolution(config)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class StreamingEncoder(Encoder):
    """A wav2vec2 trained to stream; `stream()` gives the frames of `forward` whatever the chunk sizes.

    Source: Baevski et al. 2020, arXiv:2006.11477 (network); Povey et al. 2018 and Shi et al. 2021, arXiv:2010.10759
    (block attention with a cached left context).
    """

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__(config.geometry, config.hidden_size)
        self.config = config
        self.feature_extractor = _FeatureExtractor(config)
        self.feature_projection = _FeatureProjection(config)
        self.encoder = _TransformerEncoder(config)

    @property
    def convolutions(self) -> nn.ModuleList:
        """The convolutions and their projection: what a bank of real speech is made by."""
        return nn.ModuleList([self.feature_extractor, self.feature_projection])

    @property
    def transformer_layers(self) -> nn.ModuleList:
        return self.encoder.layers

    def forward(
        self, waveform: Tensor, block_frames: int | None = None, left_context_frames: int | None = None
    ) -> Tensor:
        """Returns (batch, num_frames, dim) frames of `waveform` (batch, num_samples) float32 in −1..1, 16 kHz.

        Args:
            block_frames: frames of one attention block, instead of the config's (training draws it).
            left_context_frames: frames seen before the block, likewise.
        """
        return self.step(waveform, self.initial_cache(waveform.shape[0]), block_frames, left_context_frames)[0]

    def initial_cache(self, batch: int = 1) -> EncoderCache:
        """Returns the cache of a stream that has heard nothing."""
        config, weight = self.config, self.feature_projection.projection.weight
        empty = weight.new_zeros(batch, config.num_attention_heads, 0, self.hidden_dim // config.num_attention_heads)
        layers = [empty] * len(self.encoder.layers)
        return EncoderCache(
            weight.new_zeros(batch, self.hidden_dim, config.num_conv_pos_embeddings - 1), layers, layers
        )

    def step(
        self,
        waveform: Tensor,
        cache: EncoderCache,
        block_frames: int | None = None,
        left_context_frames: int | None = None,
    ) -> tuple[Tensor, EncoderCache]:
        """Returns the frames of whole blocks that continue a stream, and the cache for the next step.

        Args:
            waveform: (batch, hop * num_frames + overlap) float32; it begins with the last `geometry.overlap` samples
                of the step before, except in the first step. Only the last step may hold a part of a block.
            cache: from `initial_cache` or the step before.
        """
        block = block_frames or self.config.block_frames
        left = left_context_frames or self.config.left_context_frames
        hidden = self.feature_projection(self.feature_extractor(waveform))
        position, position_cache = self.encoder.pos_conv_embed(hidden, cache.position)
        hidden = hidden + position
        mask = _block_mask(hidden.shape[1], cache.keys[0].shape[2], block, left, hidden.device)
        states, keys, values = [hidden], [], []
        for layer, key, value in zip(self.encoder.layers, cache.keys, cache.values):
            hidden, key, value = layer(hidden, mask, key, value)
            states.append(hidden)
            keys.append(key[:, :, -left:])
            values.append(value[:, :, -left:])
        return self.select(states, self.encoder.layer_norm), EncoderCache(position_cache, keys, values)

    def stream(self) -> IncrementalStream:
        """Returns a fresh stream; the encoder itself keeps no state."""
        return IncrementalStream(_TorchStep(self))


class _TorchStep:
    """A `StreamingEncoder` as `IncrementalStream` calls it: arrays in and out, no gradients."""

    def __init__(self, encoder: StreamingEncoder) -> None:
        self.geometry = encoder.geometry
        self._encoder = encoder

    @property
    def dim(self) -> int:
        return self._encoder.dim

    @property
    def block_frames(self) -> int:
        return self._encoder.config.block_frames

    def initial_cache(self) -> EncoderCache:
        return self._encoder.initial_cache()

    @torch.inference_mode()
    def step(self, samples: np.ndarray, cache: EncoderCache) -> tuple[np.ndarray, EncoderCache]:
        waveform = torch.from_numpy(samples).to(cache.position.device)
        frames, cache = self._encoder.step(waveform, cache)
        return frames.cpu().numpy(), cache


def _block_mask(num_frames: int, past: int, block: int, left: int, device: torch.device) -> Tensor:
    """Returns (num_frames, past + num_frames) bool: which frames each new frame may see."""
    start = torch.arange(num_frames, device=device)[:, None] // block * block
    seen = torch.arange(-past, num_frames, device=device)[None]
    return (seen >= start - left) & (seen < start + block)
