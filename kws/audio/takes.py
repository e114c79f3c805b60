"""Takes of a phrase out of a live source: blocks ─▶ level of the room ─▶ speech begins, ends ─▶ trimmed take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from kws.audio.quality import FLOOR_DB, FRAME_S, SILENCE_DB, Problem, frame_levels_db, take_problems
from kws.audio.resample import reblocked
from kws.audio.samples import Waveform
from kws.config import check
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

SPEECH_OVER_ROOM_DB = 10.0
"""How far above the room a moment is taken for speech."""
MIN_SPEECH_DB = SILENCE_DB + 10
"""What is quieter is not speech, however quiet the room."""
LOUD_ROOM_DB = -40.0
"""Level of a room from which on takes are likely to be refused as too noisy, in dBFS."""

_ONSET_FRAMES = 3
_SAMPLES = round(FRAME_S * SAMPLE_RATE)


@dataclass(frozen=True)
class TakeConfig:
    """When a take begins and ends.

    Attributes:
        max_s: longest wait for speech, and longest take, in seconds.
        pause_s: silence that ends the take.
        margin_s: kept before the first and after the last moment of speech.
        room_s: how long the room is listened to.
    """

    max_s: float = 4.0
    pause_s: float = 0.6
    margin_s: float = 0.3
    room_s: float = 1.0

    def __post_init__(self) -> None:
        check(1 <= self.max_s <= 30, "seconds", self.max_s, "1 to 30 seconds")
        check(0.1 <= self.pause_s <= 5, "pause_s", self.pause_s, "0.1 to 5 seconds")
        check(0 <= self.margin_s <= self.pause_s, "margin_s", self.margin_s, "0 seconds to pause_s")
        check(0.1 <= self.room_s <= 30, "room_s", self.room_s, "0.1 to 30 seconds")


@dataclass(frozen=True, eq=False)
class RecordedTake:
    """One take.

    Attributes:
        waveform: (num_samples,) float32, 16 kHz, trimmed; empty where nobody spoke.
        problems: why it should not be kept; none if it is good.
    """

    waveform: Waveform
    problems: list[Problem]


class TakeListener:
    """Listens to one source: first to the room, then for takes; time is counted in its samples.

    Args:
        source: blocks of (num_samples,) float32, 16 kHz, such as a `Microphone`.
        config: when takes begin and end.
        on_level: called for every 20 ms with the level in dBFS.
    """

    def __init__(
        self,
        source: Iterable[Waveform],
        config: TakeConfig = TakeConfig(),
        on_level: Callable[[float], object] = lambda level_db: None,
    ) -> None:
        self.config = config
        self.room_db = FLOOR_DB
        self._frames = reblocked(iter(source), _SAMPLES)
        self._on_level = on_level
        self._before: deque[tuple[Waveform, float]] = deque(maxlen=_num_frames(config.margin_s))

    def measure_room(self) -> float:
        """Returns the level of the room, in dBFS: the median of its next moments."""
        levels = [level_db for _, level_db in (self._next() for _ in range(_num_frames(self.config.room_s)))]
        self.room_db = float(np.median(levels))
        return self.room_db

    @property
    def threshold_db(self) -> float:
        """Level from which on a moment counts as speech, in dBFS."""
        return max(self.room_db + SPEECH_OVER_ROOM_DB, MIN_SPEECH_DB)

    def wait(self, seconds: float) -> None:
        """Lets `seconds` of the source go by."""
        for _ in range(_num_frames(seconds)):
            self._next()

    def take(self) -> RecordedTake:
        """Returns the next take: from a moment before speech begins to a moment after it ends.

        Raises:
            AudioError: the source ends before anybody speaks.
        """
        heard = list(self._before)
        if not self._await_speech(heard):
            measured = f"nothing rose above {self.threshold_db:.1f} dBFS within {self.config.max_s:g} s"
            remedy = "say the phrase after the count, nearer to the microphone"
            return RecordedTake(np.zeros(0, np.float32), [Problem("silence", measured, remedy)])
        has_ended = self._await_pause(heard)
        waveform = self._trim(heard)
        problems = take_problems(waveform, self.room_db)
        if not has_ended:
            measured = f"no pause came within {self.config.max_s:g} s"
            problems.insert(0, Problem("too long", measured, "say the phrase once, then be silent"))
        return RecordedTake(waveform, problems)

    def _await_speech(self, heard: list[tuple[Waveform, float]]) -> bool:
        num_above = 0
        for _ in range(_num_frames(self.config.max_s)):
            heard.append(self._next())
            num_above = num_above + 1 if heard[-1][1] >= self.threshold_db else 0
            if num_above == _ONSET_FRAMES:
                del heard[: max(0, len(heard) - _ONSET_FRAMES - _num_frames(self.config.margin_s))]
                return True
        return False

    def _await_pause(self, heard: list[tuple[Waveform, float]]) -> bool:
        num_below = 0
        for _ in range(_num_frames(self.config.max_s)):
            try:
                heard.append(self._next())
            except AudioError:  # the source ended: the take is what there is
                return True
            num_below = num_below + 1 if heard[-1][1] < self.threshold_db else 0
            if num_below == _num_frames(self.config.pause_s):
                return True
        return False

    def _trim(self, heard: list[tuple[Waveform, float]]) -> Waveform:
        active = [index for index, (_, level_db) in enumerate(heard) if level_db >= self.threshold_db]
        margin = _num_frames(self.config.margin_s)
        kept = heard[max(0, active[0] - margin) : active[-1] + 1 + margin]
        return np.concatenate([frame for frame, _ in kept])

    def _next(self) -> tuple[Waveform, float]:
        frame = next(self._frames, None)
        if frame is None:
            raise AudioError("the recording ended before all takes were made; record a longer one, or ask for fewer")
        level_db = float(frame_levels_db(frame - frame.mean())[0])
        self._on_level(level_db)
        self._before.append((frame, level_db))
        return frame, level_db


def _num_frames(seconds: float) -> int:
    return max(1, round(seconds / FRAME_S))
