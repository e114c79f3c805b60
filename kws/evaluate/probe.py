"""Which layer serves best, without training heads: frames by layer ─▶ linear probe, LogME, cost ─▶ a recommendation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kws.frames import SAMPLE_RATE
from kws.model.pretrained import build_encoder
from kws.model.settings import EncoderConfig

RIDGE = 1e-2
"""Weight of the probe's squared weights; features are standardised."""
MAX_ITERATIONS = 100
LOGME_ROUNDS = 30
ROUND_S = 4.0
NUM_ROUNDS = 3
BATCH = 32


@dataclass(frozen=True)
class Layer:
    """What one depth gives.

    Attributes:
        layers: transformer layers kept; 0 is their input.
        accuracy: of a linear probe on the test clips.
        error: standard error of that.
        logme: evidence for the labels, per training clip; higher is better.
        cpu_s_per_s: CPU seconds of the encoder, cut there, per second of audio; None for 0, which can't be asked for.
    """

    layers: int
    accuracy: float
    error: float
    logme: float
    cpu_s_per_s: float | None


@dataclass(frozen=True)
class Probed:
    """What a probe found.

    Attributes:
        layers: by depth.
        mix_accuracy: of a probe on all layers of the whole encoder side by side, as `layer="mix"` gives them.
        recommended: the fewest layers that are as good as the best, but for chance.
        recommends_mix: whether `layer="mix"` beats the best single layer by more than chance.
    """

    layers: tuple[Layer, ...]
    mix_accuracy: float
    recommended: int
    recommends_mix: bool

    @property
    def settings(self) -> str:
        """The recommendation as `kws train` takes it."""
        if self.recommends_mix:
            return "--set encoder.layer=mix"
        last = self.layers[-1].layers
        return f"--set encoder.layers={0 if self.recommended == last else self.recommended}"

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it for JSON."""
        return asdict(self) | {"settings": self.settings}


def probe_layers(
    settings: EncoderConfig,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
) -> Probed:
    """Returns how well each depth of the encoder tells labels apart, and which to take.

    Args:
        settings: which encoder; all its layers are looked at.
        train: (num_clips, num_samples) float32 windows and their (num_clips,) labels, 0, 1, …
        test: likewise, others.
        progress: called with (stage, done, total).
    """
    encoder = build_encoder(replace(settings, layers=0, layer="mix", trainable_layers=0, is_random=False))
    num_states = encoder.num_states

    def states(windows: np.ndarray, name: str) -> Tensor:
        """Returns (num_states, num_clips, dim) means and peaks over the frames of each layer."""
        pooled = []
        for start in range(0, len(windows), BATCH):
            progress(name, start, len(windows))
            with torch.inference_mode():
                frames = encoder(torch.from_numpy(windows[start : start + BATCH])).unflatten(2, (num_states, -1))
            pooled.append(torch.cat([frames.mean(1), frames.amax(1)], dim=2))
        progress(name, len(windows), len(windows))
        return torch.cat(pooled).transpose(0, 1).clone()

    learned, tested = states(train[0], "encoding training clips"), states(test[0], "encoding test clips")
    truths = torch.from_numpy(train[1]), torch.from_numpy(test[1])
    found = []
    for depth in range(num_states):
        progress("probing layers", depth, num_states)
        accuracy = linear_probe(learned[depth], truths[0], tested[depth], truths[1])
        cost = measure_depth(settings, depth) if depth else None
        evidence = logme(learned[depth].double().numpy(), train[1])
        found.append(Layer(depth, accuracy, _standard_error(accuracy, len(test[1])), evidence, cost))
    progress("probing layers", num_states, num_states)
    side_by_side = [part.transpose(0, 1).flatten(1) for part in (learned, tested)]
    mix = linear_probe(side_by_side[0], truths[0], side_by_side[1], truths[1])
    return recommend(found, mix)


def recommend(layers: Sequence[Layer], mix_accuracy: float) -> Probed:
    """Returns `layers` with the fewest that lie within a standard error of the best.

    Source: the one-standard-error rule, Breiman et al. 1984, "Classification and Regression Trees", §3.4.3.
    """
    usable = [layer for layer in layers if layer.layers]
    best = max(usable, key=lambda layer: layer.accuracy)
    recommended = min(layer.layers for layer in usable if layer.accuracy >= best.accuracy - best.error)
    return Probed(tuple(layers), mix_accuracy, recommended, mix_accuracy > best.accuracy + best.error)


def linear_probe(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> float:
    """Returns the accuracy of multinomial logistic regression, mean recall over the test's labels.

    Source: Alain & Bengio 2016, arXiv:1610.01644.

    Args:
        features: (num_clips, dim) float32 to learn from.
        labels: (num_clips,) int64.
        test_features: of other clips.
        test_labels: theirs.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-6
    inputs, others = ((part - mean) / spread / part.shape[1] ** 0.5 for part in (features, test_features))
    weight = torch.zeros(int(labels.max()) + 1, features.shape[1] + 1, requires_grad=True)
    shares = 1 / torch.bincount(labels).clamp(min=1).float()
    optimizer = torch.optim.LBFGS([weight], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        optimizer.zero_grad()
        logits = F.linear(inputs, weight[:, :-1], weight[:, -1])
        total = F.cross_entropy(logits, labels, weight=shares) + RIDGE * weight[:, :-1].square().sum() / len(labels)
        total.backward()
        return total

    optimizer.step(cost)
    with torch.no_grad():
        heard = F.linear(others, weight[:, :-1], weight[:, -1]).argmax(1)
    return float(np.mean([float((heard[test_labels == one] == one).float().mean()) for one in test_labels.unique()]))


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Returns the logarithm of the maximum evidence for `labels` given `features`, per clip, mean over the labels.

    Source: You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
    arXiv:2102.11005, algorithm 1, with the fixed point of the prior's and the noise's precision.

    Args:
        features: (num_clips, dim) float64.
        labels: (num_clips,) 0, 1, …
    """
    num_clips, dim = features.shape
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    squares = singular**2
    targets = [(labels == label).astype(np.float64) for label in np.unique(labels)]
    return float(np.mean([_evidence(target, left, squares, num_clips, dim) for target in targets]))


def _evidence(target: np.ndarray, left: np.ndarray, squares: np.ndarray, num_clips: int, dim: int) -> float:
    projected = (left.T @ target) ** 2
    outside = max(float(target @ target - projected.sum()), 0.0)
    alpha, beta = 1.0, 1.0  # precision of the weights and of the noise
    for _ in range(LOGME_ROUNDS):
        scaled = alpha + beta * squares
        gamma = float((beta * squares / scaled).sum())
        weights = float((beta**2 * squares * projected / scaled**2).sum())
        residual = float((alpha**2 * projected / scaled**2).sum()) + outside
        alpha, beta = gamma / (weights + 1e-12), (num_clips - gamma) / (residual + 1e-12)
    scaled = alpha + beta * squares
    weights = float((beta**2 * squares * projected / scaled**2).sum())
    residual = float((alpha**2 * projected / scaled**2).sum()) + outside
    log_determinant = float(np.log(scaled).sum()) + (dim - len(squares)) * np.log(alpha)
    total = num_clips * np.log(beta) + dim * np.log(alpha) - num_clips * np.log(2 * np.pi)
    return 0.5 * (total - beta * residual - alpha * weights - log_determinant) / num_clips


def measure_depth(settings: EncoderConfig, layers: int) -> float:
    """Returns the CPU seconds per second of audio of the encoder cut to `layers`, one thread, whole noise at once."""
    encoder = build_encoder(replace(settings, layers=layers, layer="last", trainable_layers=0, is_random=False))
    noise = torch.randn(1, round(ROUND_S * SAMPLE_RATE), generator=torch.Generator().manual_seed(0)) * 0.05
    spent_s, num_threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(NUM_ROUNDS):
            began_s = time.process_time()
            with torch.inference_mode():
                encoder(noise)
            spent_s.append(time.process_time() - began_s)
    finally:
        torch.set_num_threads(num_threads)
    return float(np.median(spent_s)) / ROUND_S


def format_probed(probed: Probed) -> str:
    """Returns the table and the recommendation as text."""
    lines = [f"{'layers':>6}{'probe':>18}{'LogME':>9}{'CPU s/s':>10}"]
    for layer in probed.layers:
        cost = "" if layer.cpu_s_per_s is None else f"{layer.cpu_s_per_s:.4f}"
        lines.append(f"{layer.layers:6}{layer.accuracy:11.1%} ±{layer.error:5.1%}{layer.logme:9.3f}{cost:>10}")
    lines.append(f"   mix{probed.mix_accuracy:11.1%}")
    full = next(layer for layer in probed.layers if layer.layers == probed.layers[-1].layers)
    taken = next(layer for layer in probed.layers if layer.layers == probed.recommended)
    if probed.recommends_mix:
        reason = "all layers together beat the best single one by more than a standard error"
    elif probed.recommended == full.layers:
        reason = "no fewer layers come within a standard error of it"
    else:
        saved = 1 - (taken.cpu_s_per_s or 0.0) / (full.cpu_s_per_s or 1.0)
        reason = f"within a standard error of the best, for {saved:.0%} less CPU time than all {full.layers}"
    return "\n".join([*lines, f"recommended: {probed.settings}   ({reason})"])


def draw_probed(probed: Probed, title: str, theme: str = "light") -> bytes:
    """Returns a PNG of accuracy against cost, a point a depth, and LogME by depth under it."""
    from matplotlib.figure import Figure

    from kws.evaluate.plots import THEMES, dress, png

    look = THEMES[theme]
    figure = Figure(figsize=(8, 3.4), layout="constrained", facecolor=look["paper"])
    figure.suptitle(title, color=look["ink"])
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        dress(axes, theme)
    usable = [layer for layer in probed.layers if layer.cpu_s_per_s is not None]
    costs, accuracies = [layer.cpu_s_per_s for layer in usable], [100 * layer.accuracy for layer in usable]
    errors = [100 * layer.error for layer in usable]
    left.errorbar(costs, accuracies, yerr=errors, color=look["colours"][0], marker="o", capsize=3)
    for layer, cost, accuracy in zip(usable, costs, accuracies):
        mark = " ←" if layer.layers == probed.recommended else ""
        left.annotate(f" {layer.layers}{mark}", (cost, accuracy), va="bottom", fontsize=9)
    left.set_xlabel("CPU seconds per second of audio")
    left.set_ylabel("linear probe, %")
    right.plot([layer.layers for layer in probed.layers], [layer.logme for layer in probed.layers], marker="s",
               color=look["colours"][1])  # fmt: skip
    right.set_xlabel("layers (0: their input)")
    right.set_ylabel("LogME")
    return png(figure, 80)


def _standard_error(accuracy: float, num_clips: int) -> float:
    return float(np.sqrt(max(accuracy * (1 - accuracy), 1 / num_clips**2) / num_clips))
