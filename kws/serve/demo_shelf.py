"""The wake words that the demo offers: those named, those in the folder, those that come with the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from kws.detect.detector import Detector
from kws.errors import ArtefactError, ConfigError
from kws.model.artefact import ARCHIVE_SUFFIX, METADATA_FILE, WakeWord, load_wakeword
from kws.model.files import pretrained_folder
from kws.model.threshold import write_threshold

RECORD_KEY = "thresholds_set_by_hand"
"""Where wakeword.json keeps the thresholds that were set in the demo, under `details`, oldest first."""


@dataclass(frozen=True)
class Offer:
    """A wake word on this machine.

    Attributes:
        name: what the page calls it by; never a path that the page made up.
        path: where it is.
        wakeword: the artefact.
        is_own: whether its threshold can be saved; those that come with the package stay as they are.
    """

    name: str
    path: Path
    wakeword: WakeWord
    is_own: bool

    def as_json(self) -> dict[str, Any]:
        """Returns what the page shows."""
        keywords = [keyword.name for keyword in self.wakeword.keywords]
        method = str(self.wakeword.details.get("method", "text"))
        return {"name": self.name, "keywords": keywords, "is_own": self.is_own, "method": method}


class Shelf:
    """The wake words that the page offers.

    Args:
        named: folders, `.kws` files or shipped names, as on the command line.
        folder: searched for more, and where new ones go.
        report: called with a line for each that can't be used.

    Raises:
        ArtefactError: one that was named is not there, or damaged.
    """

    def __init__(self, named: Sequence[str], folder: Path, report: Callable[[str], object] = lambda line: None) -> None:
        self.folder = folder
        self._named = list(named)
        self._report = report
        self.offers: dict[str, Offer] = {}
        self.refresh()

    def refresh(self) -> None:
        """Looks again at what is there."""
        self.offers = {}
        for name in self._named:
            load_wakeword(name)  # its message names what was asked for
            path = Path(name).expanduser()
            is_own = path.is_file() or (path / METADATA_FILE).is_file()
            self._offer(path.name, path if is_own else pretrained_folder() / name, is_own)
        for path in [*sorted(self.folder.glob(f"*/{METADATA_FILE}")), *sorted(self.folder.glob(f"*{ARCHIVE_SUFFIX}"))]:
            self._offer_if_sound(path.parent if path.name == METADATA_FILE else path, is_own=True)
        for path in sorted(pretrained_folder().glob(f"*/{METADATA_FILE}")):
            self._offer_if_sound(path.parent, is_own=False)

    def detector(self, names: Sequence[str]) -> Detector | None:
        """Returns a detector of the wake words `names`, None for none.

        Raises:
            ConfigError: one that is not offered, or two of the same keyword.
            KwsError: one can't be loaded.
        """
        return Detector([load_wakeword(self[name].path) for name in names]) if names else None

    def __getitem__(self, name: str) -> Offer:
        if name not in self.offers:
            raise ConfigError(f"no wake word '{name[:80]}' is offered here; reload the page")
        return self.offers[name]

    def save_threshold(self, names: Sequence[str], keyword: str, threshold: float) -> Path:
        """Writes the `threshold` of `keyword` into the one of the wake words `names` that has it; returns its path.

        Raises:
            ConfigError: none has it, or it came with the package.
            ArtefactError: it can't be written.
        """
        for offer in (self[name] for name in names):
            known = [one.name for one in offer.wakeword.keywords]
            if keyword not in known:
                continue
            if not offer.is_own:
                raise ConfigError(f"'{offer.name}' comes with kws and stays as it is; train one of your own")
            column = known.index(keyword)
            before = load_wakeword(offer.path).keywords[column].trigger.threshold
            made = {"date": date.today().isoformat(), "keyword": keyword}
            record = made | {"previous_threshold": before, "threshold": threshold}
            write_threshold(offer.path, column, threshold, RECORD_KEY, record)
            self.refresh()
            return offer.path
        raise ConfigError(f"'{keyword[:80]}' is not listened for now; choose it first")

    def free_folder(self, stem: str) -> Path:
        """Returns where a new wake word goes: nothing that is there is overwritten, what was interrupted goes on."""
        number, path = 1, self.folder / stem
        while (path / METADATA_FILE).exists() or path.is_file():
            number += 1
            path = self.folder / f"{stem}_{number}"
        return path

    def name_of(self, path: Path) -> str:
        """Returns what the wake word at `path` is offered as, empty if it is not."""
        return next((offer.name for offer in self.offers.values() if offer.path == path), "")

    def _offer_if_sound(self, path: Path, is_own: bool) -> None:
        try:
            self._offer(path.name, path, is_own)
        except ArtefactError as error:
            self._report(f"left out: {error}")

    def _offer(self, name: str, path: Path, is_own: bool) -> None:
        if any(offer.path.resolve() == path.resolve() for offer in self.offers.values()):
            return
        wakeword, number, free = load_wakeword(path), 1, name
        while free in self.offers:
            number += 1
            free = f"{name} ({number})"
        self.offers[free] = Offer(free, path, wakeword, is_own)
