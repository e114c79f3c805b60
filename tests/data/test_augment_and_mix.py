"""Augmentation and mixing: the measured value is the requested one, and onsets stay where they were."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from kws.audio.io import write_audio
from kws.data.augment import (
    Augmentation,
    AugmentConfig,
    Augmenter,
    draw_augmentation,
    soft_clip,
)
from kws.data.mix import MixConfig, NoiseSource, active_speech, coloured_noise, mix_at_snr, mix_first_heard
from kws.data.room import Room, direct_first, simulate_rir
from kws.errors import AudioError, ConfigError
from kws.frames import SAMPLE_RATE


def power_db(signal):
    return 10 * np.log10(np.mean(signal.astype(np.float64) ** 2) + 1e-20)


def band_power_db(signal, low_hz, high_hz):
    power = np.abs(np.fft.rfft(signal)) ** 2
    frequencies = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE)
    return 10 * np.log10(power[(frequencies >= low_hz) & (frequencies < high_hz)].mean())


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0, 25.0])
def test_measured_snr_is_the_requested_one(speech_like, rng, snr_db):
    noise = coloured_noise(7000, 1.0, rng)
    mixture = mix_at_snr(speech_like, noise, snr_db)
    active = slice(SAMPLE_RATE, 2 * SAMPLE_RATE)  # known from how the sound was made
    assert power_db(mixture.speech[active]) - power_db(mixture.noise[active]) == pytest.approx(snr_db, abs=0.1)
    np.testing.assert_allclose(mixture.waveform, mixture.speech + mixture.noise, atol=1e-6)
    assert np.abs(mixture.waveform).max() <= 1.0


def test_clipping_is_avoided_without_changing_the_snr(speech_like, rng):
    mixture = mix_at_snr(3 * speech_like, rng.standard_normal(len(speech_like)).astype(np.float32), -10)
    active = active_speech(speech_like)
    assert np.abs(mixture.waveform).max() <= 1.0
    assert power_db(mixture.speech[active]) - power_db(mixture.noise[active]) == pytest.approx(-10, abs=0.1)


@pytest.fixture
def sneeze(speech_like, rng):
    """A burst before the speech, in a recording that is all but silent."""
    noise = 1e-4 * rng.standard_normal(len(speech_like))
    noise[: SAMPLE_RATE // 2] += 0.3 * rng.standard_normal(SAMPLE_RATE // 2)
    return noise.astype(np.float32)


def test_noise_before_the_speech_is_not_raised_until_it_drowns_it(speech_like, sneeze, rng):
    with pytest.raises(AudioError, match="noise is silent where there is speech"):
        mix_at_snr(speech_like, sneeze, 10)
    hiss = 0.01 * rng.standard_normal(len(speech_like)).astype(np.float32)
    mixture = mix_first_heard(speech_like, [sneeze, hiss, sneeze], 10)
    np.testing.assert_array_equal(mixture.waveform, mix_at_snr(speech_like, hiss, 10).waveform)
    assert mix_first_heard(speech_like, [sneeze, sneeze], 10) is None


def test_training_speech_is_left_when_no_noise_is_heard_under_it(speech_like, sneeze):
    only = MixConfig(clean_share=0.0, coloured_weight=0, made_weight=0, recorded_weight=1, snr_db=(10, 10))
    plain = AugmentConfig(room_share=0, tilt_share=0, band_share=0, clip_share=0, gain_db=(0, 0))
    heard = Augmenter(plain).apply(speech_like, NoiseSource(only, recordings=[sneeze]), np.random.default_rng(0))
    np.testing.assert_allclose(heard, speech_like, atol=1e-6)


def test_active_speech_finds_the_tone(speech_like):
    active = active_speech(speech_like)
    assert active[SAMPLE_RATE : 2 * SAMPLE_RATE].all()
    assert active.sum() <= SAMPLE_RATE + 640


def test_silence_can_not_be_mixed(speech_like):
    with pytest.raises(AudioError, match="noise is silent"):
        mix_at_snr(speech_like, np.zeros(100, np.float32), 5)
    with pytest.raises(AudioError, match="speech is silent"):
        mix_at_snr(np.zeros(100, np.float32), speech_like, 5)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_coloured_noise_falls_as_asked(rng, beta):
    noise = coloured_noise(20 * SAMPLE_RATE, beta, rng)
    octaves = [band_power_db(noise, low_hz, 2 * low_hz) for low_hz in (125, 250, 500, 1000, 2000)]
    assert np.polyfit(range(5), octaves, 1)[0] == pytest.approx(-10 * np.log10(2) * beta, abs=0.3)
    assert power_db(noise) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("rt60_s", [0.2, 0.4, 0.8])
def test_simulated_room_decays_as_asked(rt60_s):
    """Schroeder's backward integral of the band the definition names, fitted from −5 to −25 dB."""
    octave = butter(4, (500, 1000), "bandpass", fs=SAMPLE_RATE, output="sos")
    tails = [sosfilt(octave, simulate_rir(Room(rt60_s, -20.0, seed)))[800:] for seed in range(20)]
    decay_db = 10 * np.log10(np.cumsum(np.sum(np.square(tails), axis=0)[::-1])[::-1])
    decay_db -= decay_db[0]
    times_s = [np.argmax(decay_db < level) / SAMPLE_RATE for level in (-5, -25)]
    assert 3 * (times_s[1] - times_s[0]) == pytest.approx(rt60_s, rel=0.15)


@pytest.mark.parametrize("ratio_db", [-3.0, 0.0, 12.0])
def test_direct_sound_comes_first_and_as_loud_as_asked(ratio_db):
    rir = simulate_rir(Room(0.5, ratio_db, seed=3))
    assert rir[0] == 1.0
    assert -10 * np.log10(np.sum(rir[1:].astype(np.float64) ** 2)) == pytest.approx(ratio_db, abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_reverberation_keeps_the_onset_and_rings_on(speech_like, seed):
    wet = Augmentation(room=Room(0.6, 0.0, seed)).apply_room(speech_like)
    assert len(wet) == len(speech_like)
    assert np.abs(wet[: SAMPLE_RATE - 1]).max() < 1e-6
    early = slice(SAMPLE_RATE, SAMPLE_RATE + 40)  # before the first reflection
    np.testing.assert_allclose(wet[early], speech_like[early], atol=1e-6)
    assert power_db(wet[2 * SAMPLE_RATE : 2 * SAMPLE_RATE + 1600]) > -60


def test_a_recorded_room_is_cut_to_its_direct_sound(speech_like):
    recorded = np.zeros(4000, np.float32)
    recorded[500], recorded[900] = -0.5, 0.2
    assert direct_first(recorded)[0] == 1.0
    wet = Augmentation(rir_index=0).apply_room(speech_like, [recorded])
    early = slice(SAMPLE_RATE, SAMPLE_RATE + 400)
    np.testing.assert_allclose(wet[early], speech_like[early], atol=1e-5)


def test_speed_moves_times_as_it_says(speech_like):
    augmentation = Augmentation(speed=1.25)
    fast = augmentation.apply_room(speech_like)
    assert len(fast) == pytest.approx(len(speech_like) / 1.25, abs=2)
    onset = int(np.argmax(np.abs(fast) > 0.05))
    assert onset / SAMPLE_RATE == pytest.approx(augmentation.moved_s(1.0), abs=0.005)


def test_band_limit_and_tilt_shape_the_spectrum(rng):
    noise = coloured_noise(4 * SAMPLE_RATE, 0.0, rng) * 0.1
    banded = Augmentation(band_hz=(300.0, 3400.0)).apply_channel(noise)
    assert band_power_db(banded, 50, 120) < band_power_db(banded, 500, 2000) - 25
    assert band_power_db(banded, 6000, 8000) < band_power_db(banded, 500, 2000) - 15
    tilted = Augmentation(tilt_db_per_octave=-3.0).apply_channel(noise)
    fall_db = band_power_db(tilted, 450, 550) - band_power_db(tilted, 3600, 4400)
    assert fall_db == pytest.approx(9, abs=1)


def test_soft_clip_keeps_the_peak_and_adds_harmonics(speech_like):
    clipped = soft_clip(speech_like, 15.0)
    assert np.abs(clipped).max() == pytest.approx(np.abs(speech_like).max(), rel=1e-3)
    assert band_power_db(clipped, 1300, 1340) > band_power_db(speech_like, 1300, 1340) + 20


def test_gain_is_exact_and_never_clips(speech_like):
    quiet = Augmentation(gain_db=-12.0).apply(speech_like)
    assert power_db(quiet) - power_db(speech_like) == pytest.approx(-12, abs=0.01)
    assert np.abs(Augmentation(gain_db=40.0).apply(speech_like)).max() <= 1.0


def test_augmentation_follows_from_the_seed(speech_like):
    config = AugmentConfig(room_share=1, clip_share=1, band_share=1, speed_share=1)
    draws = [draw_augmentation(np.random.default_rng(5), config) for _ in range(2)]
    assert draws[0] == draws[1] != draw_augmentation(np.random.default_rng(6), config)
    np.testing.assert_array_equal(draws[0].apply(speech_like), draws[1].apply(speech_like))
    assert draws[0].apply(speech_like).dtype == np.float32


def test_impossible_configs_are_refused():
    with pytest.raises(ConfigError, match="room_share"):
        AugmentConfig(room_share=1.5)
    with pytest.raises(ConfigError, match="rt60_s"):
        AugmentConfig(rt60_s=(0.8, 0.1))
    with pytest.raises(ConfigError, match="snr_db"):
        MixConfig(snr_db=(5.0,))
    with pytest.raises(ConfigError, match="noise weights"):
        NoiseSource(MixConfig(coloured_weight=0, made_weight=0))


def test_noise_of_every_kind_has_the_asked_length_and_level(speech_like, rng, tmp_path):
    write_audio(tmp_path / "fan.wav", coloured_noise(4000, 1.0, rng) * 0.05)
    only = {
        "coloured": NoiseSource(MixConfig(babble_weight=0, recorded_weight=0, made_weight=0)),
        "babble": NoiseSource(MixConfig(coloured_weight=0, made_weight=0), babble=[speech_like, speech_like[::-1]]),
        "recorded": NoiseSource(MixConfig(coloured_weight=0, made_weight=0), recordings=[tmp_path]),
        "waveform": NoiseSource(
            MixConfig(coloured_weight=0, made_weight=0), recordings=[speech_like[SAMPLE_RATE : 2 * SAMPLE_RATE]]
        ),
    }
    for kind, source in only.items():
        noise = source.draw(24001, rng)
        assert noise.shape == (24001,), kind
        assert noise.dtype == np.float32, kind
        assert power_db(noise) == pytest.approx(-20, abs=0.1), kind


def test_a_noise_folder_without_audio_is_an_error(tmp_path):
    with pytest.raises(AudioError, match="no audio files"):
        NoiseSource(recordings=[tmp_path])


def test_a_whole_window_keeps_its_length_and_is_repeatable(speech_like):
    source = NoiseSource(MixConfig(clean_share=0.0))
    augmenter = Augmenter(AugmentConfig(speed_share=1.0))
    outputs = [augmenter.apply(speech_like, source, np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*outputs)
    assert outputs[0].shape == speech_like.shape
    silence = augmenter.apply(np.zeros(8000, np.float32), source, np.random.default_rng(2))
    assert silence.any()
    assert np.abs(silence).max() <= 1.0
