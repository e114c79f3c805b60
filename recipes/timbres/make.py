"""Makes the timbres of real people that synthetic speech is given: aligned speech ─▶ mean envelopes of each phone.

Launch (from the repository, CACHE as recipes/pretrain/prepare.py writes it):
    python recipes/timbres/make.py --cache CACHE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from kws.data.synth import EspeakSynthesizer, draw_voice, speak
from kws.data.synth.timbre import TIMBRES_FILE, EnvelopeSums, Timbres, make_timbres, phone_labels
from kws.data.text import random_sentence
from kws.model.files import write_atomically
from kws.train.speaker_timbres import sums_of_speakers
from kws.train.speech_cache import SpeechCache

SOURCES = {
    "librispeech-mini-train": "LibriSpeech train-clean-5 (CC BY 4.0)",
    "speechocean762-train": "speechocean762 (CC BY 4.0)",
    "kathleen-train": "rhasspy dataset-voice-kathleen (CC0)",
}
"""Prepared corpora, and how every wake word made with them names their licences."""
NUM_SENTENCES = 600
"""Spoken by the synthesiser, each in another voice."""
STEPS_A_SECOND = 100


def main() -> None:
    """Writes the timbres, and prints what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared speech; see README.md")
    parser.add_argument("--out", type=Path, default=Path("pretrained/timbres") / TIMBRES_FILE, help="file to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    timbres = make(arguments.cache, arguments.seed)
    write_atomically(arguments.out, timbres.to_bytes())
    print(f"{arguments.out}: {len(timbres.speakers)} timbres, {arguments.out.stat().st_size / 1e6:.2f} MB")


def make(cache: Path, seed: int) -> Timbres:
    """Returns the timbres of the speakers in `cache`; the seed decides what the synthesiser says."""
    caches = [SpeechCache(cache / name) for name in SOURCES]
    speakers = [sums for corpus in track(caches, "speakers") for sums in sums_of_speakers(corpus).values()]
    details = {"seed": seed, "licences": list(SOURCES.values())}
    return make_timbres(speakers, sums_of_synthesis(seed), EspeakSynthesizer.name, details)


def sums_of_synthesis(seed: int) -> EnvelopeSums:
    """Returns the sums of random sentences in the synthesiser's many voices."""
    rng, synthesizer, sums = np.random.default_rng(seed), EspeakSynthesizer(), EnvelopeSums()
    for _ in track(range(NUM_SENTENCES), synthesizer.name):
        voice = draw_voice(rng, "train", [synthesizer])
        speech = speak(random_sentence(rng, 3, 9), voice, [synthesizer])
        num_steps = round(speech.duration_s * STEPS_A_SECOND)
        sums.add(speech.waveform, phone_labels(speech.phones, num_steps))
    return sums


if __name__ == "__main__":
    main()
