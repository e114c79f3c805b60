"""Takes of a phrase from a page's microphone: the session's audio ─▶ a thread that cuts takes ─▶ the good ones."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kws.audio.samples import Waveform
from kws.audio.takes import RecordedTake, TakeListener
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

MAX_REFUSED = 6
"""Takes refused in a row after which the recording ends, so that nobody talks to a dead microphone."""
MAX_TAKES = 50
NUM_PEAKS = 48
"""Bars of the small picture of a take."""

Tell = Callable[[dict[str, Any]], object]


class TakeRecorder:
    """Records takes until there are `count` good ones, or it is closed.

    Args:
        takes: where good takes go, by an identifier that can't be guessed.
        count: how many it shall hold in the end.
        tell: called, from a thread, with what the page shows.
    """

    def __init__(self, takes: dict[str, Waveform], count: int, tell: Tell) -> None:
        self._takes, self._count, self._tell = takes, min(count, MAX_TAKES), tell
        self._blocks: queue.SimpleQueue[Waveform | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="kws-takes", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it still records."""
        return self._thread.is_alive()

    def feed(self, waveform: Waveform) -> None:
        """Takes in the next (num_samples,) of the microphone, 16 kHz."""
        self._blocks.put(waveform)

    def close(self) -> None:
        """Ends the recording; idempotent."""
        self._is_closed = True
        self._blocks.put(None)

    def _source(self) -> Iterator[Waveform]:
        while (waveform := self._blocks.get()) is not None:
            yield waveform

    def _run(self) -> None:
        try:
            listener = TakeListener(self._source())
            self._say("room")
            listener.measure_room()
            self._record(listener)
        except AudioError:  # the source ended
            pass
        self._say("ended")

    def _record(self, listener: TakeListener) -> None:
        num_refused = 0
        while len(self._takes) < self._count and num_refused < MAX_REFUSED:
            self._say("say", room_db=round(listener.room_db, 1))
            take = listener.take()
            if self._is_closed:
                return
            num_refused = num_refused + 1 if take.problems else 0
            if take.problems:
                self._say("refused", reasons=[str(problem) for problem in take.problems])
            else:
                self._keep(take)

    def _keep(self, take: RecordedTake) -> None:
        name = secrets.token_urlsafe(12)
        self._takes[name] = take.waveform
        self._say("kept", **describe_take(name, take.waveform))

    def _say(self, state: str, **values: Any) -> None:
        self._tell({"type": "takes", "state": state, "num_takes": len(self._takes), "count": self._count} | values)


def describe_take(name: str, waveform: Waveform) -> dict[str, Any]:
    """Returns what the page shows of a take: its name, length and a picture of its loudness."""
    edges = np.linspace(0, len(waveform), NUM_PEAKS + 1).astype(int)[:-1]
    peaks = np.maximum.reduceat(np.abs(waveform), edges) if len(waveform) >= NUM_PEAKS else np.abs(waveform)
    peaks = peaks / max(float(peaks.max(initial=0.0)), 1e-6)
    return {"take": name, "duration_s": round(len(waveform) / SAMPLE_RATE, 2), "peaks": np.round(peaks, 2).tolist()}
