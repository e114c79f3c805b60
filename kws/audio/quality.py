"""How good a recording is: waveform ─▶ level, clipping, offset, noise, where speech lies ─▶ problems with a remedy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kws.audio.samples import Waveform
from kws.frames import SAMPLE_RATE

SILENCE_DB = -60.0
"""Level below which a recording counts as silent, in dBFS (RMS; a full-scale square wave is 0)."""
CLIPPED_SHARE = 0.001
"""Share of samples at full scale above which a recording counts as clipped."""
DC_OFFSET = 0.01
"""Mean, as a share of full scale, above which a recording counts as offset."""
QUIET_DB = -45.0
"""Level of speech below which 16-bit noise and the room come too near, in dBFS."""
MIN_SNR_DB = 10.0
"""Speech over the room below which a take teaches the noise as well."""
PHRASE_S = (0.2, 3.0)
"""Shortest and longest phrase, in seconds of speech."""
CUT_DB = 20.0
"""Speech cut off: the recording's first or last moment is less than this below its loudest."""

FRAME_S = 0.02
FLOOR_DB = -100.0
"""Level given to digital silence, in dBFS: the noise of a 16-bit recording is at about −98."""
_FULL_SCALE = 0.999
_FLOOR_PERCENTILE = 10
_SPEECH_BELOW_PEAK_DB = 25.0


@dataclass(frozen=True)
class Problem:
    """What is wrong with a recording.

    Attributes:
        name: "silence", "too quiet", "clipping", "DC offset", "too noisy", "too short", "too long", "cut off at the
            start" or "cut off at the end".
        measured: the value found, in words.
        remedy: what to do.
    """

    name: str
    measured: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.measured}; {self.remedy}"


class LevelMeter:
    """Level, peak, offset and clipping of a stream, in constant memory.

    Attributes:
        num_samples: how many were fed.
        peak: largest absolute sample, 1 at full scale.
    """

    def __init__(self) -> None:
        self.num_samples = 0
        self.peak = 0.0
        self._num_clipped = 0
        self._sum = 0.0
        self._sum_of_squares = 0.0

    def feed(self, waveform: Waveform) -> None:
        """Takes in the next (num_samples,) float32 samples."""
        if not waveform.size:
            return
        magnitudes = np.abs(waveform)
        self.num_samples += waveform.size
        self.peak = max(self.peak, float(magnitudes.max()))
        self._num_clipped += int(np.count_nonzero(magnitudes >= _FULL_SCALE))
        self._sum += float(waveform.sum(dtype=np.float64))
        self._sum_of_squares += float(np.square(waveform, dtype=np.float64).sum())

    @property
    def dc_offset(self) -> float:
        """Mean of the samples, as a share of full scale."""
        return self._sum / max(1, self.num_samples)

    @property
    def level_db(self) -> float:
        """RMS level around the mean, in dBFS."""
        return _decibels(self._sum_of_squares / max(1, self.num_samples) - self.dc_offset**2)

    @property
    def clipped_share(self) -> float:
        """Share of the samples at full scale."""
        return self._num_clipped / max(1, self.num_samples)

    def problems(self) -> list[Problem]:
        """Returns silence, clipping and DC offset where they are found."""
        if not self.num_samples:
            return [Problem("silence", "it has no samples", "record it again")]
        found = []
        if self.level_db < SILENCE_DB:
            measured = f"its level is {self.level_db:.1f} dBFS, speech is above {SILENCE_DB:.0f} dBFS"
            found.append(Problem("silence", measured, "check that the microphone is on and is the one meant"))
        if self.clipped_share > CLIPPED_SHARE:
            measured = f"{self.clipped_share:.2%} of its samples are at full scale"
            found.append(Problem("clipping", measured, "record at a lower gain, or from further away"))
        if abs(self.dc_offset) > DC_OFFSET:
            measured = f"its mean is {self.dc_offset:+.3f} of full scale, it should be near 0"
            found.append(Problem("DC offset", measured, "use another input, or a high-pass filter"))
        return found


@dataclass(frozen=True)
class SpeechLevels:
    """Where somebody speaks in a recording, and how loud it is there and elsewhere.

    Attributes:
        speech_db: level of the speech, in dBFS.
        noise_db: level of the quietest tenth, or of the room where it is known, in dBFS.
        start_s: where speech begins, in seconds.
        end_s: where it ends.
        first_db: level of the first moment, relative to the loudest.
        last_db: level of the last moment, relative to the loudest.
    """

    speech_db: float
    noise_db: float
    start_s: float
    end_s: float
    first_db: float
    last_db: float

    @property
    def snr_db(self) -> float:
        """Speech over noise, in dB; an estimate, too low where a recording has no pause at all."""
        return self.speech_db - self.noise_db

    @property
    def duration_s(self) -> float:
        """From the first speech to the last, in seconds."""
        return self.end_s - self.start_s

    def problems(self) -> list[Problem]:
        """Returns what makes this a bad recording of one phrase, beyond what `LevelMeter.problems` finds."""
        found = []
        if self.speech_db < QUIET_DB:
            measured = f"its speech is at {self.speech_db:.1f} dBFS, it should be above {QUIET_DB:.0f} dBFS"
            found.append(Problem("too quiet", measured, "speak up, come nearer, or raise the gain"))
        if self.snr_db < MIN_SNR_DB:
            measured = f"its speech is {self.snr_db:.1f} dB above the noise, it should be {MIN_SNR_DB:.0f} dB or more"
            found.append(Problem("too noisy", measured, "find a quieter place, or come nearer"))
        shortest_s, longest_s = PHRASE_S
        if self.duration_s < shortest_s:
            measured = f"it holds {self.duration_s:.2f} s of speech, a phrase lasts {shortest_s:g} s or more"
            found.append(Problem("too short", measured, "say the whole phrase"))
        if self.duration_s > longest_s:
            measured = f"its speech lasts {self.duration_s:.2f} s, a phrase {longest_s:g} s at most"
            found.append(Problem("too long", measured, "say the phrase once, and nothing else"))
        for name, level_db, remedy in (
            ("start", self.first_db, "wait a moment before you speak"),
            ("end", self.last_db, "leave a moment of silence at the end"),
        ):
            if level_db > -CUT_DB and self.snr_db > CUT_DB:
                measured = f"its {name} is only {-level_db:.1f} dB below its loudest moment"
                found.append(Problem(f"cut off at the {name}", measured, remedy))
        return found


def measure_speech(waveform: Waveform, noise_db: float | None = None) -> SpeechLevels:
    """Returns where and how loud somebody speaks in `waveform`, (num_samples,) float32, 16 kHz, by its energy.

    Speech lies between the first and the last moment whose level is halfway, in decibels, from the noise to the peak,
    or within 25 dB of the peak, whichever is higher.

    Args:
        waveform: the recording; its mean does not count.
        noise_db: level of the room, where it was measured.
    """
    levels_db = frame_levels_db(waveform - waveform.mean() if waveform.size else waveform)
    if noise_db is None:
        noise_db = float(np.percentile(levels_db, _FLOOR_PERCENTILE))
    peak_db = float(levels_db.max())
    threshold_db = max((peak_db + noise_db) / 2, peak_db - _SPEECH_BELOW_PEAK_DB)
    active = np.flatnonzero(levels_db >= threshold_db) if peak_db > threshold_db else np.zeros(1, np.int64)
    return SpeechLevels(
        speech_db=_decibels(float(np.mean(10 ** (levels_db[active] / 10)))),
        noise_db=noise_db,
        start_s=int(active[0]) * FRAME_S,
        end_s=min((int(active[-1]) + 1) * FRAME_S, waveform.size / SAMPLE_RATE),
        first_db=float(levels_db[0]) - peak_db,
        last_db=float(levels_db[-1]) - peak_db,
    )


def take_problems(waveform: Waveform, noise_db: float | None = None) -> list[Problem]:
    """Returns everything that is wrong with `waveform` as a recording of one phrase; see `measure_speech`."""
    meter = LevelMeter()
    meter.feed(waveform)
    found = meter.problems()
    if any(problem.name == "silence" for problem in found):
        return found
    return found + measure_speech(waveform, noise_db).problems()


def frame_levels_db(waveform: Waveform) -> np.ndarray:
    """Returns the (num_frames,) RMS levels of `waveform` in dBFS, 20 ms each; what is left over counts to the last."""
    hop = round(FRAME_S * SAMPLE_RATE)
    num_frames = max(1, waveform.size // hop)
    edges = np.arange(num_frames) * hop
    if not waveform.size:
        return np.full(1, FLOOR_DB)
    sums = np.add.reduceat(np.square(waveform, dtype=np.float64), edges)
    sizes = np.diff(np.append(edges, waveform.size))
    return np.maximum(FLOOR_DB, 10 * np.log10(np.maximum(sums / sizes, 1e-20)))


def _decibels(power: float) -> float:
    return max(FLOOR_DB, 10 * float(np.log10(max(power, 1e-20))))
