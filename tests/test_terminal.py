"""What `kws listen` draws: meters that fit 80 columns, lines where there is no terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from kws.detect.detector import Detection
from kws.detect.files import json_line, text_line
from kws.terminal import FLOOR_DB, ListenView, MeterView, StageProgress, history, level_db, meter

DETECTION = Detection("hey computer", 0.97, 61.2, 62.0)
LOUD = np.full(80_000, 0.1, np.float32)


@pytest.mark.parametrize(
    ("share", "filled"),
    [(-1.0, 0), (0.0, 0), (0.5, 5), (1.0, 10), (2.0, 10)],
    ids=["below", "empty", "half", "full", "above"],
)
def test_a_meter_is_filled_in_proportion(share: float, filled: int) -> None:
    assert meter(share, 10).plain == "█" * filled + "░" * (10 - filled)


@pytest.mark.parametrize(("mark", "column"), [(0.0, 0), (0.5, 5), (1.0, 9)])
def test_a_meter_marks_the_threshold(mark: float, column: int) -> None:
    bar = meter(0.3, 10, mark).plain
    assert len(bar) == 10
    assert bar.index("┃") == column


def test_level_is_rms_in_dbfs() -> None:
    assert level_db(LOUD) == pytest.approx(-20, abs=1e-4)
    assert level_db(np.zeros(100, np.float32)) == FLOOR_DB
    assert level_db(np.zeros(0, np.float32)) == FLOOR_DB


def test_history_is_as_high_as_the_scores() -> None:
    drawn = history([-1.0, 0.0, 0.5, 1.0, 2.0], mark=0.5)
    assert drawn.plain == "▁▁▅██"
    assert [str(span.style) for span in drawn.spans] == ["dim", "dim", "green", "green", "green"]


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(screen: io.StringIO) -> Console:
    return Console(file=screen, width=80, height=24, force_terminal=True, color_system=None)


def test_meters_fit_80_columns(screen: io.StringIO, console: Console) -> None:
    names = ["hey computer", "a phrase that is much longer than the column it is shown in [bold]"]
    with MeterView(names, [0.5, 0.25], text_line, console) as view:
        view.device = "a microphone whose name is far longer than anybody would ever want to read it"
        for _ in range(30):
            view.update(LOUD, np.array([0.97, 0.01], np.float32), dropped_blocks=3)
        view.detected(DETECTION)
    drawn = screen.getvalue()
    assert "61.20 – 62.00 s  hey computer  0.970" in drawn
    assert "0.97 of 0.50" in drawn
    assert "1×" in drawn
    assert "-20.0 dBFS" in drawn
    assert "150 s  ·  a microphone whose name" in drawn
    assert "3 dropped" in drawn
    assert all(len(line) <= 80 for line in drawn.split("\n") if "\x1b" not in line)


def test_history_has_a_column_a_second(screen: io.StringIO, console: Console) -> None:
    """Of each second the highest score stays, however the audio was cut."""
    with MeterView(["hey computer"], [0.5], text_line, console) as view:
        for tenth in range(40):
            score = {5: 1.0, 25: 0.57}.get(tenth, 0.0)
            view.update(np.zeros(1600, np.float32), np.array([score], np.float32), dropped_blocks=0)
    (row,) = [line for line in screen.getvalue().split("\r")[-1].split("\n") if "hey computer" in line]
    assert "█▁▅▁" in row


def test_lines_keep_detections_apart_from_messages() -> None:
    output, messages = io.StringIO(), io.StringIO()
    with ListenView(["hey computer"], [0.5], json_line, True, output, messages) as view:
        view.update(LOUD, np.array([0.1], np.float32), dropped_blocks=0)
        view.update(LOUD, np.array([0.2], np.float32), dropped_blocks=2)
        view.detected(DETECTION)
    expected = '{"keyword": "hey computer", "score": 0.97, "start_s": 61.2, "end_s": 62.0}\n'
    assert output.getvalue() == expected
    assert "5.0 s  level -20.0 dBFS  hey computer 0.10" in messages.getvalue()
    assert "2 blocks were dropped at 10.0 s" in messages.getvalue()
    assert view.summary() == "listened 10.0 s; detections: hey computer 1; dropped blocks: 2"


def test_stages_are_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress() as progress:
        for done in range(4):
            progress("mixing [positives]", done, 3)
    assert capsys.readouterr().err == "mixing [positives]: 3 of 3\n"
