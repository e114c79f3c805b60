"""Speakers made of real people's aligned speech: prepared corpora ─▶ phone inventories ─▶ phrases put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from kws.data.alignment import STEP
from kws.data.pool import PoolConfig, Speaker, confusable_texts
from kws.data.splice import PhoneInventory, other_speech, phone_classes, spliced_speaker
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE
from kws.model.artefact import WakeWord
from kws.train.sounds import VALIDATION_SHARE, Sounds
from kws.train.speech_cache import SpeechCache

LABELS_FILE = "labels.npy"
NUM_PHRASES = 4
"""Takes of each spliced speaker: other phones each time."""
NUM_BACKGROUND = 300
"""Utterances of the same people that negatives are made of, for training; a fifth as many for validation."""
BACKGROUND_S = 10
MAX_TRIES = 20
"""Speakers drawn for one whose phones fit."""
SPEECH_STREAM = 210
"""Sets the draws apart from the others of a seed."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PreparedSpeech:
    """Utterance `index` of a prepared corpus, read when it is needed."""

    corpus: SpeechCache
    index: int

    @property
    def waveform(self) -> np.ndarray:
        return self.corpus.piece(self.index)[0]

    @property
    def labels(self) -> np.ndarray:
        row = self.corpus.rows[self.index]
        return self.corpus.labels[row["label_start"] : row["label_start"] + row["length"] // STEP]


def add_spliced(
    sounds: tuple[Sounds, Sounds],
    phrase: str,
    speech: Path | str,
    num_speakers: int,
    pool: PoolConfig,
    seed: int,
    progress: Progress,
) -> tuple[int, int]:
    """Adds speakers who "say" the phrase in other people's words, and what those people did say; returns how many.

    Args:
        sounds: of training and of validation, changed in place; no speaker is in both.
        phrase: the wake word.
        speech: a corpus as `recipes/pretrain/prepare.py` writes it, or a folder of such corpora.
        num_speakers: for training; validation gets as many for each of its voices.
        pool: how many voices there are otherwise, and how many near misses each says.
        seed: of every draw.
        progress: called with (stage, done, total).

    Raises:
        ConfigError: no prepared speech there, or nobody's phones fit the phrase.
        SynthesisError: no eSpeak library to pronounce the phrase.
    """
    rng = np.random.default_rng([seed, SPEECH_STREAM])
    inventories = read_inventories(speech)
    order = [inventories[index] for index in rng.permutation(len(inventories))]
    num_held_out = round(VALIDATION_SHARE * len(order))
    num_validation = -(-num_speakers * pool.num_validation_voices // pool.num_voices)
    added = []
    for part, chosen, count, num_clips in (
        (sounds[0], order[num_held_out:], num_speakers, NUM_BACKGROUND),
        (sounds[1], order[:num_held_out], num_validation, NUM_BACKGROUND // 5),
    ):
        speakers = spliced_speakers(phrase, chosen, count, pool, rng, partial(_report, progress, count))
        part.speakers += speakers
        part.background += _background(phrase, chosen, num_clips, rng)
        added.append(len(speakers))
    if not added[0]:
        raise ConfigError(
            f"nobody in {speech} said phones that fit {phrase!r}: give more speech of one person, or no bank.speech"
        )
    return added[0], added[1]


def _report(progress: Progress, total: int, done: int) -> None:
    progress("splicing real speech", done, total)


def _background(
    phrase: str, inventories: Sequence[PhoneInventory], num_clips: int, rng: np.random.Generator
) -> list[np.ndarray]:
    target = phone_classes(phrase)
    drawn = [inventories[int(rng.integers(len(inventories)))] for _ in range(num_clips if inventories else 0)]
    clips = [clip for inventory in drawn for clip in other_speech(inventory, target, 1, rng)]
    return [clip[: BACKGROUND_S * SAMPLE_RATE] for clip in clips]


def noted_in(wakeword: WakeWord, num_spliced: tuple[int, int]) -> WakeWord:
    """Returns `wakeword` with `num_spliced` speakers of training and validation told apart from synthetic voices."""
    if not any(num_spliced):
        return wakeword
    made_from = dict(wakeword.details["made_from"])
    made_from["synthetic_voices"] -= num_spliced[0]
    made_from["held_out_synthetic_voices"] -= num_spliced[1]
    made_from["speakers_of_spliced_speech"], made_from["held_out_speakers_of_spliced_speech"] = num_spliced
    licences = [*wakeword.details["data_licences"], "prepared speech: given by the user, under its own terms"]
    return replace(wakeword, details={**wakeword.details, "made_from": made_from, "data_licences": licences})


def read_inventories(folder: Path | str) -> list[PhoneInventory]:
    """Returns the phones of each speaker in the prepared corpora of `folder`.

    Raises:
        ConfigError: no prepared corpus there.
    """
    folder = Path(folder).expanduser()
    corpora = [path.parent for path in [*folder.glob(LABELS_FILE), *sorted(folder.glob(f"*/{LABELS_FILE}"))]]
    if not corpora:
        raise ConfigError(
            f"{folder} holds no prepared speech ({LABELS_FILE}); make it with recipes/pretrain/prepare.py"
        )
    inventories = []
    for corpus in map(SpeechCache, corpora):
        of_speaker: dict[str, list[PreparedSpeech]] = {}
        for index, row in enumerate(corpus.rows):
            of_speaker.setdefault(str(row.get("speaker", "")), []).append(PreparedSpeech(corpus, index))
        inventories += [PhoneInventory(utterances) for utterances in of_speaker.values()]
    return inventories


def spliced_speakers(
    phrase: str,
    inventories: Sequence[PhoneInventory],
    num_speakers: int,
    pool: PoolConfig,
    rng: np.random.Generator,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Speaker]:
    """Returns up to `num_speakers` speakers who "say" `phrase`; who said more of other things is drawn more often."""
    weights = np.sqrt([float(inventory.num_steps) for inventory in inventories])
    confusables = confusable_texts(phrase, rng)
    speakers: list[Speaker] = []
    num_tries = MAX_TRIES * num_speakers if inventories else 0
    for _ in range(num_tries):
        inventory = inventories[int(rng.choice(len(inventories), p=weights / weights.sum()))]
        speaker = spliced_speaker(phrase, confusables, inventory, NUM_PHRASES, pool, rng)
        speakers += [speaker] if speaker is not None else []
        progress(len(speakers))
        if len(speakers) == num_speakers:
            break
    return speakers
