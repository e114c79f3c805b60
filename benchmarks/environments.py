"""Fresh virtual environments, one an engine, and what installing it adds to the disk."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = "benchmark.json"


@dataclass(frozen=True)
class Environment:
    """A virtual environment with one engine.

    Attributes:
        python: its interpreter.
        added_mb: what the installation added to the empty environment, compiled files included, in MB (10⁶ bytes).
        versions: of all that is installed.
    """

    python: Path
    added_mb: float
    versions: dict[str, str]


def make_environment(folder: Path, *requirements: str, newer_than: float = 0.0) -> Environment:
    """Returns the environment in `folder`, made and filled with `requirements` (pip's arguments) if it isn't there.

    Args:
        folder: of the environment.
        requirements: pip's arguments.
        newer_than: time of a change, in seconds since 1970, before which an environment is too old and made again.
    """
    python, record = folder / "bin" / "python", folder / RECORD
    if not record.is_file() or record.stat().st_mtime <= newer_than:
        print(f"installing {' '.join(requirements)}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        before = size_mb(folder)
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *requirements], check=True)
        added_mb = size_mb(folder) - before
        listed = subprocess.run([*pip, "list", "--format", "json"], check=True, capture_output=True, text=True)
        versions = {package["name"]: package["version"] for package in json.loads(listed.stdout)}
        record.write_text(json.dumps({"added_mb": added_mb, "versions": versions}))
    return Environment(python, **json.loads(record.read_text()))


def last_change(*folders: Path) -> float:
    """Returns when a file under `folders` was last changed, in seconds since 1970."""
    return max(path.stat().st_mtime for folder in folders for path in folder.rglob("*") if path.suffix != ".pyc")


def size_mb(folder: Path) -> float:
    """Returns the size of the files under `folder`, as the disk holds them."""
    num_blocks = sum(path.lstat().st_blocks for path in folder.rglob("*") if not path.is_symlink())
    return num_blocks * 512 / 1e6
