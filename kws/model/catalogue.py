"""What comes with the package: encoders and wake words in `pretrained/`, described without loading torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kws.errors import ArtefactError
from kws.model.artefact import CARD_FILE, METADATA_FILE, load_wakeword
from kws.model.files import pretrained_folder

_LICENCE = re.compile(r"^\W*licen[cs]e\W*:\W*(.+?)\W*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class CatalogueEntry:
    """A shipped encoder or wake word.

    Attributes:
        name: what `--encoder`, `kws detect` and `kws listen` take.
        kind: "encoder" or "wake word".
        folder: where it is.
        num_bytes: size of its files.
        licence: as its card or metadata states it, or empty.
        keywords: what a wake word listens for.
        details: further metadata: metrics, or layers and parameters.
        problem: why it can't be used, or empty.
    """

    name: str
    kind: str
    folder: Path
    num_bytes: int
    licence: str = ""
    keywords: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns the entry as plain values."""
        return asdict(self) | {"folder": str(self.folder), "details": dict(self.details)}

    def summary(self) -> str:
        """Returns the entry for people to read, on two lines."""
        facts = [self.kind, f"{self.num_bytes / 1e6:.1f} MB", *(f"listens for '{name}'" for name in self.keywords)]
        facts += [f"licence {self.licence}"] if self.licence else []
        for condition, point in self.details.get("measured_on_people", {}).items():
            facts.append(f"misses {point['false_rejection_rate']:.1%} of people's recordings ({condition})")
        facts += [self.problem] if self.problem else []
        return f"{self.name}: {', '.join(facts)}\n  {self.folder}"


def list_shipped() -> list[CatalogueEntry]:
    """Returns the encoders, then the wake words, that come with the package, sorted by name."""
    root = pretrained_folder()
    encoders = [_describe_encoder(path.parent) for path in sorted(root.glob("*/config.json"))]
    return encoders + [_describe_wakeword(path.parent) for path in sorted(root.glob(f"*/{METADATA_FILE}"))]


def _describe_encoder(folder: Path) -> CatalogueEntry:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        layers, dim = values["num_hidden_layers"], values["hidden_size"]
        details = {"layers": layers, "dim": dim, "is_streaming": "streaming" in values}
        problem = "" if (folder / "model.safetensors").is_file() else "model.safetensors is missing; install kws again"
    except (OSError, ValueError, KeyError, TypeError) as error:
        details, problem = {}, f"config.json is damaged ({error!r}); install kws again"
    return CatalogueEntry(
        folder.name, "encoder", folder, _size_of(folder), _licence(folder), details=details, problem=problem
    )


def _describe_wakeword(folder: Path) -> CatalogueEntry:
    try:
        wakeword = load_wakeword(folder)
    except ArtefactError as error:
        return CatalogueEntry(folder.name, "wake word", folder, _size_of(folder), problem=str(error))
    licence = wakeword.details.get("licence") or wakeword.details.get("license") or _licence(folder)
    return CatalogueEntry(
        name=folder.name,
        kind="wake word",
        folder=folder,
        num_bytes=_size_of(folder),
        licence=str(licence),
        keywords=tuple(keyword.name for keyword in wakeword.keywords),
        details={"encoder": wakeword.encoder.name} | dict(wakeword.details),
    )


def _licence(folder: Path) -> str:
    try:
        found = _LICENCE.search((folder / CARD_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found.group(1) if found else ""


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
