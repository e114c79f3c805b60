"""Makes the bank of real speech that comes with an encoder: aligned speech ─▶ rooms, noise ─▶ convolutions ─▶ codes.

Launch (from the repository, CACHE as recipes/pretrain/prepare.py writes it):
    python recipes/bank/make.py --cache CACHE --encoder streaming-small
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.data.alignment import frame_labels
from kws.data.augment import AugmentConfig, Augmenter
from kws.data.mix import MixConfig, NoiseSource
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE
from kws.model.bank import BANK_FILE, SpeechBank, compress
from kws.model.encoder_folder import find_encoder_folder
from kws.model.pretrained import load_encoder
from kws.model.streaming import StreamingEncoder
from kws.train.bank_frames import local_features
from kws.train.features import one_thread_per_operation
from kws.train.speech_cache import SpeechCache


@dataclass(frozen=True)
class Source:
    """One prepared corpus.

    Attributes:
        name: its folder in the cache.
        seconds: taken of each speaker, to the end of the utterance in which they are reached.
        licence: as the bank, and every wake word made with it, names it.
    """

    name: str
    seconds: float
    licence: str


SOURCES = (
    Source("librispeech-mini-train", 88, "LibriSpeech train-clean-5 (CC BY 4.0)"),
    Source("speechocean762-train", 8, "speechocean762 (CC BY 4.0)"),
    Source("kathleen-train", 88, "rhasspy dataset-voice-kathleen (CC0)"),
)
NUM_COMPONENTS = 32
SESSION_S = 20
"""Seconds after which a speaker is moved to another room with another noise."""
MIX = MixConfig(snr_db=(0.0, 30.0), clean_share=0.3)
NUM_BABBLE = 60
BABBLE_S = 8


def main() -> None:
    """Writes the bank into the encoder's folder, or where `--out` says, and prints what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared speech; see README.md")
    parser.add_argument("--encoder", default="streaming-small", help="name or folder of a streaming encoder")
    parser.add_argument("--out", type=Path, help=f"file to write; by default {BANK_FILE} in the encoder's folder")
    parser.add_argument("--components", type=int, default=NUM_COMPONENTS, help="numbers kept of each feature")
    parser.add_argument("--share", type=float, default=1.0, help="of the seconds taken of each speaker")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = find_encoder_folder(arguments.encoder)
    encoder = load_encoder(arguments.encoder)
    if folder is None or not isinstance(encoder, StreamingEncoder):
        raise ConfigError(f"{arguments.encoder} is no streaming encoder in a folder; a bank is made for such alone")
    with one_thread_per_operation():
        bank = make_bank(encoder, arguments.cache, arguments.components, arguments.share, arguments.seed)
    path = arguments.out or folder / BANK_FILE
    bank.save(path)
    minutes = bank.num_frames * encoder.geometry.hop_s / 60
    print(f"{path}: {minutes:.1f} min, {bank.num_speakers} speakers, {path.stat().st_size / 1e6:.2f} MB")


def make_bank(encoder: StreamingEncoder, cache: Path, num_components: int, share: float, seed: int) -> SpeechBank:
    """Returns the bank of `encoder` from the prepared speech in `cache`; the seed decides every draw."""
    sources = [(source, SpeechCache(cache / source.name)) for source in SOURCES]
    rng = np.random.default_rng(seed)
    noise = NoiseSource(MIX, [draw_babble(sources[int(rng.integers(len(sources)))][1], rng) for _ in range(NUM_BABBLE)])
    augmenter = Augmenter(AugmentConfig())
    features, labels, speakers, sessions = [], [], [], []
    for speaker, session, waveform, steps in utterances(sources, share, rng):
        if not speakers or speaker != speakers[-1]:
            print(f"\rspeaker {speaker + 1}   ", end="", flush=True)
        heard = augmenter.apply(waveform, noise, np.random.default_rng([seed, session]))
        features.append(local_features(encoder, heard).astype(np.float16))
        labels.append(frame_labels(steps, len(features[-1]), encoder.geometry))
        speakers.append(speaker)
        sessions.append(session)
    print()
    details = {"seed": seed, "licences": [source.licence for source, _ in sources]}
    return compress(features, labels, speakers, sessions, num_components, encoder.sha256, details)


def utterances(
    sources: list[tuple[Source, SpeechCache]], share: float, rng: np.random.Generator
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yields speaker, session, waveform and its phone classes every 10 ms; a speaker's utterances in drawn order."""
    speaker = session = -1
    for source, cache in sources:
        of_speaker: dict[str, list[int]] = {}
        for index, row in enumerate(cache.rows):
            of_speaker.setdefault(row["speaker"], []).append(index)
        for indices in of_speaker.values():
            speaker, session = speaker + 1, session + 1
            taken_s = session_s = 0.0
            for index in rng.permutation(indices):
                if taken_s >= source.seconds * share:
                    break
                if session_s >= SESSION_S:
                    session, session_s = session + 1, 0.0
                waveform, steps = cache.piece(int(index))
                taken_s += len(waveform) / SAMPLE_RATE
                session_s += len(waveform) / SAMPLE_RATE
                yield speaker, session, waveform, steps


def draw_babble(cache: SpeechCache, rng: np.random.Generator) -> np.ndarray:
    """Returns some seconds of one utterance."""
    return cache.piece(cache.draw(rng))[0][: BABBLE_S * SAMPLE_RATE]


if __name__ == "__main__":
    main()
