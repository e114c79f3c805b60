"""What the engines hear: a minute of speech in a room, and short noisy clips that hold no keyword."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kws.audio.samples import pcm16_from_waveform
from kws.data.mix import coloured_noise, mix_at_snr
from kws.data.synth import draw_voice, speak
from kws.data.text import random_sentence
from kws.frames import SAMPLE_RATE
from kws.model.artefact import load_wakeword

MINUTE_S = 60.0
CLIP_S = 1.5
SNR_DB = 15.0


def write_minute(path: Path) -> Path:
    """Writes a minute of talk with pauses, in noise, as raw 16-bit samples."""
    rng = np.random.default_rng(0)
    talk = _talk(rng, MINUTE_S)
    noise = coloured_noise(len(talk), 1.0, rng)
    pcm16_from_waveform(mix_at_snr(talk, noise, SNR_DB).waveform).tofile(path)
    return path


def write_noisy_clips(path: Path, count: int) -> Path:
    """Writes (count, num_samples) int16: noises of any colour and level, half of them with talk in them."""
    rng, clips = np.random.default_rng(1), []
    size = round(CLIP_S * SAMPLE_RATE)
    talk = _talk(rng, MINUTE_S)
    for index in range(count):
        clip = coloured_noise(size, rng.uniform(0, 2), rng)
        if index % 2:
            start = int(rng.integers(len(talk) - size))
            speech = talk[start : start + size]
            clip = clip * np.float32(np.sqrt(np.mean(talk**2)) * 10 ** (-rng.uniform(0, 10) / 20)) + speech
        clip *= np.float32(10 ** (rng.uniform(-40, -10) / 20) / np.sqrt(np.mean(clip**2)))
        clips.append(pcm16_from_waveform(clip))
    np.save(path, np.stack(clips))
    return path


def write_keywords(model: str, folder: Path, count: int) -> list[str]:
    """Writes `count` wake words, the first one `model`, the others of its size, and returns their paths."""
    first, rng, paths = load_wakeword(model), np.random.default_rng(2), []
    for index in range(count):
        keywords = tuple(replace(keyword, name=f"{keyword.name} {index}") for keyword in first.keywords)
        spread = 0.01 * bool(index)
        weights = {
            name: (array + rng.normal(0, spread, array.shape)).astype(np.float32)
            for name, array in first.weights.items()
        }
        paths.append(str(replace(first, keywords=keywords, weights=weights).save(folder / f"keyword-{index}.kws")))
    return paths


def _talk(rng: np.random.Generator, duration_s: float) -> np.ndarray:
    pieces, num_samples = [], 0
    while num_samples < duration_s * SAMPLE_RATE:
        spoken = speak(random_sentence(rng, 3, 10), draw_voice(rng, "validation")).waveform
        pause = np.zeros(round(rng.uniform(0.2, 2.0) * SAMPLE_RATE), np.float32)
        pieces += [spoken * np.float32(0.05 / np.sqrt(np.mean(spoken**2))), pause]
        num_samples += len(spoken) + len(pause)
    return np.clip(np.concatenate(pieces)[: round(duration_s * SAMPLE_RATE)], -1, 1)
