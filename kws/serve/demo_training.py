"""Training beside the detection: an order ─▶ a process of its own, at low priority ─▶ progress ─▶ a wake word."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kws.audio.io import write_audio
from kws.config import check
from kws.errors import ConfigError, KwsError

METHODS = ("text", "enrol")
NICENESS = 5
"""Detection goes first."""
TELL_S = 0.1
"""Seconds between two reports of progress."""
END_S = 5.0
"""How long a process that was told to end may take."""

Method = Literal["text", "enrol"]
Tell = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Order:
    """What is to be trained.

    Attributes:
        phrase: the wake word.
        method: "text" is `kws train`, with the takes as recordings of the phrase if there are any; "enrol" is
            `kws enrol`, from the takes alone.
        out: folder of the artefact.
        takes: (num_samples,) float32 each, 16 kHz.
        has_clips: whether the takes are kept in the artefact's folder.
        overrides: `"section.key=value"` changes to the settings.
    """

    phrase: str
    method: Method
    out: Path
    takes: list[np.ndarray] = field(default_factory=list)
    has_clips: bool = False
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self.method in METHODS, "method", self.method, " or ".join(METHODS))


class Training:
    """The one training that the demo runs at a time; pages come and go meanwhile.

    Attributes:
        state: what every page is told of it.

    Args:
        tell: called in the event loop with each new state.
    """

    def __init__(self, tell: Tell) -> None:
        self.state: dict[str, Any] = {"type": "training", "state": "none"}
        self._tell = tell
        self._process: Any = None
        self._following: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a training runs."""
        return self._following is not None and not self._following.done()

    def start(self, order: Order) -> None:
        """Begins to train.

        Raises:
            ConfigError: another training runs, or there is nothing to enrol from.
        """
        if self.is_running:
            raise ConfigError(f"'{self.state['phrase']}' is being trained; wait for it, or cancel it")
        if order.method == "enrol" and not order.takes:
            raise ConfigError("there are no takes to learn from; record three to ten, or train from text")
        clips = tempfile.TemporaryDirectory(prefix="kws-takes-")
        for number, take in enumerate(order.takes, 1):
            write_audio(Path(clips.name) / f"{number:04d}.wav", take)
        context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
        ours, theirs = context.Pipe(duplex=False)
        arguments = (replace(order, takes=[]), Path(clips.name) if order.takes else None, theirs)
        self._process = context.Process(target=run_order, args=arguments, name="kws-train", daemon=True)
        self._process.start()
        theirs.close()
        self._set(state="running", phrase=order.phrase, method=order.method, stage="starting", done=0, total=0)
        self._following = asyncio.create_task(self._follow(ours, clips), name="kws training")

    def cancel(self) -> None:
        """Ends the training, if one runs; one from text goes on where it was when it is ordered again."""
        if self.is_running:
            self.state["state"] = "cancelling"
            self._process.terminate()

    async def close(self) -> None:
        """Ends the training and waits for its process; idempotent."""
        self.cancel()
        if self._following is not None:
            await self._following

    async def _follow(self, connection: Connection, clips: tempfile.TemporaryDirectory[str]) -> None:
        loop = asyncio.get_running_loop()
        last: dict[str, Any] = {}
        try:
            while True:
                last = await loop.run_in_executor(None, connection.recv)
                if last["state"] == "running":
                    self._set(**last)
        except (EOFError, OSError):  # it ended
            connection.close()
        await loop.run_in_executor(None, self._process.join, END_S)
        if self._process.is_alive():
            self._process.kill()
        clips.cleanup()
        if last.get("state") in ("done", "failed"):
            self._set(**last)
        elif self.state["state"] == "cancelling":
            self._set(state="cancelled")
        else:
            self._set(state="failed", text=f"the training ended by itself (exit code {self._process.exitcode})")

    def _set(self, **values: Any) -> None:
        is_cancelling = self.state["state"] == "cancelling" and values.get("state") == "running"
        self.state = self.state | values | ({"state": "cancelling"} if is_cancelling else {})
        self._tell(self.state)


def run_order(order: Order, clips: Path | None, connection: Connection) -> None:
    """Trains what `order` says, `clips` the folder of its takes, and sends how it goes; main of its process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends this
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    told_s, told_stage = 0.0, ""

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal told_s, told_stage
        now_s = time.monotonic()
        if stage != told_stage or done >= total or now_s - told_s >= TELL_S:
            told_s, told_stage = now_s, stage
            connection.send({"state": "running", "stage": stage, "done": done, "total": total})

    try:
        _train(order, clips, progress)
        connection.send({"state": "done", "path": str(order.out)})
    except KwsError as error:
        connection.send({"state": "failed", "text": str(error)})
    finally:
        connection.close()


def _train(order: Order, clips: Path | None, progress: Callable[[str, int, int], None]) -> None:
    overrides = list(order.overrides)
    if order.method == "enrol" and clips is not None:
        from kws.train.enrolment import enrol

        enrol(order.phrase, [clips], order.out, overrides=overrides, keep_clips=order.has_clips, progress=progress)
        return
    from kws.train.wakeword import train_wakeword

    train_wakeword(order.phrase, order.out, positives=clips, overrides=overrides, progress=progress)
