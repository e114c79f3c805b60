"""The runtime of the detector in the browser: onnxruntime-web from the user's npm, checked, in the user's cache folder.

It is not part of this package; without it the page says what to run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from kws.errors import DependencyError
from kws.model.files import write_atomically

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package's archive, as npm writes it."""
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What the page loads: the interface, its loader, the engine. A step of the encoder is too short for WebGPU."""
FETCH_S = 600.0

_REMEDY = f"install Node.js and run again, or give the archive of {PACKAGE} {VERSION}: --browser-runtime FILE.tgz"


def cache_folder() -> Path:
    """Returns where the runtime of this version is kept."""
    home = Path.home()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local")
    elif sys.platform == "darwin":
        root = home / "Library/Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return root / "kws" / f"{PACKAGE}-{VERSION}"


def find_runtime() -> Path | None:
    """Returns the folder of the runtime, None if it was not fetched."""
    folder = cache_folder()
    return folder if all((folder / name).is_file() for name in FILES) else None


def fetch_runtime(report: Callable[[str], object], archive: Path | None = None) -> Path:
    """Puts the runtime into the cache folder, which it returns.

    Args:
        report: called with a line about what is done.
        archive: the package, where it was fetched by other means; else npm fetches it.

    Raises:
        DependencyError: no npm, no network, or an archive that is not the expected one.
    """
    with tempfile.TemporaryDirectory(prefix="kws-npm-") as folder:
        if archive is None:
            report(f"fetching {PACKAGE} {VERSION} with npm (31 MB)")
            archive = _pack(Path(folder))
        try:
            content = archive.read_bytes()
        except OSError as error:
            raise DependencyError(f"{archive} can't be read ({error.strerror}); check its path") from error
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != INTEGRITY:
        raise DependencyError(
            f"{archive.name} is not {PACKAGE} {VERSION}: its SHA-512 is {found[:16]}…, expected {INTEGRITY[:16]}…; "
            "nothing was installed. Fetch it again from another registry or mirror"
        )
    for name, data in _members(content).items():
        write_atomically(cache_folder() / name, data)
    report(f"{cache_folder()} is ready")
    return cache_folder()


def _pack(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise DependencyError(f"npm is not here to fetch {PACKAGE}; {_REMEDY}")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent"]
    try:
        child = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DependencyError(f"npm could not fetch {PACKAGE} ({error}); {_REMEDY}") from error
    found = sorted(folder.glob("*.tgz"))
    if child.returncode or not found:
        reason = (child.stderr.strip().splitlines() or ["no archive came"])[-1]
        raise DependencyError(f"npm could not fetch {PACKAGE} ({reason}); {_REMEDY}")
    return found[0]


def _members(content: bytes) -> dict[str, bytes]:
    members = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for name in FILES:
            file = archive.extractfile(f"package/dist/{name}")
            if file is None:
                raise DependencyError(f"{PACKAGE} {VERSION} holds no {name}; report this")
            members[name] = file.read()
    return members
