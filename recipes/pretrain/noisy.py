"""Makes noisy copies of prepared held-out speech, to be named in `measure` beside it.

CACHE/<split> + noise that nothing is trained on ──▶ CACHE/<split>-10db

    python recipes/pretrain/noisy.py --cache runs/pretrain/cache --noise ../shared/data/noise/all.jsonl
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from rich.progress import track

from kws.train.speech_cache import INT16_SCALE, SpeechCache
from kws.train.spoil import load_sounds, mix

PEAK = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared speech")
    parser.add_argument("--noise", required=True, help="manifest of noises, with `fold`")
    parser.add_argument("--folds", type=int, nargs="+", default=[4], help="folds of it; pretraining hears 0 to 3")
    parser.add_argument("--snr", type=float, default=10.0, help="signal-to-noise ratio of each utterance, in dB")
    parser.add_argument("--splits", nargs="+", default=["librispeech-mini-dev", "speechocean762-test"])
    arguments = parser.parse_args()
    noises, _ = load_sounds(arguments.noise, arguments.folds, "")
    for name in arguments.splits:
        make_noisy(arguments.cache / name, arguments.cache / f"{name}-{arguments.snr:g}db", noises, arguments.snr)


def make_noisy(source: Path, target: Path, noises: list[np.ndarray], snr_db: float) -> None:
    """Writes to `target` the prepared speech in `source` with noise in every utterance, always the same."""
    cache, rng = SpeechCache(source), np.random.default_rng(0)
    target.mkdir(exist_ok=True)
    audio = np.array(cache.audio)
    for row in track(cache.rows, target.name):
        span = slice(row["start"], row["start"] + row["length"])
        speech = audio[span].astype(np.float32) / INT16_SCALE
        noise = noises[int(rng.integers(len(noises)))]
        noisy = mix(speech, np.resize(np.roll(noise, -int(rng.integers(len(noise)))), len(speech)), snr_db)
        noisy *= min(1.0, PEAK / float(np.abs(noisy).max()))
        audio[span] = np.round(noisy * INT16_SCALE)
    np.save(target / "audio.npy", audio)
    for file in ("labels.npy", "index.jsonl"):
        shutil.copy(source / file, target / file)


if __name__ == "__main__":
    main()
