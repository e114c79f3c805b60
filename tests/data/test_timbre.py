"""Timbres: nothing moved is nothing changed, gains land on their phones, means come out, damaged files are refused."""

from dataclasses import replace

import numpy as np
import pytest

from kws.data.alignment import STEP, class_of
from kws.data.pool import PoolConfig, mouth, speak_pool
from kws.data.synth import EspeakSynthesizer, Segment, Speech, VoiceConfig, draw_voice
from kws.data.synth.timbre import (
    FEWEST_STEPS,
    HELD_OUT_EVERY,
    NUM_BANDS,
    NUM_STATES,
    STATES_OF_A_PHONE,
    WINDOW,
    EnvelopeSums,
    Timbres,
    make_timbres,
    move,
    move_envelopes,
    phone_labels,
    read_timbres,
)
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE


@pytest.fixture
def noise():
    """Half a second of white noise that stands for "s", then half a second for "m"."""
    waveform = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * np.float32(0.1)
    return Speech(waveform, phones=(Segment("s", 0.0, 0.5), Segment("m", 0.5, 1.0)))


def states_of(phone):
    first = class_of(phone) * STATES_OF_A_PHONE
    return slice(first, first + STATES_OF_A_PHONE)


def high_to_low_db(waveform):
    power = np.abs(np.fft.rfft(waveform)) ** 2
    half = len(power) // 2
    return 10 * np.log10(power[half:].mean() / power[:half].mean())


def test_no_gain_changes_nothing(noise):
    np.testing.assert_allclose(move(noise, np.zeros((NUM_STATES, NUM_BANDS))).waveform, noise.waveform, atol=1e-6)


def test_gains_move_the_envelope_of_their_phone_alone(noise):
    gains = np.zeros((NUM_STATES, NUM_BANDS))
    gains[states_of("M"), NUM_BANDS * 3 // 4 :] = 1.0
    moved = move(noise, gains).waveform
    assert len(moved) == len(noise.waveform)
    assert np.mean(moved**2) == pytest.approx(np.mean(noise.waveform**2), rel=1e-3), "as loud as before"
    quarter = SAMPLE_RATE // 4
    assert high_to_low_db(moved[-quarter:]) - high_to_low_db(noise.waveform[-quarter:]) > 6
    assert abs(high_to_low_db(moved[:quarter]) - high_to_low_db(noise.waveform[:quarter])) < 0.5


def test_phones_of_the_synthesiser_become_classes_a_hundredth_of_a_second_each():
    labels = phone_labels([Segment("aI", 0.1, 0.2), Segment("?!", 0.2, 0.3), Segment("m", 0.3, 0.35)], 40)
    assert list(np.flatnonzero(labels == class_of("AY"))) == list(range(10, 20))
    assert not labels[20:30].any(), "what English lacks stays as it is"
    assert list(np.flatnonzero(labels == class_of("M"))) == list(range(30, 35))


def speech_of(rng, tilt, seconds):
    """Returns noise whose amplitude rises by `tilt` nepers from 0 to 8 kHz, and labels that call it all "s"."""
    num_samples = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    waveform = np.fft.irfft(spectrum * np.exp(np.linspace(0, tilt, len(spectrum))), num_samples)
    return (0.1 * waveform / waveform.std()).astype(np.float32), np.full(num_samples // STEP, class_of("S"))


def test_a_timbre_turns_one_voice_into_another():
    rng = np.random.default_rng(1)
    person, synthetic = EnvelopeSums(), EnvelopeSums()
    person.add(*speech_of(rng, 2.0, 20))
    synthetic.add(*speech_of(rng, 0.0, 20))
    timbres = make_timbres([person], synthetic, "espeak", {})
    waveform, _ = speech_of(rng, 0.0, 1)
    moved = move(Speech(waveform, phones=(Segment("s", 0.0, 1.0),)), timbres.draw(rng)).waveform
    wanted, _ = speech_of(rng, 2.0, 1)
    assert high_to_low_db(moved) == pytest.approx(high_to_low_db(wanted), abs=1)


def test_a_scrap_of_sound_stays_as_it_is():
    scrap = np.ones(WINDOW - 1, np.float32)
    gains = np.ones((NUM_STATES, NUM_BANDS), np.float32)
    assert np.array_equal(move_envelopes(scrap, np.full(3, class_of("S")), gains), scrap)


def test_who_said_little_has_no_timbre():
    rng, little, enough = np.random.default_rng(2), EnvelopeSums(), EnvelopeSums()
    little.add(*speech_of(rng, 0.0, 1))
    enough.add(*speech_of(rng, 0.0, FEWEST_STEPS / 100 + 1))
    assert len(make_timbres([little, enough], enough, "espeak", {}).speakers) == 1
    with pytest.raises(ConfigError, match="no speaker with 15 s of speech"):
        make_timbres([little], enough, "espeak", {})


@pytest.fixture
def timbres():
    rng = np.random.default_rng(3)
    speakers = rng.normal(0, 0.5, (2 * HELD_OUT_EVERY, NUM_STATES, NUM_BANDS)).astype(np.float32)
    return Timbres(speakers, np.zeros((NUM_STATES, NUM_BANDS), np.float32), "espeak", {"licences": ["CC0"]})


def test_a_file_comes_back_and_damage_is_named(timbres, tmp_path):
    path = tmp_path / "timbres.safetensors"
    path.write_bytes(timbres.to_bytes())
    read = read_timbres(path)
    np.testing.assert_allclose(read.speakers, timbres.speakers, atol=2e-3)
    assert (read.synthesizer, read.details) == ("espeak", {"licences": ["CC0"]})
    path.write_bytes(timbres.to_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"holds no timbres .* recipes/timbres/make.py"):
        read_timbres(path)
    path.write_bytes(replace(timbres, speakers=timbres.speakers[:, :-1]).to_bytes())
    with pytest.raises(ConfigError, match=r"recipes/timbres/make\.py"):
        read_timbres(path)


def test_no_speaker_is_in_both_splits(timbres):
    parts = [timbres.part(split).speakers for split in ("train", "validation")]
    assert [len(part) for part in parts] == [2 * (HELD_OUT_EVERY - 1), 2]
    assert not any((one == other).all() for one in parts[0] for other in parts[1])


def test_voices_of_that_synthesiser_alone_get_timbres(timbres):
    voice = draw_voice(np.random.default_rng(0), "train", [EspeakSynthesizer()])
    always, never = PoolConfig(timbre_share=1.0, timbre_strength=(1, 1)), PoolConfig(timbre_share=0.0)
    plain, moved, other = (
        mouth(voice, config, np.random.default_rng(0), given)("hello", voice).waveform
        for config, given in ((never, timbres), (always, timbres), (always, replace(timbres, synthesizer="piper")))
    )
    np.testing.assert_array_equal(plain, other)
    assert len(moved) == len(plain) and np.abs(moved - plain).max() > 0.01


def test_a_pool_with_timbres_keeps_its_texts_and_ends(timbres):
    config = PoolConfig(phrases=1, confusables=1, sentences=1, timbre_share=1.0)
    speakers = speak_pool(
        "hello", 2, "train", config, VoiceConfig(), np.random.default_rng(4), [EspeakSynthesizer()], timbres=timbres
    )
    for speaker in speakers:
        (take,) = speaker.phrases
        assert 0.1 < take.end_s <= len(take.waveform) / SAMPLE_RATE
        assert np.isfinite(take.waveform).all() and len(speaker.sentences) == 1
