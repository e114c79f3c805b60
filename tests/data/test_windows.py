"""Windows hold the phrase where their label says, and negatives never hold it."""

import numpy as np
import pytest

from kws.data.augment import AugmentConfig
from kws.data.mix import MixConfig, NoiseSource
from kws.data.pool import Speaker, Take, take_from_recording
from kws.data.windows import NO_END, WindowComposer, WindowConfig
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE

PHRASE_HZ, SPEECH_HZ, PART_HZ = 1000, 300, 2000
QUIET = MixConfig(clean_share=1.0)
PLAIN = AugmentConfig(speed_share=0, room_share=0, tilt_share=0, band_share=0, clip_share=0, gain_db=(0.0, 0.0))


def tone(frequency_hz, duration_s=0.5):
    times_s = np.arange(int(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * frequency_hz * times_s)).astype("f4")


def composer(config=WindowConfig(), augment=PLAIN, background=()):
    speaker = Speaker([Take(tone(PHRASE_HZ), 0.5)], [tone(SPEECH_HZ, 0.3)], [tone(SPEECH_HZ, 1.5)])
    return WindowComposer([speaker], background, NoiseSource(QUIET), config, augment)


def level_at(waveform, frequency_hz, start, end):
    """The amplitude of `frequency_hz` in a stretch of samples."""
    piece = waveform[start:end]
    phase = np.exp(-2j * np.pi * frequency_hz * np.arange(len(piece)) / SAMPLE_RATE)
    return 2 * abs(np.mean(piece * phase))


@pytest.mark.parametrize("seed", range(8))
def test_the_phrase_ends_where_the_label_says(seed):
    window = composer().positive(np.random.default_rng(seed))
    phrase = round(0.4 * SAMPLE_RATE)
    assert level_at(window.waveform, PHRASE_HZ, window.end_sample - phrase, window.end_sample) > 0.1
    assert level_at(window.waveform, PHRASE_HZ, window.end_sample, window.end_sample + 1600) < 0.02
    assert len(window.waveform) == round(3.2 * SAMPLE_RATE)


@pytest.mark.parametrize("seed", range(8))
def test_negatives_never_hold_the_phrase(seed):
    window = composer().negative(np.random.default_rng(seed))
    assert window.end_sample == NO_END
    assert level_at(window.waveform, PHRASE_HZ, 0, len(window.waveform)) < 0.01


def test_recordings_hold_their_share_of_the_positives_however_few_they_are():
    synthetic = [Speaker([Take(tone(PHRASE_HZ), 0.5)], [], [tone(SPEECH_HZ, 1.5)]) for _ in range(30)]
    recorded = Speaker([Take(tone(PART_HZ), 0.5)], [tone(SPEECH_HZ, 0.2)], [])
    for share in (0.0, 0.5, 1.0):
        config = WindowConfig(recorded=share, lead_in=0.0, follow_up=0.0)
        subject = WindowComposer([*synthetic, recorded], [], NoiseSource(QUIET), config, PLAIN)
        windows = [subject.positive(np.random.default_rng(seed)) for seed in range(60)]
        levels = [level_at(window.waveform, PART_HZ, window.end_sample - 6400, window.end_sample) for window in windows]
        assert np.mean(np.array(levels) > 0.1) == pytest.approx(share, abs=0.15)


@pytest.mark.parametrize("kind", ["parts", "close"])
def test_parts_of_the_phrase_and_words_close_to_it_stand_where_the_phrase_does(kind):
    """Nothing but the words tells them from it; longer audio, which the threshold is chosen on, has none."""
    said = {kind: [Take(tone(PART_HZ), 0.5)]}
    speaker = Speaker([Take(tone(PHRASE_HZ), 0.5)], [], [tone(SPEECH_HZ, 1.5)], **said)
    for share, is_part in ((1.0, True), (0.0, False)):
        config = WindowConfig(**{kind: share}, noise_only=0.0)
        subject = WindowComposer([speaker], [], NoiseSource(QUIET), config, PLAIN)
        windows = [subject.negative(np.random.default_rng(seed)) for seed in range(4)]
        windows.append(subject.negative(np.random.default_rng(0), 3.2))
        assert {window.end_sample for window in windows} == {NO_END}
        pieces = [window.waveform.reshape(-1, 6400) for window in windows]
        peaks = [max(level_at(piece, PART_HZ, 0, 6400) for piece in window) for window in pieces]
        assert [peak > 0.05 for peak in peaks] == [is_part] * 4 + [False]


def test_rooms_and_noise_keep_the_label():
    window = composer(augment=AugmentConfig(room_share=1.0, band_share=0.0, gain_db=(0.0, 0.0)))
    window = window.positive(np.random.default_rng(3))
    before = window.end_sample - round(0.4 * SAMPLE_RATE)
    assert level_at(window.waveform, PHRASE_HZ, before, window.end_sample) > 0.05


def test_the_users_own_speech_is_used_and_the_same_seed_gives_the_same_window():
    config = WindowConfig(real_share=1.0, noise_only=0.0)
    subject = composer(config, background=[tone(2500, 4.0)])
    first, second = (subject.negative(np.random.default_rng(5)).waveform for _ in range(2))
    assert level_at(first, 2500, SAMPLE_RATE, 2 * SAMPLE_RATE) > 0.05
    np.testing.assert_array_equal(first, second)


def test_longer_audio_on_request():
    assert len(composer().negative(np.random.default_rng(0), 20.0).waveform) == 20 * SAMPLE_RATE


def test_an_impossible_share_is_refused():
    with pytest.raises(ConfigError, match="lead_in"):
        WindowConfig(lead_in=1.5)


def test_recordings_are_cut_to_where_somebody_speaks():
    rng = np.random.default_rng(0)
    recording = 0.002 * rng.standard_normal(3 * SAMPLE_RATE).astype("f4")
    recording[SAMPLE_RATE : SAMPLE_RATE + 8000] += tone(400)
    take = take_from_recording(recording)
    assert take.end_s == pytest.approx(0.6, abs=0.03)  # the word and the margin kept before it
    assert len(take.waveform) == pytest.approx(0.7 * SAMPLE_RATE, abs=800)
