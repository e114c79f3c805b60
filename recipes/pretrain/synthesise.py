"""Adds synthetic speech, whose phone times the synthesiser tells, to the prepared speech.

random words, training sentences ──▶ eSpeak NG, flite ──▶ CACHE/synthetic/{audio.npy,labels.npy,index.jsonl}

    python recipes/pretrain/synthesise.py --data ../shared/data --cache runs/pretrain/cache --count 4000 --workers 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from prepare import REDUCED, write_cache

from kws.data.alignment import PHONES, STEP, class_of, words_of
from kws.data.synth import Segment, Voice, draw_voice, speak
from kws.data.synth.arpabet import from_espeak
from kws.errors import SynthesisError
from kws.frames import SAMPLE_RATE

TRANSCRIPTS = ("librispeech-mini/train.jsonl", "speechocean762/train.jsonl", "kathleen/train.jsonl")
MARGIN_S = 0.15
"""Silence before and after each utterance: synthesis is trimmed to the word, speech in the world is not."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora, for sentences")
    parser.add_argument("--cache", type=Path, required=True, help="folder to write")
    parser.add_argument("--count", type=int, default=4000, help="utterances")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    words, sentences = dictionary_words(), training_sentences(arguments.data)
    requests = [(draw_text(rng, words, sentences), draw_voice(rng)) for _ in range(arguments.count)]
    with multiprocessing.Pool(arguments.workers) as pool:
        results = pool.map(_speak, requests, chunksize=32)
    rows = [{"text": text, "speaker": f"{voice.synthesizer}-{voice.name}"} for text, voice in requests]
    spoken = [(row, *result) for row, result in zip(rows, results) if result is not None]
    write_cache(arguments.cache / "synthetic", spoken)
    hours = sum(len(pcm16) for _, pcm16, _, _ in spoken) / SAMPLE_RATE / 3600
    print(f"synthetic: {len(spoken)} of {len(requests)} utterances, {hours:.2f} h")


def dictionary_words() -> list[str]:
    """Returns the words of PocketSphinx's English dictionary."""
    import pocketsphinx

    path = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    entries = [line.split(maxsplit=1)[0] for line in path.read_text(encoding="utf-8").splitlines()]
    return [word for word in entries if word.isalpha() and len(word) > 1]


def training_sentences(data: Path) -> list[str]:
    """Returns the transcripts of the training splits, never of a held-out one."""
    lines = [line for name in TRANSCRIPTS for line in (data / name).read_text(encoding="utf-8").splitlines()]
    return [json.loads(line)["text"].lower() for line in lines]


def draw_text(rng: np.random.Generator, words: Sequence[str], sentences: Sequence[str]) -> str:
    """Returns some words of a sentence, or random words."""
    count = int(rng.integers(1, 9))
    if rng.random() < 0.4:
        sentence = words_of(sentences[rng.integers(len(sentences))])
        start = int(rng.integers(max(1, len(sentence) - count)))
        return " ".join(sentence[start : start + count + 4]) or "yes"
    return " ".join(words[rng.integers(len(words))] + ("," if rng.random() < 0.2 else "") for _ in range(count))


def step_classes(segments: Sequence[Segment], synthesizer: str, num_samples: int) -> tuple[np.ndarray, list[str]]:
    """Returns a class every 10 ms and the phones, of what a synthesiser says it spoke."""
    labels = np.zeros(-(-num_samples // STEP), dtype=np.uint8)
    heard: list[str] = []
    for segment in segments:
        flite = [REDUCED.get(segment.label, segment.label).upper()]
        phones = from_espeak(segment.label) if synthesizer == "espeak" else flite
        classes = [class_of(phone) for phone in phones if class_of(phone)]
        bounds = np.linspace(segment.start_s + MARGIN_S, segment.end_s + MARGIN_S, len(classes) + 1)
        steps = np.round(bounds * SAMPLE_RATE / STEP).astype(int)
        for label, start, end in zip(classes, steps, steps[1:]):
            labels[start:end] = label
            heard.append(PHONES[label - 1])
    return labels, heard


def _speak(request: tuple[str, Voice]) -> tuple[np.ndarray, np.ndarray, str] | None:
    text, voice = request
    margin = np.zeros(round(MARGIN_S * SAMPLE_RATE), dtype=np.float32)
    try:
        speech = speak(text, voice)
        waveform = np.concatenate([margin, speech.waveform, margin])
        labels, phones = step_classes(speech.phones, voice.synthesizer, len(waveform))
    except SynthesisError:  # or a phone that English lacks
        return None
    return (np.round(waveform * 32767).astype(np.int16), labels, " ".join(phones)) if phones else None


if __name__ == "__main__":
    main()
