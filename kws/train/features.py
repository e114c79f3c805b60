"""Encoder frames for training and validation, made shard by shard and kept on disk, so that a stopped run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from kws.data.windows import NO_END, Window
from kws.frames import FrameGeometry
from kws.model.encoder import Encoder
from kws.model.graphs import cheapest_precision, load_onnx_encoder
from kws.model.onnx_encoder import OnnxEncoder
from kws.model.onnx_session import Precision
from kws.model.onnx_windows import OnnxWindows
from kws.model.settings import EncoderConfig
from kws.model.streaming import StreamingEncoder
from kws.train.head_training import FrameSet
from kws.train.losses import NEGATIVE

SHARD_WINDOWS = 64
BATCH_SAMPLES = 16 * 51_200
"""Samples encoded at once, which bounds the memory."""
GRAPH_FRAMES = 64
"""Frames that a graph encodes at once: more take as long, fewer longer."""


class FeatureMaker:
    """Composes windows and encodes them; each shard depends on the seed and its number alone.

    Args:
        encoder: frozen.
        folder: where the shards are kept.
        seed: of every draw.
    """

    def __init__(self, encoder: Encoder, folder: Path, seed: int) -> None:
        self.encoder = encoder
        self.folder = folder
        self.seed = seed
        folder.mkdir(parents=True, exist_ok=True)

    def frames(
        self,
        name: str,
        stream: int,
        num_windows: int,
        compose: Callable[[np.random.Generator], Window],
        progress: Callable[[int, int], None],
    ) -> FrameSet:
        """Returns the frames of `num_windows` windows of equal length that `compose` makes.

        Args:
            name: of the shards' files.
            stream: sets the draws of this set apart from those of others.
            num_windows: how many.
            compose: makes one window from a generator.
            progress: called with (done, total) windows.
        """
        starts = range(0, num_windows, SHARD_WINDOWS)
        done = 0
        progress(0, num_windows)
        with one_thread_per_operation() as num_workers, ThreadPoolExecutor(num_workers) as executor:
            sizes = [min(SHARD_WINDOWS, num_windows - start) for start in starts]
            pending = [executor.submit(self._make, name, stream, *task, compose) for task in zip(starts, sizes)]
            try:
                for future in as_completed(pending):
                    done += future.result()
                    progress(done, num_windows)
            except BaseException:
                executor.shutdown(wait=True, cancel_futures=True)
                raise
        shards = [self._read(name, start) for start in starts]
        return FrameSet(
            np.concatenate([shard.frames for shard in shards]), np.concatenate([shard.end_frames for shard in shards])
        )

    def _make(
        self, name: str, stream: int, start: int, size: int, compose: Callable[[np.random.Generator], Window]
    ) -> int:
        """Writes one shard, unless it is there, and returns its number of windows."""
        path = self._path(name, start)
        if not path.is_file():
            rng = np.random.default_rng([self.seed, 100 + stream, start])
            self._write(path, [compose(rng) for _ in range(size)])
        return size

    def _read(self, name: str, start: int) -> FrameSet:
        with np.load(self._path(name, start)) as shard:
            return FrameSet(shard["frames"], shard["end_frames"])

    def _path(self, name: str, start: int) -> Path:
        return self.folder / f"{name}-{start:06d}.npz"

    def _write(self, path: Path, windows: list[Window]) -> None:
        frames = encode(self.encoder, np.stack([window.waveform for window in windows]))
        ends = np.array([end_frame(window.end_sample, self.encoder.geometry) for window in windows], np.int64)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, frames=frames, end_frames=ends)
        temporary.replace(path)


@contextmanager
def one_thread_per_operation() -> Iterator[int]:
    """Lets torch use one thread an operation, and yields how many it would have used: so many workers may run.

    Measured on two busy cores: threads that share one small operation wait for each other most of the time.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield num_threads
    finally:
        torch.set_num_threads(num_threads)


@torch.inference_mode()
def encode(encoder: Encoder, waveforms: np.ndarray) -> np.ndarray:
    """Returns (batch, num_frames, dim) float16 frames of (batch, num_samples) float32 waveforms."""
    graph = _graph_of(encoder)
    if graph is not None:
        return np.stack([_frames_of(graph, waveform) for waveform in waveforms])
    size = max(1, BATCH_SAMPLES // waveforms.shape[1])
    batches = [encoder(torch.from_numpy(waveforms[i : i + size])) for i in range(0, len(waveforms), size)]
    return torch.cat(batches).numpy().astype(np.float16)


def _graph_of(encoder: Encoder) -> OnnxEncoder | None:
    """Returns the graph that detection runs of a frozen `encoder`, where there is one: its frames, at half the cost."""
    is_steps = isinstance(encoder, StreamingEncoder) and encoder.is_frozen
    precision = cheapest_precision(encoder.settings) if is_steps else None
    graph = precision and _open_graph(encoder.settings, precision)
    return graph if isinstance(graph, OnnxEncoder) and graph.sha256 == encoder.sha256 else None


@lru_cache(maxsize=1)
def _open_graph(settings: EncoderConfig, precision: Precision) -> OnnxEncoder | OnnxWindows:
    return load_onnx_encoder(settings, precision)


def _frames_of(graph: OnnxEncoder, waveform: np.ndarray) -> np.ndarray:
    """Returns (num_frames, dim) float16 frames of (num_samples,) float32 `waveform`."""
    stream = graph.stream()
    stream.step_frames = GRAPH_FRAMES
    return np.concatenate([stream.feed(waveform), stream.flush()]).astype(np.float16)


def end_frame(end_sample: int, geometry: FrameGeometry) -> int:
    """Returns the frame in which a phrase that ends at `end_sample` ends, `NEGATIVE` where there is none."""
    return NEGATIVE if end_sample == NO_END else geometry.first_frame_from(end_sample)


def concatenate(first: FrameSet, second: FrameSet) -> FrameSet:
    """Returns the windows of both."""
    return FrameSet(
        np.concatenate([first.frames, second.frames]), np.concatenate([first.end_frames, second.end_frames])
    )
