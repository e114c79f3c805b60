"""What a check found, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class State(str, Enum):
    """How a check ended; only `failed` must be mended."""

    ok = "ok"
    warning = "warning"
    failed = "failed"
    skipped = "skipped"


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        check: what was looked at.
        state: how it ended.
        measured: what was found, in words.
        remedy: what to do; empty where nothing need be done.
        values: what was found, for programs.
    """

    check: str
    state: State
    measured: str
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Returns the finding as plain values."""
        texts = {"check": self.check, "state": self.state.value, "measured": self.measured, "remedy": self.remedy}
        return texts | {"values": dict(self.values)}

    def __str__(self) -> str:
        first = f"{self.state.value:8} {self.check}: {self.measured}"
        return f"{first}\n         → {self.remedy}" if self.remedy else first
