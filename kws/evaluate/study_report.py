"""The report of a transfer study: cells ─▶ study.json, pictures, a table of text, and one page, index.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from kws.evaluate.learning_curves import Study, differences, verdict
from kws.evaluate.page import page_environment, percent
from kws.evaluate.plots import THEMES
from kws.evaluate.study_plots import draw_study
from kws.model.files import write_atomically

TEMPLATE = "study.html.j2"
JOULES_A_WATT_HOUR = 3600


@dataclass(frozen=True)
class StudyReport:
    """What is shown.

    Attributes:
        name: what was studied.
        study: the cells.
        encoder: what was carried over, by name.
        encoder_sha256: hash of its weights.
        watts: assumed power of one busy core.
        config: settings of the study, resolved.
        num_planned: cells that the study is to have.
        notes: what a reader must know beside the numbers.
    """

    name: str
    study: Study
    encoder: str
    encoder_sha256: str
    watts: float
    config: Mapping[str, Any]
    num_planned: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it for JSON."""
        study = self.study
        return {
            "name": self.name,
            "created": date.today().isoformat(),
            "encoder": self.encoder,
            "encoder_sha256": self.encoder_sha256,
            "labels": list(study.labels),
            "num_test": len(study.truth),
            "num_cells": len(study.cells),
            "num_planned": self.num_planned,
            "verdict": verdict(study),
            "modes": {mode: self._mode(mode) for mode in study.modes},
            "differences": [found.to_dict() for mode in study.modes for found in differences(study, mode)],
            "assumed_watts": self.watts,
            "notes": list(self.notes),
            "config": dict(self.config),
            "truth": study.truth.tolist(),
            "cells": [cell.to_dict() for cell in study.cells],
        }

    def _mode(self, mode: str) -> dict[str, Any]:
        study, size = self.study, self.study.largest_size(mode)
        cells = study.of(mode, size)
        cpu_s = float(np.mean([cell.cpu_s for cell in cells]))
        return {
            "size": size,
            "num_seeds": len(cells),
            "trained_parameters": cells[0].trained_parameters,
            "parameters": cells[0].parameters,
            "cpu_s": cpu_s,
            "energy_wh_estimated": cpu_s * self.watts / JOULES_A_WATT_HOUR,
            "accuracy": study.accuracy(mode, size),
            "over_epochs": study.over_epochs(mode, size).to_dict(),
            "over_sizes": study.over_sizes(mode).to_dict(),
            "confusion": study.confusion(mode, size).tolist(),
        }


def write_study_report(folder: Path, report: StudyReport) -> Path:
    """Writes the report into `folder` and returns its page."""
    for theme in THEMES:
        write_atomically(folder / f"study-{theme}.png", draw_study(report.study, report.name, theme))
    values = report.to_dict()
    write_atomically(folder / "study.json", (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())
    page = folder / "index.html"
    write_atomically(page, render_study(values).encode())
    return page


def render_study(values: Mapping[str, Any]) -> str:
    """Returns the HTML of `StudyReport.to_dict()`."""
    environment = page_environment()
    environment.filters |= {"percent": percent, "points": lambda share: f"{100 * share:+.1f}"}
    return environment.get_template(TEMPLATE).render(values)


def format_study(report: StudyReport) -> str:
    """Returns the table and the verdict as text."""
    head = f"{'mode':8}{'clips':>6}{'start':>8}{'slope':>7}{'end':>8}{'trained':>11}{'CPU s':>8}{'Wh (est.)':>11}"
    lines = [f"{report.name}: {len(report.study.truth)} test clips, {len(report.study.labels)} labels", head]
    for mode, values in report.to_dict()["modes"].items():
        curve = values["over_epochs"]
        lines.append(
            f"{mode:8}{values['size']:6}{curve['start']:8.1%}{100 * curve['slope']:+7.1f}{curve['end']:8.1%}"
            f"{values['trained_parameters']:11,}{values['cpu_s']:8.1f}{values['energy_wh_estimated']:11.3f}"
        )
    return "\n".join([*lines, "", *verdict(report.study)])
