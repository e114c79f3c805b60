"""A wake word from a few recordings: what it leaves, refuses and warns of, what it detects, how training goes on."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import kws
from kws.audio.io import read_audio, write_audio
from kws.config import load_config
from kws.data.cuts import at_speeds, cut_phrase
from kws.data.pool import Take
from kws.data.synth import draw_voice, speak
from kws.data.text import random_sentence
from kws.errors import ArtefactError, AudioError, ConfigError
from kws.frames import SAMPLE_RATE, WAV2VEC2_GEOMETRY
from kws.model.artefact import load_wakeword
from kws.model.head import Head
from kws.model.pretrained import load_encoder
from kws.model.settings import HeadConfig
from kws.train.bank_frames import RealSpeech
from kws.train.enrolled import QuietFrames, calibrate_enrolled
from kws.train.enrolment import SETTINGS, _held_out_frames, enrol, grown, resolve_settings
from kws.train.head_training import FrameSet
from kws.train.losses import NEGATIVE
from kws.train.start import open_start
from kws.train.wakeword import WakeWordConfig, train_wakeword

TINY = [
    "pool.num_voices=3", "pool.num_validation_voices=2", "windows.num_positives=16", "windows.num_negatives=16",
    "validation_windows=2", "training.epochs=2", "training.rounds=1", "training.batch_size=16", "head.hidden=8",
]  # fmt: skip


@pytest.fixture
def overrides(tiny_encoder_folder):
    return [*TINY, f"encoder.name={json.dumps(str(tiny_encoder_folder))}"]


@pytest.fixture(scope="module")
def takes():
    """Returns takes of "lumos" by one voice, in a quiet room."""
    rng = np.random.default_rng(3)
    voice = draw_voice(rng, "validation")
    return [take_of("lumos", replace(voice, rate=float(rng.uniform(0.9, 1.1))), rng) for _ in range(8)]


def take_of(text, voice, rng):
    spoken = speak(text, voice).waveform
    waveform = np.pad(0.3 * spoken / np.abs(spoken).max(), round(0.3 * SAMPLE_RATE))
    return (waveform + rng.standard_normal(len(waveform)) * 1e-3).astype(np.float32)


@pytest.fixture
def folder(takes, tmp_path):
    for index, take in enumerate(takes[:4]):
        write_audio(tmp_path / f"takes/{index}.wav", take)
    return tmp_path / "takes"


def test_recordings_with_other_sound_in_them_are_left_out_even_if_most_are(overrides, folder, takes, tmp_path):
    for index in range(5):
        write_audio(folder / f"long-{index}.wav", np.concatenate(takes[index : index + 3]))
    warnings = []
    enrolled = enrol("lumos", [folder], tmp_path / "lumos", overrides=overrides, warn=warnings.append)
    assert enrolled.wakeword.details["made_from"]["recordings_of_the_phrase"] == 4
    assert sum("left out" in warning and "long-" in warning for warning in warnings) == 5


def test_it_leaves_an_artefact_that_says_what_was_not_measured(overrides, folder, tmp_path):
    stages = []
    enrolled = enrol("Lumos!", [folder], tmp_path / "lumos", overrides=overrides, progress=lambda *s: stages.append(s))
    assert {path.name for path in enrolled.path.iterdir()} == {
        "wakeword.json", "head.safetensors", "CARD.md", "config.toml",
    }  # fmt: skip
    assert kws.load(enrolled.path).keywords == ["lumos"]
    details = load_wakeword(enrolled.path).details
    assert details["method"] == "enrolment"
    assert details["made_from"]["recordings_of_the_phrase"] == 4
    metrics = details["metrics"]
    assert [line.split(":")[0] for line in metrics["not_measured"]] == ["misses", "false alarms on people's speech"]
    assert metrics["hours"] == pytest.approx(2 * 10 / 3600, rel=0.02)
    assert metrics["training_windows_missed"] <= 0.1 * metrics["training_windows_with_the_phrase"] + 1
    card = (enrolled.path / "CARD.md").read_text()
    assert "## Not measured" in card and "people's speech" in card
    assert load_config(WakeWordConfig, enrolled.path / "config.toml").phrase == "lumos"
    assert stages[0] == ("mixing", 0, 1) and stages[-1] == ("training", 2, 2)


def test_it_takes_files_manifests_and_any_language(overrides, folder, tmp_path):
    (folder / "takes.jsonl").write_text('{"audio_filepath": "2.wav"}\n{"audio_filepath": "3.wav"}\n')
    clips = [folder / "0.wav", folder / "takes.jsonl"]
    enrolled = enrol("вставай", clips, tmp_path / "wake", overrides=overrides)
    assert enrolled.wakeword.details["made_from"]["recordings_of_the_phrase"] == 3
    assert load_wakeword(enrolled.path).keywords[0].name == "вставай"


def test_odd_recordings_are_named_with_the_measured_value(overrides, folder, takes, tmp_path):
    (folder / "broken.wav").write_bytes(b"not audio")
    write_audio(folder / "offset.wav", takes[5] + np.float32(0.1))
    write_audio(folder / "quiet.wav", takes[6] * np.float32(0.035))
    warnings = []
    enrol("lumos", [folder], tmp_path / "wake", overrides=overrides, warn=warnings.append)
    assert any("broken.wav" in line for line in warnings)
    assert any("offset.wav: DC offset: its mean is +0.1" in line for line in warnings)
    assert any("quiet.wav: too quiet: its speech is at -5" in line for line in warnings)


def test_too_few_are_warned_of_and_too_many_or_none_refused(overrides, folder, tmp_path, monkeypatch):
    warnings = []
    enrol("lumos", [folder / "0.wav", folder / "1.wav"], tmp_path / "two", overrides=overrides, warn=warnings.append)
    assert any("2 recordings are few" in line for line in warnings)
    monkeypatch.setattr("kws.train.enrolment.NUM_RECORDINGS", (1, 3))
    with pytest.raises(ConfigError, match="4 recordings were given; enrolment takes 1 to 3"):
        enrol("lumos", [folder], tmp_path / "wake", overrides=overrides)
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    with pytest.raises(AudioError, match="none of the files could be read"):
        enrol("lumos", [tmp_path / "broken.wav"], tmp_path / "wake", overrides=overrides)
    with pytest.raises(ConfigError, match="no name"):
        enrol("?!", [folder], tmp_path / "wake", overrides=overrides)
    assert not (tmp_path / "wake").exists()


def test_cuts_are_not_the_phrase():
    phrase = np.sin(np.arange(8_000) / 5).astype(np.float32)
    beginning, end, swapped, reordered = cut_phrase(phrase, np.random.default_rng(0))
    assert 0.3 * len(phrase) <= len(beginning) <= 0.6 * len(phrase) + 1
    np.testing.assert_array_equal(beginning[160:-160], phrase[160 : len(beginning) - 160])
    assert 0.3 * len(phrase) - 1 <= len(end) <= 0.6 * len(phrase)
    np.testing.assert_array_equal(end[160:-160], phrase[len(phrase) - len(end) + 160 : -160])
    np.testing.assert_array_equal(swapped[160:3_840], phrase[4_160:7_840])
    assert len(reordered) == len(phrase)
    assert np.corrcoef(reordered, phrase)[0, 1] < 0.5


def test_a_faster_take_ends_earlier():
    (faster,) = at_speeds(Take(np.zeros(16_000, np.float32), 0.8), np.array([1.25]))
    assert len(faster.waveform) == 12_800
    assert faster.end_s == pytest.approx(0.64)


@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_the_threshold_meets_the_rate_on_more_audio_of_the_same_kind(rate):
    """The head passes the frames on, whose peaks are exponential: three minutes suffice to set a rate an hour."""
    rng = np.random.default_rng(0)
    head = pass_on()
    positives = np.full((20, 100, 1), 60.0, np.float16)
    data = FrameSet(positives, np.full(20, 50, np.int64))
    settings = replace(SETTINGS, false_alarms_per_hour=rate)
    measured = calibrate_enrolled(head, data, QuietFrames(peaky(rng, 18), are_people=True), settings, hop_s=0.02)
    assert measured["is_target_in_reach"] and measured["training_windows_missed"] == 0
    hours = 10.0
    peaks = rng.exponential(1.0, round(hours * 3600))  # one a second
    num_alarms = int(np.sum(peaks + float(head.output.bias.detach()[0]) > 0))
    assert rate * hours / 5 <= num_alarms <= rate * hours * 5


def test_people_of_the_bank_set_the_threshold_where_there_are_any():
    class Bank:
        def windows(self, num_windows, num_frames, rng):
            return FrameSet(np.ones((num_windows, num_frames, 1), np.float16), np.full(num_windows, NEGATIVE, np.int64))

    encoder, no_talkers = SimpleNamespace(geometry=WAV2VEC2_GEOMETRY), None
    speech = RealSpeech(SETTINGS.bank, 0, held_out=Bank())
    quiet = _held_out_frames(encoder, no_talkers, speech, SETTINGS)
    assert quiet.are_people
    num_frames = WAV2VEC2_GEOMETRY.num_frames(round(SETTINGS.validation_window_s * SAMPLE_RATE))
    assert quiet.frames.shape == (SETTINGS.bank.num_held_out, num_frames, 1)


def test_the_threshold_stays_where_the_recordings_fire():
    head = pass_on()
    positives = np.full((20, 100, 1), 1.5, np.float16)
    data = FrameSet(positives, np.full(20, 50, np.int64))
    quiet = QuietFrames(peaky(np.random.default_rng(0), 6), are_people=True)
    measured = calibrate_enrolled(head, data, quiet, SETTINGS, hop_s=0.02)
    assert not measured["is_target_in_reach"]
    assert measured["training_windows_missed"] <= 2
    assert measured["num_false_alarms"] > 0


def pass_on():
    """Returns a head whose logit is the one number of a frame, while it is positive."""
    import torch

    head = Head(1, 1, HeadConfig(hidden=2, kernel=1, dilation=1))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    return _Identity(head.output)


class _Identity:
    def __init__(self, output):
        self.output = output

    def eval(self):
        return self

    def initial_cache(self):
        return None

    def __call__(self, frames, cache):
        return frames + self.output.bias.detach(), cache


def peaky(rng, num_windows):
    """Returns (num_windows, 500, 1) frames with one plateau a second, as high as an exponential draw."""
    heights = rng.exponential(1.0, (num_windows, 10))
    frames = np.zeros((num_windows, 500, 1), np.float16)
    for second in range(10):
        frames[:, 50 * second + 20 : 50 * second + 30, 0] = heights[:, second, None]
    return frames


def test_training_goes_on_from_it_with_the_recordings_it_kept(overrides, folder, tmp_path):
    enrolled = enrol("lumos", [folder], tmp_path / "lumos", overrides=overrides, keep_clips=True)
    kept = sorted((enrolled.path / "clips").glob("*.wav"))
    assert len(kept) == 4
    np.testing.assert_array_equal(read_audio(kept[0]), read_audio(folder / "0.wav"))
    options = [*overrides, "validation_positives=4", "training.learning_rate=1e-9", "training.epochs=1"]
    trained = train_wakeword(
        "lumos", tmp_path / "better", overrides=options, positives=folder, start_from=enrolled.path
    )
    details = trained.wakeword.details
    assert details["made_from"]["recordings_of_the_phrase"] == 4, "the same recordings, given and kept, count once"
    assert details["started_from"]["keyword"] == "lumos"
    for name, weight in enrolled.wakeword.weights.items():
        if name != "output.bias":  # the threshold was chosen anew
            np.testing.assert_allclose(trained.wakeword.weights[name], weight, atol=1e-5)


def test_a_start_keeps_its_size_and_what_does_not_fit_is_refused(make_wakeword, tiny_encoder_folder, tmp_path):
    encoder = load_encoder(str(tiny_encoder_folder))
    assert open_start(None, encoder).fitted(HeadConfig()) == HeadConfig()
    start = open_start(make_wakeword("a").save(tmp_path / "a"), encoder)
    assert start.clips is None
    assert start.fitted(HeadConfig()) == HeadConfig(hidden=4, members=2, kernel=3, dilation=2)
    with pytest.raises(ArtefactError, match="has the head HeadConfig"):
        start.fitted(HeadConfig(hidden=5))
    with pytest.raises(ArtefactError, match="2 keywords"):
        open_start(make_wakeword("a", "b").save(tmp_path / "two"), encoder)
    other = replace(make_wakeword("a"), encoder_sha256="0" * 64)
    with pytest.raises(ArtefactError, match=r"was made on the encoder .* a head fits its own encoder only"):
        open_start(other.save(tmp_path / "other"), encoder)
    with pytest.raises(ArtefactError, match="no wake word at"):
        open_start(tmp_path / "none", encoder)


def test_more_recordings_bring_more_of_everything_up_to_a_limit():
    assert grown(SETTINGS, 5) == SETTINGS
    twenty, hundred, thousand = (grown(SETTINGS, count) for count in (20, 100, 1000))
    assert twenty.windows.num_positives == 2 * SETTINGS.windows.num_positives
    assert twenty.bank.num_windows == 2 * SETTINGS.bank.num_windows
    assert SETTINGS.pool.num_voices < twenty.pool.num_voices < hundred.pool.num_voices == thousand.pool.num_voices
    assert thousand.windows.num_negatives == 8 * SETTINGS.windows.num_negatives


def test_settings_are_checked():
    assert resolve_settings("Lumos!").phrase == "lumos"
    with pytest.raises(ConfigError, match=r"encoder\.trainable_layers"):
        resolve_settings("lumos", overrides=["encoder.trainable_layers=1"])


@pytest.mark.slow
def test_it_detects_takes_that_it_never_heard(takes, tmp_path):
    """On the shipped encoder, with its own settings; CPU time, as other programs may keep both cores busy."""
    for index, take in enumerate(takes[:4]):
        write_audio(tmp_path / f"takes/{index}.wav", take)
    before_s = time.process_time()
    enrolled = enrol("lumos", [tmp_path / "takes"], tmp_path / "lumos")
    assert time.process_time() - before_s < 80  # 30 beside one other program; more beside several
    metrics = enrolled.wakeword.details["metrics"]
    assert metrics["measured_on"].startswith("people")
    assert len(metrics["not_measured"]) == 1
    detector = kws.load(enrolled.path)
    rng = np.random.default_rng(5)
    found = [bool(detections(detector, take)) for take in takes[4:]]
    assert sum(found) >= 3
    sentences = [random_sentence(rng, 6, 10, avoid="lumos") for _ in range(20)]
    others = [take_of(sentence, draw_voice(rng), rng) for sentence in sentences]
    assert sum(bool(detections(detector, other)) for other in others) <= 4  # a fifth


def detections(detector, waveform):
    stream = detector.stream()
    return stream.feed(np.pad(waveform, SAMPLE_RATE)) + stream.flush()
