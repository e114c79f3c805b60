"""Plays recordings in one measured room with one noise, to measure what `kws adapt` does there.

Launch (from the repository, with the recordings described in recipes/wake-words/README.md at DATA):
    python recipes/transfer/room.py --data DATA --word alexa --out runs/room/alexa
    kws adapt runs/alexa --audio runs/room/alexa/talk --positives runs/room/alexa/phrase \
        --negatives runs/room/alexa/other --out runs/room/alexa/adapted

`talk` has no labels, and its speakers are not those of `other`.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from kws.audio.io import read_audio, write_audio
from kws.data.augment import convolve
from kws.data.manifest import Clip, read_clips
from kws.data.mix import mix_at_snr
from kws.data.room import direct_first
from kws.data.text import normalize
from kws.frames import SAMPLE_RATE

WORDS = ("alexa", "computer", "jarvis")


def main() -> None:
    """Writes the folders `talk`, `phrase` and `other` into `--out`."""
    arguments = parse_arguments()
    data, rng = arguments.data, np.random.default_rng(arguments.seed)
    rir = direct_first(read_audio(data / "rir/audio" / arguments.rir))
    noise = read_audio(data / "noise/audio" / arguments.noise)
    talk, others = split_speakers([clip for clip in read_clips(data / "librispeech-mini/dev.jsonl") if is_other(clip)])
    others += [clip for clip in read_clips(data / "speechocean762/test.jsonl") if is_other(clip)]
    others = up_to(others, arguments.other_minutes, rng)
    for word in set(WORDS) - {arguments.word}:
        others += read_clips(data / f"wake-words/{word}/test.jsonl")
    phrase = read_clips(data / f"wake-words/{arguments.word}/test.jsonl")
    parts = {"talk": up_to(talk, arguments.talk_minutes, rng), "phrase": phrase, "other": others}
    for name, clips in parts.items():
        shutil.rmtree(arguments.out / name, ignore_errors=True)
        for index, clip in enumerate(track(clips, name)):
            waveform = np.pad(read_audio(clip.path), round(arguments.around_s * SAMPLE_RATE))
            heard = in_room(waveform, rir, noise, arguments.snr_db, rng)
            write_audio(arguments.out / name / f"{index:04}.flac", heard)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--word", choices=WORDS, required=True, help="whose recordings are the phrase")
    parser.add_argument("--out", type=Path, required=True, help="where the three folders are written")
    parser.add_argument("--rir", default="seminar_room_clap.flac", help="an impulse response in DATA/rir/audio")
    parser.add_argument("--noise", default="rain/4-163264-A.opus", help="a noise in DATA/noise/audio")
    parser.add_argument("--snr-db", type=float, default=15.0, help="of the reverberant speech over the noise")
    parser.add_argument("--around-s", type=float, default=1.0, help="seconds of the room on either side of a recording")
    parser.add_argument("--talk-minutes", type=float, default=5.0, help="of talk without labels")
    parser.add_argument("--other-minutes", type=float, default=90.0, help="of speech without the word")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    return parser.parse_args()


def in_room(
    waveform: np.ndarray, rir: np.ndarray, noise: np.ndarray, snr_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Returns (num_samples,) `waveform` as it is heard in the room, over `noise` from a drawn place on."""
    return mix_at_snr(convolve(waveform, rir), np.roll(noise, rng.integers(len(noise))), snr_db).waveform


def is_other(clip: Clip) -> bool:
    """Returns whether none of the words is said in `clip`."""
    return not set(normalize(clip.text or "").split()) & set(WORDS)


def split_speakers(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Returns the clips of every other speaker, and those of the rest."""
    first = set(sorted({clip.speaker or "" for clip in clips})[::2])
    return [clip for clip in clips if clip.speaker in first], [clip for clip in clips if clip.speaker not in first]


def up_to(clips: Sequence[Clip], minutes: float, rng: np.random.Generator) -> list[Clip]:
    """Returns drawn clips that last `minutes` together, or all."""
    drawn = [clips[index] for index in rng.permutation(len(clips))]
    ends_s = np.cumsum([clip.duration_s or 0.0 for clip in drawn])
    return drawn[: int(np.searchsorted(ends_s, 60 * minutes)) + 1]


if __name__ == "__main__":
    main()
