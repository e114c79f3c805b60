"""How much of an encoder this machine has time for: depths × precisions × blocks, each one run here ─▶ what fits.

Nothing is told from tables: every choice is exported, where its graph isn't there yet, into a folder of its own that is
deleted in the end, and listens to noise.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.samples import block_size
from kws.detect.head_stream import HeadStream
from kws.detect.runtime import PRECISIONS, RuntimeEncoder, backend_for
from kws.errors import DependencyError, EncoderError
from kws.export.int8 import export_int8
from kws.export.onnx import check_layers, export_encoder
from kws.export.windows import export_windows, export_windows_int8
from kws.frames import SAMPLE_RATE
from kws.model.artefact import Keyword, WakeWord, expected_shapes
from kws.model.encoder_folder import CONFIG_FILE, find_encoder_folder, read_json, read_streaming_config
from kws.model.graphs import graph_problem, load_onnx_encoder
from kws.model.onnx_session import Precision
from kws.model.onnx_windows import DEFAULT_LAYERS
from kws.model.settings import EncoderConfig, HeadConfig

DEPTHS = (1.0, 0.75, 0.5, 0.25)
"""Shares of the layers that are tried."""
BLOCKS = (1, 2, 4)
"""Multiples of its block, for an encoder that was trained to stream."""
HOPS_S = (0.08, 0.16, 0.32, 0.64)
"""From one window to the next, for any other."""
CHUNK_S = 0.08
"""What a microphone gives at a time."""
AUDIO_S = 4.0
ROUNDS = 3
"""The median of so many is taken, after one that doesn't count."""

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Budget:
    """What listening may cost: CPU seconds per second of audio, and milliseconds from a sound's end to its score."""

    cpu_s_per_s: float
    latency_ms: float


@dataclass(frozen=True)
class Trial:
    """One choice, and what it was measured to cost on this machine, one thread.

    Attributes:
        settings: the encoder's: name, layers, and for windows the hop.
        precision: of its linear layers.
        block_ms: audio that it takes at a time: blocks, or the hop from one window to the next.
        cpu_s_per_s: CPU seconds per second of audio, encoder and head.
        latency_ms: at most, from a sound's end to its score: a whole block, and the time to compute it.
    """

    settings: EncoderConfig
    precision: Precision
    block_ms: float
    cpu_s_per_s: float
    latency_ms: float

    def fits(self, budget: Budget) -> bool:
        """Returns whether it costs no more than `budget`."""
        return self.cpu_s_per_s <= budget.cpu_s_per_s and self.latency_ms <= budget.latency_ms

    @property
    def backend(self) -> str:
        """What `--backend` takes for it."""
        return backend_for(self.precision)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {**asdict(self), "backend": self.backend}


@dataclass(frozen=True)
class Tuning:
    """All trials, the one to take (None if none fits), and why choices were left out."""

    trials: Sequence[Trial]
    best: Trial | None
    left_out: Sequence[str]


def tune(
    settings: EncoderConfig,
    budget: Budget,
    depths: Sequence[int] = (),
    progress: Progress = lambda stage, done, total: None,
) -> Tuning:
    """Returns what each choice costs here, and the best within `budget`.

    The best has most layers, then the shortest blocks, then the least cost: depth is what accuracy hangs on, int8 was
    measured to change nothing.

    Args:
        settings: the encoder, and for windows how long they are.
        budget: what it may cost.
        depths: layers to try; by default all, three quarters, half and a quarter.
        progress: called with a stage's name and (done, total).

    Raises:
        EncoderError: no such encoder on this disk, or not one choice can be run.
    """
    folder = find_encoder_folder(settings.name)
    if folder is None:
        raise EncoderError(
            f"'{settings.name}' is not a folder on this disk; fetch it: hf download {settings.name} --local-dir FOLDER"
        )
    num_layers = read_json(folder / CONFIG_FILE).get("num_hidden_layers", DEFAULT_LAYERS)
    for depth in depths:
        check_layers(settings.name, depth, num_layers)
    depths = depths or sorted({max(1, round(share * num_layers)) for share in DEPTHS}, reverse=True)
    trials: list[Trial] = []
    left_out: list[str] = []
    for done, depth in enumerate(depths):
        progress(f"{depth} layers", done, len(depths))
        chosen = replace(settings, layers=0 if depth == num_layers else depth)
        try:
            with runnable(chosen, folder) as (there, problems):
                trials += [trial for precision in there for trial in measure(chosen, there[precision], precision)]
                left_out += problems
        except (DependencyError, EncoderError) as error:
            left_out.append(f"{depth} layers: {error}")
    progress("done", len(depths), len(depths))
    if not trials:
        raise EncoderError(f"no choice of '{settings.name}' can be run: {'; '.join(left_out)}")

    def rank(trial: Trial) -> tuple[float, ...]:
        return (-(trial.settings.layers or num_layers), trial.block_ms, trial.cpu_s_per_s)

    best = min((trial for trial in trials if trial.fits(budget)), key=rank, default=None)
    return Tuning(trials, best, left_out)


@contextmanager
def runnable(settings: EncoderConfig, folder: Path) -> Iterator[tuple[dict[Precision, EncoderConfig], list[str]]]:
    """Yields where the encoder's graphs lie by precision, and why one is missing; exports what isn't there."""
    there = {name: settings for name in PRECISIONS.values() if not graph_problem(settings, name)}
    if len(there) == len(PRECISIONS):
        yield there, []
        return
    with tempfile.TemporaryDirectory(prefix="kws-tune-") as temporary:
        shutil.copytree(folder, temporary, copy_function=_link, dirs_exist_ok=True)
        copy, problems = replace(settings, name=temporary), []
        is_streaming, noise = read_streaming_config(folder) is not None, [_noise(seed) for seed in range(4)]
        if "float32" not in there:
            export_encoder(temporary, settings.layers) if is_streaming else export_windows(copy)
        try:
            export_int8(temporary, noise, settings.layers) if is_streaming else export_windows_int8(copy, noise)
        except EncoderError as error:  # float32 is left
            problems.append(f"{settings.layers or 'all'} layers: {str(error).replace(temporary, settings.name)}")
        yield {name: copy for name in PRECISIONS.values() if not graph_problem(copy, name)}, problems


def measure(settings: EncoderConfig, there: EncoderConfig, precision: Precision) -> Iterator[Trial]:
    """Yields a trial for each block or hop.

    Args:
        settings: what the trials are of.
        there: the same, by the name under which its graph lies.
        precision: of the graph.
    """
    encoder = load_onnx_encoder(there, precision)
    block_frames, hop_ms = encoder.stream().block_frames, 1000 * encoder.geometry.hop_s
    if read_streaming_config(find_encoder_folder(there.name) or Path()) is not None:
        for factor in BLOCKS:
            yield _trial(encoder, settings, precision, factor * block_frames * hop_ms)
        return
    for hop_s in HOPS_S:
        if hop_s <= settings.window_s:
            encoder = load_onnx_encoder(replace(there, hop_s=hop_s), precision)
            yield _trial(encoder, replace(settings, hop_s=hop_s), precision, 1000 * hop_s)


def _trial(encoder: RuntimeEncoder, settings: EncoderConfig, precision: Precision, block_ms: float) -> Trial:
    stream, head = encoder.stream(), _head(encoder)
    stream.step_frames = encoder.geometry.frames_in(block_ms / 1000)
    noise, size = _noise(0), block_size(CHUNK_S)
    warm_up = encoder.geometry.num_samples(getattr(encoder, "window_frames", stream.block_frames))
    head.feed(stream.feed(np.resize(noise, warm_up)))
    cpu_s, longest_s = [], []
    for _ in range(ROUNDS + 1):
        began_s, walls_s = time.process_time(), []
        for start in range(0, len(noise), size):
            began_wall_s = time.perf_counter()
            head.feed(stream.feed(noise[start : start + size]))
            walls_s.append(time.perf_counter() - began_wall_s)
        cpu_s.append((time.process_time() - began_s) / AUDIO_S)
        num_blocks = max(1, round(1000 * AUDIO_S / block_ms))
        longest_s.append(float(np.median(sorted(walls_s)[-num_blocks:])))  # feeds that completed a block
    compute_ms = 1000 * float(np.median(longest_s[1:]))
    return Trial(settings, precision, block_ms, float(np.median(cpu_s[1:])), block_ms + compute_ms)


def _head(encoder: RuntimeEncoder) -> HeadStream:
    """Returns a head of the usual size for the frames of `encoder`; weights don't change what it costs."""
    bare = WakeWord((Keyword("any"),), encoder.settings, "", encoder.dim, encoder.num_states, HeadConfig(), {})
    weights = {name: np.full(shape, 1e-3, np.float32) for name, shape in expected_shapes(bare).items()}
    return HeadStream(replace(bare, weights=weights))


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, round(AUDIO_S * SAMPLE_RATE)).astype(np.float32)


def _link(source: str, target: str) -> None:
    try:
        os.symlink(os.path.abspath(source), target)
    except OSError:  # no such rights, or no such file system
        shutil.copy2(source, target)
