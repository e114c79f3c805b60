"""Checks of what needs no sound: Python, packages, models and their hashes, the cost of listening."""

from __future__ import annotations

import base64
import importlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from kws.audio.samples import block_size
from kws.doctor.finding import Finding, State
from kws.errors import KwsError
from kws.frames import SAMPLE_RATE
from kws.model.catalogue import list_shipped
from kws.model.files import sha256_of
from kws.model.graphs import cheapest_precision, load_onnx_encoder
from kws.model.settings import EncoderConfig

OLDEST_PYTHON = (3, 10)
NEEDED = ("numpy", "onnxruntime", "safetensors", "soundfile", "soxr", "typer", "rich")
OPTIONAL = {
    "sounddevice": ("mic", "listening to a microphone"),
    "wyoming": ("serve", "kws serve"),
    "aiohttp": ("serve", "kws serve"),
    "zeroconf": ("serve", "being found by Home Assistant"),
    "torch": ("train", "training, and encoders that have no graph"),
    "transformers": ("train", "training, and other encoders"),
}
BLOCK_S = 0.08
"""What a microphone gives at a time."""
MEASURED_S = 6.0
HIGH_COST = 0.5
"""Share of a core above which other work on the machine may make it drop blocks."""

_WEIGHTS_FILE = "model.safetensors"
_IMPORT_S = 120.0
_REINSTALL = "pip install --force-reinstall --no-deps kws"


def check_python() -> Finding:
    """Returns whether this Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", State.failed, version, "install Python 3.10 or newer")
    return Finding("python", State.ok, f"{version} at {sys.executable}", values={"version": version})


def check_packages() -> Iterator[Finding]:
    """Yields whether the packages that detection needs can be imported, and which of the others are there."""
    broken = {}
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            broken[name] = str(error)
    versions = {name: _version(name) or "missing" for name in (*NEEDED, *OPTIONAL)}
    listed = ", ".join(f"{name} {versions[name]}" for name in NEEDED)
    if broken:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in broken.items())
        remedy = f"pip install --force-reinstall {' '.join(broken)}"
        yield Finding("packages", State.failed, reasons, remedy, versions)
    else:
        yield Finding("packages", State.ok, listed, values=versions)
    for name, (extra, purpose) in OPTIONAL.items():
        if versions[name] == "missing":
            remedy = f"for it: pip install 'kws[{extra}]'"
            yield Finding(f"package {name}", State.skipped, f"not installed; only {purpose} needs it", remedy)


def check_torch_pair() -> Finding:
    """Returns whether torch and torchaudio load together, tried in a process of their own."""
    versions = {name: _version(name) for name in ("torch", "torchaudio")}
    if not versions["torch"]:
        return Finding("torch and torchaudio", State.skipped, "torch is not installed; detection does not need it")
    remedy = "pip install --force-reinstall 'torch~=2.11.0' 'torchaudio~=2.11.0' (both from PyPI)"
    measured = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    try:
        child = subprocess.run(
            [sys.executable, "-c", "import torch, torchaudio"], capture_output=True, text=True, timeout=_IMPORT_S
        )
    except subprocess.TimeoutExpired:
        return Finding("torch and torchaudio", State.warning, f"{measured}: importing took over {_IMPORT_S:g} s")
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("torch and torchaudio", State.failed, f"{measured}: {last}", remedy, versions)
    return Finding("torch and torchaudio", State.ok, measured, values=versions)


def check_models(models: Sequence[str] = ()) -> Iterator[Finding]:
    """Yields whether each encoder and wake word that comes with the package, and each of `models`, is whole."""
    entries = list_shipped()
    if not any(entry.kind == "encoder" for entry in entries):
        yield Finding("models", State.failed, "no encoder came with the package", _REINSTALL)
    for entry in entries:
        name = f"{entry.kind} {entry.name}"
        if entry.problem:
            yield Finding(name, State.failed, entry.problem, _REINSTALL)
        elif entry.kind == "encoder":
            yield _check_encoder(name, entry.folder)
        else:
            yield _check_wakeword(name, str(entry.folder))
    for model in models:
        yield _check_wakeword(f"wake word {model}", model)


def check_speed(encoder: str = EncoderConfig().name) -> Finding:
    """Returns what listening costs on this machine: CPU seconds per second of audio, with the encoder `encoder`."""
    try:
        cpu_s, wall_s = _measure(encoder)
    except KwsError as error:
        return Finding("speed", State.failed, str(error), _REINSTALL)
    values = {"encoder": encoder, "cpu_s_per_s": round(cpu_s, 5), "wall_s_per_s": round(wall_s, 5)}
    measured = f"{encoder} costs {cpu_s:.1%} of a core, room for {1 / cpu_s:.0f} streams on one"
    if cpu_s >= 1:
        return Finding("speed", State.failed, measured, "this machine is too slow: choose a smaller encoder", values)
    if wall_s >= HIGH_COST:
        measured += f"; with what else runs now it takes {wall_s:.0%} of the time"
        return Finding("speed", State.warning, measured, "end other programs, or blocks may be dropped", values)
    return Finding("speed", State.ok, measured, values=values)


def _measure(encoder: str) -> tuple[float, float]:
    """Returns CPU and wall-clock seconds per second of audio; the first second warms up and does not count."""
    settings = EncoderConfig(name=encoder)
    stream = load_onnx_encoder(settings, cheapest_precision(settings) or "float32").stream()
    noise = np.random.default_rng(0).normal(0, 0.05, round(MEASURED_S * SAMPLE_RATE)).astype(np.float32)
    size = block_size(BLOCK_S)
    stream.feed(noise[:SAMPLE_RATE])
    began_cpu_s, began_s = time.process_time(), time.perf_counter()
    for start in range(0, len(noise), size):
        stream.feed(noise[start : start + size])
    return (time.process_time() - began_cpu_s) / MEASURED_S, (time.perf_counter() - began_s) / MEASURED_S


def _check_encoder(name: str, folder: Path) -> Finding:
    found, recorded = sha256_of(folder / _WEIGHTS_FILE), _recorded_sha256(folder / _WEIGHTS_FILE)
    values = {"sha256": found, "recorded_sha256": recorded}
    if recorded and recorded != found:
        measured = f"its weights have the hash {found[:12]}…, the package came with {recorded[:12]}…"
        return Finding(name, State.failed, measured, _REINSTALL, values)
    try:
        load_onnx_encoder(EncoderConfig(name=str(folder)))
    except KwsError as error:
        return Finding(name, State.failed, str(error), _REINSTALL, values)
    source = "as installed" if recorded else "loads; no hash to compare with, since kws runs from its sources"
    return Finding(name, State.ok, f"SHA-256 {found[:12]}…, {source}", values=values)


def _check_wakeword(name: str, model: str) -> Finding:
    """Loading checks the head's hash against the metadata, and the encoder's against the one that was trained on."""
    from kws.detect.detector import load

    try:
        detector = load(model)
    except KwsError as error:
        return Finding(name, State.failed, str(error), "train it again, or copy it again from where it was made")
    return Finding(name, State.ok, f"listens for {', '.join(detector.keywords)}; hashes of head and encoder fit")


def _recorded_sha256(path: Path) -> str:
    """Returns the hash that pip recorded for `path` when it installed the package, or nothing if it did not."""
    try:
        files = metadata.files("kws") or []
    except metadata.PackageNotFoundError:
        return ""
    for file in files:
        if file.name == path.name and file.hash and Path(str(file.locate())).resolve() == path.resolve():
            return base64.urlsafe_b64decode(file.hash.value + "==").hex()
    return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
