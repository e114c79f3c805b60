"""Adaptation to a room: the head's first layer undoes a shift of the frames, and is left alone when it is off."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from kws.audio.io import read_audio, write_audio
from kws.detect.head_stream import Heads, HeadStream
from kws.errors import AudioError, ConfigError
from kws.frames import SAMPLE_RATE
from kws.model.pretrained import load_encoder
from kws.train.adaptation import AdaptationConfig, Statistics, adapt, bank_statistics, room_statistics

HOP_S = 0.02


@pytest.fixture
def frames():
    return np.random.default_rng(0).normal(1, 2, (3000, 16)).astype(np.float32)


def scores(wakeword, frames):
    return HeadStream(Heads([wakeword])).feed(frames)


def test_at_full_strength_without_a_prior_a_shifted_room_sounds_as_before(tiny_wakeword, frames):
    rng = np.random.default_rng(1)
    gain, shift = rng.uniform(0.5, 2, 16), rng.normal(0, 3, 16)
    heard = (frames * gain + shift).astype(np.float32)
    source, room = Statistics.of(frames, HOP_S), Statistics.of(heard, HOP_S)
    adapted = adapt(tiny_wakeword, source, room, AdaptationConfig(strength=1, prior_s=0))
    expected = scores(tiny_wakeword, frames)
    np.testing.assert_allclose(scores(adapted, heard), expected, atol=1e-3)
    assert np.abs(scores(tiny_wakeword, heard) - expected).max() > 0.05
    assert adapted.details["adapted"]["room_s"] == 60


def test_off_changes_nothing_and_a_prior_holds_back(tiny_wakeword, frames):
    source, room = Statistics.of(frames, HOP_S), Statistics.of(3 * frames - 2, HOP_S)
    off = adapt(tiny_wakeword, source, room, AdaptationConfig())
    np.testing.assert_allclose(scores(off, frames), scores(tiny_wakeword, frames), atol=1e-5)
    shares = [
        adapt(tiny_wakeword, source, room, AdaptationConfig(1.0, prior_s)).details["adapted"]["share"]
        for prior_s in (0, 60, 540)
    ]
    assert shares == [1.0, 0.5, 0.1]  # of 60 s
    assert set(off.weights) == set(tiny_wakeword.weights)


def test_only_speech_counts_and_too_little_is_refused(tiny_encoder_folder):
    encoder = load_encoder(tiny_encoder_folder)
    rng = np.random.default_rng(0)
    speech = (0.2 * rng.standard_normal(8 * SAMPLE_RATE)).astype(np.float32)
    speech[4 * SAMPLE_RATE :] *= 1e-4
    room = room_statistics(encoder, [speech, speech])
    assert room.duration_s == pytest.approx(8, abs=0.3)
    with pytest.raises(AudioError, match="record more"):
        room_statistics(encoder, [speech])


def test_an_encoder_without_a_bank_and_a_mix_of_layers_are_refused(tiny_encoder_folder, make_wakeword, frames):
    with pytest.raises(ConfigError, match="without a bank"):
        bank_statistics(load_encoder(tiny_encoder_folder))
    mixed = make_wakeword("tiny", num_states=3, layer="mix")
    source = Statistics.of(frames, HOP_S)
    with pytest.raises(ConfigError, match="'last'"):
        adapt(mixed, source, source, AdaptationConfig(1.0))


def test_the_shipped_encoder_has_statistics_of_its_speech():
    found = bank_statistics(load_encoder())
    assert found.duration_s == pytest.approx(48 * 160 * HOP_S)
    assert found.mean.shape == found.spread.shape == (256,)
    assert np.isfinite(found.spread).all()
    assert found.spread.min() > 0


@pytest.mark.parametrize("settings", [{"strength": 1.5}, {"prior_s": -1.0}])
def test_impossible_settings_are_named(settings):
    with pytest.raises(ConfigError, match=r"adaptation\."):
        AdaptationConfig(**settings)


def test_the_recipe_plays_other_speakers_in_the_room(tmp_path, monkeypatch):
    rng, data, out = np.random.default_rng(0), tmp_path / "data", tmp_path / "out"
    sounds = {"rir/audio/hall.flac": np.array([0, 0.8, 0, 0.4], np.float32)}
    sounds["noise/audio/rain.wav"] = (0.1 * rng.standard_normal(SAMPLE_RATE)).astype(np.float32)
    time_s = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    lines: dict[str, list[dict[str, object]]] = {}
    said = {"librispeech-mini/dev": "the one", "speechocean762/test": "the computer"}
    said |= {f"wake-words/{word}/test": "" for word in ("alexa", "computer", "jarvis")}
    for place, (manifest, text) in enumerate(said.items()):
        for speaker in range(4):
            name = f"{speaker}.wav"  # a tone that tells where and who
            tone = 0.2 * np.sin(2 * np.pi * (400 * place + 100 * speaker + 200) * time_s)
            sounds[f"{manifest.rpartition('/')[0]}/{name}"] = tone.astype(np.float32)
            line = {"audio_filepath": name, "duration": 1.0, "text": text, "speaker": f"{manifest}-{speaker}"}
            lines.setdefault(manifest, []).append(line)
    for name, sound in sounds.items():
        write_audio(data / name, sound)
    for manifest, rows in lines.items():
        (data / f"{manifest}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = Path(__file__).parents[2] / "recipes/transfer/room.py"
    arguments = ["--data", data, "--word", "alexa", "--rir", "hall.flac", "--noise", "rain.wav", "--out", out]
    monkeypatch.setattr("sys.argv", [str(recipe), *map(str, arguments)])
    runpy.run_path(str(recipe), run_name="__main__")

    def heard_hz(folder):
        spectra = [np.abs(np.fft.rfft(read_audio(path))) for path in sorted((out / folder).iterdir())]
        return {round(np.argmax(spectrum) / 3) for spectrum in spectra}  # of three seconds

    talk, phrase, other = (heard_hz(name) for name in ("talk", "phrase", "other"))
    assert (talk, phrase) == ({200, 400}, {1000, 1100, 1200, 1300})
    assert other == {300, 500, *range(1400, 1800, 100), *range(1800, 2200, 100)}  # speechocean762 says the word
    waveform = read_audio(out / "phrase/0000.flac").astype(np.float64)
    before, spoken = (np.mean(part**2) for part in np.split(waveform, 3)[:2])
    assert 10 * np.log10((spoken - before) / before) == pytest.approx(15, abs=0.5)
