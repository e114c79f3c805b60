"""What the command line shows while it works: the meters of `kws listen`, and the progress of files and stages."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kws.audio.samples import Waveform
from kws.detect.detector import Detection
from kws.frames import SAMPLE_RATE

STATUS_S = 5.0
"""Seconds of audio between two status lines where no meters can be drawn."""
FLOOR_DB = -60.0
"""Level at the left end of the meter, in dBFS."""

HISTORY_S = 1.0
"""Seconds of audio behind each column of the history."""

_BAR_WIDTH = 16
_NAME_WIDTH = 16
_HISTORY_WIDTH = 22
_BLOCKS = "▁▂▃▄▅▆▇█"


class ListenView:
    """Shows a running detection as lines: detections on `output`, everything else on `messages`.

    Args:
        keywords: what is listened for.
        thresholds: the score at which each fires.
        line: turns a detection into a line.
        has_status: whether the level and scores are stated every few seconds.
        output: where detections go; standard output without it.
        messages: where everything else goes; standard error without it.

    Attributes:
        device: what is listened to, if it is known.
    """

    def __init__(
        self,
        keywords: Sequence[str],
        thresholds: Sequence[float],
        line: Callable[[Detection], str],
        has_status: bool = False,
        output: IO[str] | None = None,
        messages: IO[str] | None = None,
    ) -> None:
        self.keywords = list(keywords)
        self.thresholds = list(thresholds)
        self.device = ""
        self.counts: Counter[str] = Counter()
        self.num_samples = 0
        self.dropped_blocks = 0
        self.level_db = FLOOR_DB
        self.scores = np.zeros(len(self.keywords), np.float32)
        self._line = line
        self._has_status = has_status
        self._output = output or sys.stdout
        self._messages = messages or sys.stderr

    def __enter__(self) -> ListenView:
        return self

    def __exit__(self, *exception: Any) -> None:
        """Leaves the terminal as it was."""

    def update(self, waveform: Waveform, scores: np.ndarray, dropped_blocks: int) -> None:
        """Takes in the block just heard, (num_samples,), and the latest score of each keyword, (num_keywords,)."""
        before_s, self.num_samples = self.heard_s, self.num_samples + waveform.size
        self.level_db, self.scores = level_db(waveform), scores
        if dropped_blocks > self.dropped_blocks:
            self._on_dropped(dropped_blocks - self.dropped_blocks)
        self.dropped_blocks = dropped_blocks
        if self._has_status and self.heard_s // STATUS_S > before_s // STATUS_S:
            self.message(self._status())

    def detected(self, detection: Detection) -> None:
        """Shows `detection` at once."""
        self.counts[detection.keyword] += 1
        print(self._line(detection), file=self._output, flush=True)

    def message(self, text: str) -> None:
        """Shows a line that is not a detection."""
        print(text, file=self._messages, flush=True)

    @property
    def heard_s(self) -> float:
        """Seconds of audio heard so far."""
        return self.num_samples / SAMPLE_RATE

    def summary(self) -> str:
        """Returns the line for the end: how long, how many, how many blocks were lost."""
        each = ", ".join(f"{keyword} {self.counts[keyword]}" for keyword in self.keywords)
        return f"listened {self.heard_s:.1f} s; detections: {each}; dropped blocks: {self.dropped_blocks}"

    def _on_dropped(self, num_blocks: int) -> None:
        self.message(f"warning: {num_blocks} blocks were dropped at {self.heard_s:.1f} s: this machine is too slow")

    def _status(self) -> str:
        scores = "  ".join(f"{keyword} {score:.2f}" for keyword, score in zip(self.keywords, self.scores))
        return f"{self.heard_s:8.1f} s  level {self.level_db:5.1f} dBFS  {scores}"


class MeterView(ListenView):
    """Draws level, scores and their history at the bottom of a terminal, detections and messages scrolling above.

    Args:
        keywords: what is listened for.
        thresholds: the score at which each fires.
        line: turns a detection into a line.
        console: the terminal; standard output without it.
    """

    def __init__(
        self,
        keywords: Sequence[str],
        thresholds: Sequence[float],
        line: Callable[[Detection], str],
        console: Console | None = None,
    ) -> None:
        super().__init__(keywords, thresholds, line)
        self._history: deque[np.ndarray] = deque(maxlen=_HISTORY_WIDTH)
        self._num_columns = 0
        self._console = console or Console()
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=12)

    def __enter__(self) -> MeterView:
        self._live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._live.stop()

    def update(self, waveform: Waveform, scores: np.ndarray, dropped_blocks: int) -> None:
        """Takes in the block just heard, and keeps its level and scores in the history."""
        super().update(waveform, scores, dropped_blocks)
        shares = np.append(_level_share(self.level_db), self.scores)
        if self.heard_s >= self._num_columns * HISTORY_S:
            self._num_columns = int(self.heard_s / HISTORY_S) + 1
            self._history.append(shares)
        else:
            self._history[-1] = np.maximum(self._history[-1], shares)

    def detected(self, detection: Detection) -> None:
        """Shows `detection` at once."""
        self.counts[detection.keyword] += 1
        self._console.print(Text(self._line(detection), style="bold green"))

    def message(self, text: str) -> None:
        """Shows a line that is not a detection."""
        self._console.print(Text(text, style="yellow"))

    def _on_dropped(self, num_blocks: int) -> None:
        """Says nothing: the meters show the count."""

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(max_width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
        table.add_column(width=_BAR_WIDTH, no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(width=_HISTORY_WIDTH, no_wrap=True)
        table.add_column(no_wrap=True)
        bar = meter(_level_share(self.level_db), _BAR_WIDTH, style="cyan")
        table.add_row("level", bar, f"{self.level_db:5.1f} dBFS", history(self._column(0), style="cyan"))
        for index, (keyword, score, threshold) in enumerate(zip(self.keywords, self.scores, self.thresholds)):
            bar = meter(float(score), _BAR_WIDTH, threshold)
            past = history(self._column(index + 1), threshold)
            figures = f"{score:.2f} of {threshold:.2f}"
            table.add_row(Text(keyword), bar, figures, past, f"{self.counts[keyword]}×")
        outer = Table.grid()
        outer.add_row(table)
        outer.add_row(self._footer())
        return outer

    def _footer(self) -> Text:
        dropped = f"{self.dropped_blocks} dropped"
        facts = [f"{self.heard_s:.0f} s", *filter(None, [self.device]), "Ctrl-C ends"]
        footer = Text("  ·  ".join(facts), style="dim", no_wrap=True, overflow="ellipsis")
        width = self._console.width - len(dropped) - 3
        footer.truncate(width, overflow="ellipsis")
        return footer.append("  ").append(dropped, style="bold red" if self.dropped_blocks else "dim")

    def _column(self, index: int) -> list[float]:
        return [float(shares[index]) for shares in self._history]


def meter(share: float, width: int, mark: float | None = None, style: str = "green") -> Text:
    """Returns a bar of `width` characters, filled to `share` (0..1), with a line at `mark` if there is one."""
    num_filled = round(min(max(share, 0.0), 1.0) * width)
    bar = Text("█" * num_filled, style=style if mark is None or share >= mark else "blue")
    bar.append("░" * (width - num_filled), style="dim")
    if mark is None:
        return bar
    column = min(int(mark * width), width - 1)
    return Text.assemble(bar[:column], ("┃", "bold red"), bar[column + 1 :])


def history(shares: Sequence[float], mark: float | None = None, style: str = "green") -> Text:
    """Returns a character for each of the `shares` (0..1), as high as it; those below `mark` are dim."""
    line = Text()
    for share in shares:
        block = _BLOCKS[round(min(max(share, 0.0), 1.0) * (len(_BLOCKS) - 1))]
        line.append(block, style="dim" if mark is not None and share < mark else style)
    return line


def level_db(waveform: Waveform) -> float:
    """Returns the RMS level of `waveform`, (num_samples,) in −1..1, in dBFS, not below the meter's floor."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if waveform.size else 0.0
    return max(FLOOR_DB, 10 * np.log10(max(power, 1e-12)))


def _level_share(level_db: float) -> float:
    return (level_db - FLOOR_DB) / -FLOOR_DB


class StageProgress(AbstractContextManager["StageProgress"]):
    """Progress of named stages on standard error: bars on a terminal, a line at each stage's end elsewhere.

    Call it with the stage's name and how many of how many steps are done; several stages may run at once.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> StageProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Shows that `done` of the `total` steps of `stage` are done."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)
        if done >= total and not self._console.is_terminal:
            self.message(f"{stage}: {done} of {total}")

    def message(self, text: str) -> None:
        """Shows a line above the bars."""
        self._console.print(Text(text), soft_wrap=True)


def file_progress() -> Progress:
    """Returns a progress bar in seconds of audio, on standard error, that shows nothing where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
