"""Prepares the speech that `recipes/pretrain` trains on.

manifests ──▶ int16 waveforms + phone alignment ──▶ CACHE/<corpus>-<split>/{audio.npy,labels.npy,index.jsonl}

    python recipes/pretrain/prepare.py --data ../shared/data --cache runs/pretrain/cache --workers 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kws.data.alignment import PHONES, PhoneAligner, step_labels
from kws.frames import SAMPLE_RATE

SPEECH = (
    ("librispeech-mini", "dev"),
    ("librispeech-mini", "train"),
    ("speechocean762", "train"),
    ("kathleen", "train"),
    ("speech-commands-v2-test", "train"),
    ("speechocean762", "test"),
)
REDUCED = {"ax": "ah", "ix": "ih", "axr": "er", "dx": "t"}
"""flite's reduced vowels and flap as ARPAbet phones."""
UNSPOKEN = {"_silence_", "_unknown_"}

_aligner: PhoneAligner | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--cache", type=Path, required=True, help="folder to write")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="take every n-th utterance only")
    parser.add_argument("--only", nargs="*", default=[], help="splits to prepare, as CORPUS-SPLIT; all when not given")
    arguments = parser.parse_args()
    with multiprocessing.Pool(arguments.workers, initializer=_start) as pool:
        for corpus, split in SPEECH:
            name = f"{corpus}-{split}"
            if not arguments.only or name in arguments.only:
                prepare_split(pool, arguments.data / corpus, split, arguments.cache / name, arguments.every)


def prepare_split(pool: Any, folder: Path, split: str, target: Path, every: int = 1) -> None:
    """Writes one corpus split as arrays; utterances that don't align are left out and counted."""
    lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row.get("label") not in UNSPOKEN][::every]
    results = pool.map(partial(_align_row, folder), rows, chunksize=16)
    aligned = [(row, *result) for row, result in zip(rows, results) if result is not None]
    write_cache(target, aligned)
    hours = sum(len(pcm16) for _, pcm16, _, _ in aligned) / SAMPLE_RATE / 3600
    print(f"{target.name}: {len(aligned)} of {len(rows)} utterances aligned, {hours:.2f} h", flush=True)


def write_cache(target: Path, utterances: list[tuple[dict[str, Any], np.ndarray, np.ndarray, str]]) -> None:
    """Writes `(row, pcm16, step labels, phones)` as two arrays and an index of where each utterance begins."""
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / "audio.npy", np.concatenate([pcm16 for _, pcm16, _, _ in utterances]))
    np.save(target / "labels.npy", np.concatenate([labels for _, _, labels, _ in utterances]))
    start = label_start = 0
    with (target / "index.jsonl").open("w", encoding="utf-8") as index:
        for row, pcm16, labels, phones in utterances:
            entry = {"start": start, "length": len(pcm16), "label_start": label_start, "num_labels": len(labels)}
            kept = {key: row[key] for key in ("audio_filepath", "speaker", "text", "label", "age") if key in row}
            index.write(json.dumps({**entry, "phones": phones, **kept}) + "\n")
            start, label_start = start + len(pcm16), label_start + len(labels)


def _start() -> None:
    global _aligner
    _aligner = PhoneAligner(pronounce)


def pronounce(word: str) -> list[str]:
    """Returns the phones of a word that the dictionary lacks: flite's letter-to-sound rules, trained on CMUdict."""
    printed = subprocess.run(["flite", "-ps", "-t", word, "none"], capture_output=True, text=True, check=True).stdout
    return [REDUCED.get(phone, phone).upper() for phone in printed.split() if phone != "pau"]


def _align_row(folder: Path, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, str] | None:
    pcm16, sample_rate = soundfile.read(folder / row["audio_filepath"], dtype="int16")
    if sample_rate != SAMPLE_RATE or pcm16.ndim != 1:
        raise SystemExit(f"{row['audio_filepath']} is {sample_rate} Hz, {pcm16.ndim} dimensions; expected 16 kHz mono")
    assert _aligner is not None
    segments = _aligner.align(pcm16, row.get("text") or row["label"])
    if segments is None:
        return None
    phones = " ".join(PHONES[segment.label - 1] for segment in segments if segment.label)
    return pcm16, step_labels(segments, len(pcm16)), phones


if __name__ == "__main__":
    main()
