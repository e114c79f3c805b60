"""The results as tables in Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PEER = "openWakeWord"


def write_table(folder: Path) -> str:
    """Writes `table.md` from the results in `folder` and returns it."""
    results = {path.stem: json.loads(path.read_text())["results"] for path in sorted(folder.glob("*.json"))}
    parts = [write(results) for needed, write in _PARTS.items() if needed in results]
    text = "\n\n".join(parts) + "\n"
    (folder / "table.md").write_text(text)
    return text


def _engines(results: dict[str, Any]) -> str:
    engines, starts, sizes = results["engines"], results.get("cold_start", {}), results.get("disk", {})
    peer = engines[PEER]["cpu_s_per_s"]
    rows = [
        [
            name,
            f"{row['cpu_s_per_s']:.4f}",
            f"{row['cpu_s_per_s'] / peer:.2f}",
            _number(row["peak_mb"]),
            f"{starts[name]['wall_s']:.2f}" if name in starts else "",
            _number(sizes[name]["added_mb"]) if name in sizes else "",
        ]
        for name, row in engines.items()
    ]
    heads = ["one keyword", "CPU s / s", f"of {PEER}", "peak memory, MB", "load to first score, s", "on disk, MB"]
    return _table(heads, rows)


def _growth(kind: str) -> Any:
    def write(results: dict[str, Any]) -> str:
        rows = [[name, f"{row['cpu_s_per_s']:.4f}", _number(row["peak_mb"])] for name, row in results[kind].items()]
        of_one = " of one stream" if kind == "streams" else ""
        return _table([kind, f"CPU s / s{of_one}", "peak memory, MB"], rows)

    return write


def _starts(results: dict[str, Any]) -> str:
    rows = [[name, f"{row['fired']} of {row['clips']}"] for name, row in results["starts"].items()]
    return _table(["fresh stream, noisy clip", "fired within a second"], rows)


def _soak(results: dict[str, Any]) -> str:
    memory = results["soak"]["resident_mb_by_hour"]
    rows = [[f"{hour} h", _number(memory[hour - 1])] for hour in (1, 6, 12, 18, 24) if hour <= len(memory)]
    return _table(["soak, audio heard", "memory in use, MB"], rows)


_PARTS = {
    "engines": _engines,
    "keywords": _growth("keywords"),
    "streams": _growth("streams"),
    "starts": _starts,
    "soak": _soak,
}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
