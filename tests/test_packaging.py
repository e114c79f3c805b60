"""A wheel, built and installed elsewhere, carries `pretrained/` and detects without torch, from any folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="builds the wheel without a network: pip install hatchling")

ROOT = Path(__file__).resolve().parents[1]

MAKE_MODEL = """
import json, sys
from pathlib import Path
import numpy as np
import soundfile
from kws.model.artefact import Keyword, WakeWord, expected_shapes
from kws.model.files import pretrained_folder, sha256_of
from kws.model.settings import EncoderConfig, HeadConfig
encoder, rng = EncoderConfig(), np.random.default_rng(0)
folder = pretrained_folder() / encoder.name
dim = json.loads((folder / "config.json").read_text())["hidden_size"]
keywords, sha256 = (Keyword("hey computer"),), sha256_of(folder / "model.safetensors")
bare = WakeWord(keywords, encoder, sha256, dim, 1, HeadConfig(), {})
weights = {name: rng.normal(0, 0.05, shape).astype("float32") for name, shape in expected_shapes(bare).items()}
WakeWord(keywords, encoder, sha256, dim, 1, HeadConfig(), weights).save("model.kws")
soundfile.write("noise.wav", rng.normal(0, 0.1, 32_000), 16_000)
"""


def succeed(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    process = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the installed wheel, built as `pip install .` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    succeed(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("kws-*.whl")
    succeed(*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel, cwd=folder)
    return folder / "site"


@pytest.fixture(scope="module")
def env(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Returns an environment in which the wheel comes before any other `kws`, and torch can't be imported."""
    without_torch = tmp_path_factory.mktemp("blocked")
    for name in ("torch", "torchaudio", "transformers", "scipy", "librosa"):
        (without_torch / f"{name}.py").write_text(f"raise ModuleNotFoundError('blocked', name={name!r})")
    return os.environ | {"PYTHONPATH": f"{without_torch}{os.pathsep}{installed}"}


@pytest.mark.slow
def test_an_installed_wheel_lists_its_own_models(installed: Path, env: dict[str, str], tmp_path: Path) -> None:
    lines = succeed(installed / "bin" / "kws", "models", "--json", cwd=tmp_path, env=env).splitlines()
    folders = [Path(json.loads(line)["folder"]) for line in lines]
    assert folders
    assert all(folder.is_relative_to(installed) for folder in folders)


@pytest.mark.slow
def test_an_installed_wheel_detects_from_another_folder_without_torch(
    installed: Path, env: dict[str, str], tmp_path: Path
) -> None:
    assert succeed(sys.executable, "-c", "import kws; print(kws.__file__)", cwd=tmp_path, env=env).startswith(
        str(installed)
    )
    succeed(sys.executable, "-c", MAKE_MODEL, cwd=tmp_path, env=env)
    command = (installed / "bin" / "kws", "detect", "model.kws", "noise.wav", "--threshold", "0", "--format", "json")
    detections = [json.loads(line) for line in succeed(*command, cwd=tmp_path, env=env).splitlines()]
    assert {detection["keyword"] for detection in detections} == {"hey computer"}


@pytest.mark.slow
def test_training_without_torch_says_what_to_install(installed: Path, env: dict[str, str], tmp_path: Path) -> None:
    command = [str(installed / "bin" / "kws"), "train", "hey computer"]
    process = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.startswith("error: this needs the package 'torch', which is not installed")
    assert "pip install 'kws[train]'" in process.stderr


@pytest.mark.slow
def test_the_source_distribution_carries_what_the_wheel_needs(tmp_path: Path) -> None:
    succeed(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=ROOT)
    (sdist,) = tmp_path.glob("kws-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "kws/cli/app.py", "pyproject.toml", "constraints.txt"} <= names
    assert any(name.startswith("pretrained/") and name.endswith("model.safetensors") for name in names)


def test_every_dependency_has_a_tested_version_within_its_range() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ranges = [
        packaging.Requirement(found)
        for found in re.findall(r'^    "([^"\[]+)",', project, re.MULTILINE)
        if " " not in found
    ]
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition(";")[0].strip().partition("==")
            pins.setdefault(name, []).append(version)
    assert ranges
    assert all("@" not in name and "/" not in name for name in pins)
    for requirement in ranges:
        assert requirement.name in pins, f"{requirement.name} has no version in constraints.txt"
        assert all(version in requirement.specifier for version in pins[requirement.name]), requirement
