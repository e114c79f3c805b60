"""Aligns prepared speech anew, with a trained encoder in the place of PocketSphinx: self-training.

CACHE/<corpus>-<split> ─▶ frame-wise phones ─▶ best pronunciation of each word ─▶ forced alignment
    ─▶ without the utterances that the encoder contradicts most ─▶ CACHE/<corpus>-<split>-realigned

    python recipes/pretrain/realign.py --cache runs/pretrain/cache --encoder streaming-small librispeech-mini-train
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from prepare import pronounce, write_cache
from rich.progress import track
from torchaudio.functional import forced_align

from kws.data.alignment import BLANK, PHONES, STEP, PhoneAligner, class_of, words_of
from kws.frames import FrameGeometry
from kws.model.encoder_folder import find_encoder_folder
from kws.train.phone_model import PhoneModel
from kws.train.speech_cache import INT16_SCALE, SpeechCache

BLOCK_FRAMES, LEFT_CONTEXT_FRAMES = 16, 96
"""The most context that the encoder is trained with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument(
        "--encoder", required=True, help="a folder of pretrained/, or a path, with frame_layer.safetensors"
    )
    parser.add_argument(
        "--drop", type=float, default=0.05, help="share of the utterances, the most contradicted, left out"
    )
    parser.add_argument("splits", nargs="+", help="CORPUS-SPLIT in the cache, not measured on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = PhoneModel.from_folder(find_encoder_folder(arguments.encoder) or arguments.encoder).eval()
    for name in arguments.splits:
        realign(model, SpeechCache(arguments.cache / name), arguments.cache / f"{name}-realigned", arguments.drop)


def realign(model: PhoneModel, source: SpeechCache, target: Path, drop: float) -> None:
    """Writes `source` with the labels that `model` gives it to `target`, and prints what has changed."""
    aligner, found = PhoneAligner(pronounce), []
    num_same = num_steps = num_respoken = 0
    for index, row in enumerate(track(source.rows, source.name)):
        samples, old = source.piece(index)
        log_probs = frame_log_probs(model, samples)
        known = [class_of(phone) for phone in row["phones"].split()]
        phones, path = best_pronunciation(log_probs, known, aligner, row.get("text") or row.get("label", ""))
        if path is None:
            continue
        labels = labels_of(path, len(old), model.geometry)
        contradiction = float(np.mean(log_probs.max(axis=1) - log_probs[np.arange(len(path)), path]))
        text = " ".join(PHONES[phone - 1] for phone in phones)
        pcm16 = np.round(samples * INT16_SCALE).astype(np.int16)
        found.append((contradiction, (row, pcm16, labels, text)))
        num_same, num_steps = num_same + int((labels == old).sum()), num_steps + len(old)
        num_respoken += phones != known
    limit = np.quantile([contradiction for contradiction, _ in found], 1 - drop)
    kept = [utterance for contradiction, utterance in found if contradiction <= limit]
    write_cache(target, kept)
    print(
        f"{target.name}: {len(kept)} of {len(source.rows)} utterances kept, {num_respoken} with other phones, "
        f"{num_same / num_steps:.1%} of the 10 ms steps as before",
        flush=True,
    )


@torch.inference_mode()
def frame_log_probs(model: PhoneModel, samples: np.ndarray) -> np.ndarray:
    """Returns (num_frames, num_classes) log probabilities of the frame-wise output layer."""
    logits = model(torch.from_numpy(samples)[None], BLOCK_FRAMES, LEFT_CONTEXT_FRAMES).frame[0]
    return torch.log_softmax(logits.float(), dim=-1).numpy()


def best_pronunciation(
    log_probs: np.ndarray, known: list[int], aligner: PhoneAligner, text: str
) -> tuple[list[int], np.ndarray | None]:
    """Returns the phones of `text` that fit best, each word's pronunciation chosen in turn, and their path.

    Args:
        log_probs: (num_frames, num_classes).
        known: phones aligned before, which are kept where nothing fits better.
        aligner: knows the pronunciations.
        text: the transcript.
    """
    variants = [
        [[class_of(phone) for phone in phones] for phones in aligner.pronunciations(word)] for word in words_of(text)
    ]
    best_path, best_score = align(log_probs, known)
    best_phones = known
    if not all(variants):
        return best_phones, best_path
    chosen = [0] * len(variants)
    for index, number in [(0, 0), *((i, n) for i, word in enumerate(variants) for n in range(1, len(word)))]:
        tried = [*chosen[:index], number, *chosen[index + 1 :]]
        phones = list(itertools.chain.from_iterable(word[n] for word, n in zip(variants, tried)))
        path, score = align(log_probs, phones)
        if (index, number) == (0, 0):
            spelt_score = score
        if score > best_score:
            best_phones, best_path, best_score = phones, path, score
        if score > spelt_score:
            chosen, spelt_score = tried, score
    return best_phones, best_path


def align(log_probs: np.ndarray, phones: Sequence[int]) -> tuple[np.ndarray | None, float]:
    """Returns the best path of `phones`, silence anywhere between them, (num_frames,), and its log probability."""
    repeats = sum(first == second for first, second in itertools.pairwise(phones))
    if not phones or len(phones) + repeats > len(log_probs):
        return None, -np.inf
    path, scores = forced_align(torch.from_numpy(log_probs)[None], torch.tensor([phones]), blank=BLANK)
    return path[0].numpy(), float(scores.sum())


def labels_of(path: np.ndarray, num_steps: int, geometry: FrameGeometry) -> np.ndarray:
    """Returns (num_steps,) uint8 classes, every 10 ms that of the frame whose centre is nearest."""
    centres = (np.arange(num_steps) + 0.5) * STEP
    frames = np.round((centres - geometry.receptive_field / 2) / geometry.hop).astype(int)
    return path[np.clip(frames, 0, len(path) - 1)].astype(np.uint8)


if __name__ == "__main__":
    main()
