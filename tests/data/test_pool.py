"""The pool speaks the phrase, what sounds like it and other things, with voices that never cross splits."""

import numpy as np
import pytest

from kws.data.pool import PoolConfig, speak_phrase, speak_pool
from kws.data.synth import Speech, Voice, VoiceConfig, draw_voice
from kws.data.synth.speech import Segment, is_phone_input
from kws.errors import SynthesisError
from kws.frames import SAMPLE_RATE

SMALL = PoolConfig(phrases=3, confusables=2, sentences=2)


@pytest.mark.parametrize("phrase", ["hey computer", "computer"])
def test_every_speaker_says_everything(phrase):
    """And each word of several alone, or what sounds like a single one."""
    speakers = speak_pool(phrase, 5, "train", SMALL, VoiceConfig(), np.random.default_rng(0))
    assert len(speakers) == 5
    for speaker in speakers:
        assert (len(speaker.phrases), len(speaker.confusables), len(speaker.sentences)) == (3, 2, 2)
        assert (len(speaker.parts), len(speaker.close)) == ((2, 0) if " " in phrase else (0, 2))
        for take in speaker.phrases:
            assert 0.3 < take.end_s < 2.0
            assert take.end_s <= len(take.waveform) / SAMPLE_RATE + 0.01
        assert all(part.end_s < min(take.end_s for take in speaker.phrases) for part in speaker.parts)


def test_a_sentence_may_run_on_after_the_phrase():
    rng = np.random.default_rng(1)
    takes = [speak_phrase("hey computer", draw_voice(rng), rng) for _ in range(30)]
    running = [take for take in takes if len(take.waveform) / SAMPLE_RATE > take.end_s + 0.3]
    assert 3 < len(running) < 20


def test_a_share_of_the_takes_is_of_other_accents():
    said = []

    def say(text, voice):
        said.append(text)
        return Speech(np.ones(8000, np.float32), ())

    rng = np.random.default_rng(2)
    for _ in range(200):
        speak_phrase("jarvis", draw_voice(rng), rng, say, accented_share=0.5)
    assert 70 < sum(is_phone_input(text) for text in said) < 130


def test_the_same_seed_draws_the_same_pool():
    """eSpeak itself differs by a few samples between two calls in one process."""
    pools = [speak_pool("jarvis", 3, "train", SMALL, VoiceConfig(), np.random.default_rng(3)) for _ in range(2)]
    for first, second in zip(*pools):
        lengths = [[len(take.waveform) for take in speaker.phrases] for speaker in (first, second)]
        np.testing.assert_allclose(*lengths, atol=400)


class Stammering:
    """A synthesiser of one voice that fails every time, or never."""

    name = "stammering"
    factors = ("rate",)

    def __init__(self, is_mute):
        self.is_mute = is_mute

    def voices(self):
        return [f"{index} voice" for index in range(40)]

    def say(self, text, voice: Voice):
        if self.is_mute:
            raise SynthesisError("mute; give it a voice")
        waveform = np.ones(1600 * len(text.split()), np.float32)
        return Speech(waveform, tuple(Segment(word, 0.1 * i, 0.1 * i + 0.1) for i, word in enumerate(text.split())))


def test_another_synthesiser_joins_and_a_mute_one_is_an_error():
    rng = np.random.default_rng(0)
    speakers = speak_pool("hey you", 3, "train", SMALL, VoiceConfig(), rng, [Stammering(False)])
    assert all(take.end_s == pytest.approx(0.2) for speaker in speakers for take in speaker.phrases)
    with pytest.raises(SynthesisError, match="mute"):
        speak_pool("hey you", 3, "train", SMALL, VoiceConfig(), rng, [Stammering(True)])
