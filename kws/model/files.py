"""Files of models: where the shipped ones are, their hashes, and writing without leaving half a file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path


def pretrained_folder() -> Path:
    """Returns the folder of the encoders and wake words that come with the package."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "pretrained"
    return installed if installed.is_dir() else package.parent / "pretrained"


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of the file at `path`, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path` under a temporary name, then renames it: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
