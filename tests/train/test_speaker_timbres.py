"""One speaker's speech moves to where another's is, and nobody else's does."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from kws.data.alignment import STEP, class_of
from kws.frames import SAMPLE_RATE, WAV2VEC2_GEOMETRY
from kws.train.speaker_timbres import measure_timbres
from kws.train.speech_batches import BatchConfig, SpeechBatches
from kws.train.speech_cache import SpeechCache

TILTS = {"dull": -2.0, "bright": 2.0}
SECONDS = 20


def noise(rng, tilt, seconds):
    """Returns noise whose amplitude rises by `tilt` nepers from 0 to 8 kHz."""
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * SAMPLE_RATE)))
    waveform = np.fft.irfft(spectrum * np.exp(np.linspace(0, tilt, len(spectrum))))
    return (0.1 * waveform / waveform.std()).astype(np.float32)


def brightness_db(waveform):
    power = np.abs(np.fft.rfft(waveform)) ** 2
    high, low = power[-len(power) // 4 :].sum(), power[: len(power) // 4].sum()
    return float(10 * np.log10(high / low))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Returns prepared speech of two speakers whose "s" differ, and of one who says too little to be known."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    said = [*((name, noise(rng, tilt, SECONDS)) for name, tilt in TILTS.items()), ("hasty", noise(rng, 0.0, 2))]
    starts = np.cumsum([0, *(len(waveform) for _, waveform in said)])
    rows = [
        {"start": int(start), "length": len(waveform), "label_start": int(start) // STEP, "speaker": name}
        for (name, waveform), start in zip(said, starts)
    ]
    audio = np.concatenate([waveform for _, waveform in said])
    np.save(folder / "audio.npy", np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16))
    np.save(folder / "labels.npy", np.full(len(audio) // STEP, class_of("S"), np.uint8))
    (folder / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return SpeechCache(folder)


def test_speech_moves_between_speakers_that_are_known(cache):
    timbres, rng = measure_timbres([cache]), np.random.default_rng(1)
    dull, labels = cache.piece(0, 0, 100)
    bright = brightness_db(cache.piece(1, 0, 100)[0])
    moved = [brightness_db(timbres.give(dull, labels, cache.name, "dull", rng)) for _ in range(40)]
    assert min(moved) == pytest.approx(brightness_db(dull), abs=2), "both the drawn speakers were the same"
    assert bright - 3 < max(moved) < bright + 10, "a little beyond the other at most"
    power = np.mean(timbres.give(dull, labels, cache.name, "dull", rng) ** 2)
    assert power == pytest.approx(np.mean(dull**2), rel=0.05)
    assert timbres.give(dull, labels, cache.name, None, rng) is dull
    hasty, labels = cache.piece(2)
    assert timbres.give(hasty, labels, cache.name, "hasty", rng) is hasty
    assert timbres.give(dull, labels, "another corpus", "dull", rng) is dull


def test_batches_with_other_timbres_keep_their_labels(cache):
    settings = BatchConfig(batch_size=6, crop_frames=60, speed_probability=0.0, timbre_probability=0.5)
    timbres = measure_timbres([cache])
    plain, moved = (SpeechBatches([(cache, 1.0)], WAV2VEC2_GEOMETRY, settings, None, some) for some in (None, timbres))
    assert np.array_equal(moved.batch(3).waveforms, moved.batch(3).waveforms)
    assert np.array_equal(plain.batch(0).labels[0], moved.batch(0).labels[0])
    brightness = [brightness_db(waveform) for step in range(6) for waveform in moved.batch(step).waveforms.numpy()]
    plainly = [brightness_db(waveform) for step in range(6) for waveform in plain.batch(step).waveforms.numpy()]
    assert len(np.unique(np.round(plainly))) < len(np.unique(np.round(brightness)))
