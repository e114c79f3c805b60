"""Synthesis: voices are different and usable, timings lie where the energy is, factors do what they say."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

import kws.data.synth.voices as voices_module
from kws.config import from_dict, to_dict
from kws.data.synth import (
    CommandSynthesizer,
    Voice,
    VoiceConfig,
    available_synthesizers,
    draw_voice,
    espeak_library,
    speak,
    split_of,
)
from kws.errors import ConfigError, SynthesisError
from kws.frames import SAMPLE_RATE

SENTENCE = "we were away one early morning near the yellow river"


def rms(waveform):
    return float(np.sqrt(np.mean(waveform.astype(np.float64) ** 2)))


def part(speech, start_s, end_s):
    return speech.waveform[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]


def centroid_hz(waveform):
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return float((power * np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)).sum() / power.sum())


def voiced_f0_hz(waveform):
    """Median pitch of the loud frames, by autocorrelation corrected for its window."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 1024)[::320]
    frames = frames[np.sqrt(np.mean(frames**2, axis=1)) > 0.5 * rms(waveform)]
    window = np.hanning(1024)
    window_correlation = np.fft.irfft(np.abs(np.fft.rfft(window, 2048)) ** 2)[40:230]
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames * window, 2048)) ** 2, axis=1)
    lags = (correlation[:, 40:230] / window_correlation).argmax(axis=1) + 40
    return SAMPLE_RATE / float(np.median(lags))


def test_every_accent_and_variant_speaks_at_a_usable_level(espeak):
    names = [name for name in espeak.voices() if name.startswith("en-us+") or "+" not in name]
    assert len(espeak.languages()) >= 6
    assert len(names) >= 70
    for name in names:
        speech = espeak.say("hey computer", Voice("espeak", name))
        assert 0.4 < speech.duration_s < 2.0, name
        assert rms(speech.waveform) > 0.01, name
        assert np.abs(speech.waveform).max() <= 1.0, name


def test_accents_say_different_phones_and_variants_have_different_spectra(espeak):
    accents = {
        tuple(phone.label for phone in espeak.say("can't bath water start", Voice("espeak", code)).phones)
        for code in espeak.languages()
    }
    assert len(accents) >= 5
    spectra = {round(centroid_hz(espeak.say(SENTENCE, Voice("espeak", f"en-gb+{v}")).waveform)) for v in ("m1", "f2")}
    assert len(spectra) == 2


def test_words_and_phones_lie_where_the_energy_is(espeak):
    speech = espeak.say("stop, okay, bus", Voice("espeak", "en-us"))
    assert [word.label for word in speech.words] == ["stop", "okay", "bus"]
    levels = [rms(part(speech, word.start_s, word.end_s)) for word in speech.words]
    gaps = [rms(part(speech, one.end_s + 0.03, two.start_s)) for one, two in zip(speech.words, speech.words[1:])]
    assert min(levels) > 10 * max(gaps)
    ends = [phone.end_s for phone in speech.phones]
    assert ends == sorted(ends)
    assert 0 <= speech.phones[0].start_s < 0.06
    assert speech.duration_s - 0.1 < speech.words[-1].end_s <= speech.duration_s


def test_word_end_does_not_cut_a_linked_word(espeak):
    """The n of "turn" before a vowel is quiet above 800 Hz; the boundary lies after it has begun, before the vowel."""
    speech = espeak.say("turn on", Voice("espeak", "en-us"))
    turn, on = speech.words
    assert turn.end_s == on.start_s
    nasal = next(phone for phone in speech.phones if phone.label == "n")
    assert nasal.start_s < turn.end_s < nasal.start_s + 0.12


def test_labels_come_from_the_text_as_written(espeak):
    speech = espeak.say('Okay. "25 dogs" can\'t e-mail (them)!', Voice("espeak", "en-us"))
    assert [word.label for word in speech.words] == ["Okay", "25", "dogs", "can't", "e-mail", "them"]


def test_function_words_that_merge_keep_all_their_text(espeak):
    speech = espeak.say("turn on the lights", Voice("espeak", "en-us"))
    assert " ".join(word.label for word in speech.words) == "turn on the lights"


def test_ends_are_trimmed(espeak):
    speech = espeak.say("hello", Voice("espeak", "en-us+f2"))
    peak = np.abs(speech.waveform).max()
    assert np.abs(speech.waveform[:160]).max() > 0.003 * peak
    assert np.abs(speech.waveform[-160:]).max() > 0.003 * peak


@pytest.mark.parametrize("name", ["en-us", "en-gb+f3"])
def test_tract_moves_the_spectrum_but_keeps_tempo_and_pitch(espeak, name):
    short, plain, long = (espeak.say(SENTENCE, Voice("espeak", name, tract=tract)) for tract in (0.8, 1.0, 1.25))
    assert centroid_hz(short.waveform) > 1.15 * centroid_hz(plain.waveform)
    assert centroid_hz(long.waveform) < centroid_hz(plain.waveform) / 1.1
    for bent in (short, long):
        assert bent.duration_s == pytest.approx(plain.duration_s, rel=0.05)
        assert voiced_f0_hz(bent.waveform) == pytest.approx(voiced_f0_hz(plain.waveform), rel=0.1)
        assert bent.words[-1].start_s == pytest.approx(plain.words[-1].start_s, rel=0.06)


def test_rate_and_pitch_do_what_they_say(espeak):
    plain = espeak.say(SENTENCE, Voice("espeak", "en-us+f2"))
    fast = espeak.say(SENTENCE, Voice("espeak", "en-us+f2", rate=1.5))
    high = espeak.say(SENTENCE, Voice("espeak", "en-us+f2", pitch=1.25))
    assert plain.duration_s / fast.duration_s == pytest.approx(1.5, rel=0.06)
    assert voiced_f0_hz(high.waveform) / voiced_f0_hz(plain.waveform) == pytest.approx(1.25, rel=0.06)


def test_phones_can_be_spoken_and_mean_the_same(espeak):
    voice = Voice("espeak", "en-us")
    spoken = espeak.say("[[h'eI k@mpj'u:t3]]", voice)
    assert [phone.label for phone in spoken.phones] == ["h", "eI", "k", "@", "m", "p", "j", "u:", "t#", "3"]
    assert len(spoken.words) == 2


@pytest.mark.parametrize("name", ["en-us+nobody", "en-xx", "en-us+whisper", ""])
def test_an_unknown_voice_is_an_error_not_the_default_voice(espeak, name):
    with pytest.raises(SynthesisError, match="no voice"):
        espeak.say("hello", Voice("espeak", name))


@pytest.mark.parametrize("text", ["", "   ", "...", "[[]]"])
def test_nothing_to_say_is_an_error(espeak, text):
    with pytest.raises(SynthesisError, match="nothing to say"):
        espeak.say(text, Voice("espeak", "en-us"))


def test_impossible_factors_are_refused():
    with pytest.raises(SynthesisError, match=r"tract = 2.0 .* 0.8 to 1.25"):
        Voice("espeak", "en-us", tract=2.0)
    with pytest.raises(ConfigError, match="pitch"):
        VoiceConfig(pitch=(1.2, 0.8))
    assert from_dict(VoiceConfig, to_dict(VoiceConfig())) == VoiceConfig()


def test_held_out_voices_never_occur_in_training(espeak, rng):
    drawn = {split: [draw_voice(rng, split, [espeak]) for _ in range(400)] for split in ("train", "validation")}
    families = {
        split: {voice.name.partition("+")[2].lower().rstrip("0123456789") for voice in group if len(voice.name) > 9}
        for split, group in drawn.items()
    }
    variants = {split: {voice.name.partition("+")[2] for voice in group} for split, group in drawn.items()}
    assert not variants["train"] & variants["validation"]
    assert len(families["train"]) > 25
    assert len(variants["validation"]) >= 8
    assert split_of("espeak", "en-us+steph") == split_of("espeak", "en-gb+steph2")
    for twins in (
        ("aunty", "f4"),
        ("adam", "klatt6"),
        ("benjamin", "edward2"),
        ("Hugo", "Diogo"),
        ("michel", "miguel"),
    ):
        assert len({split_of("espeak", f"en-us+{name}") for name in twins}) == 1


def test_a_drawn_voice_follows_from_the_seed(espeak):
    first, second = ([draw_voice(np.random.default_rng(3), "train", [espeak]) for _ in range(2)] for _ in range(2))
    assert first == second
    assert VoiceConfig().tract[0] <= first[0].tract <= VoiceConfig().tract[1]


def test_a_fresh_process_says_the_same_samples(espeak):
    """Names with a flutter, an echo and the Klatt synthesiser; the library keeps state, so the order matters."""
    program = (
        "import hashlib; from kws.data.synth import EspeakSynthesizer, Voice; e = EspeakSynthesizer(); "
        "h = hashlib.sha256(); [h.update(e.say('hello there', Voice('espeak', n)).waveform.tobytes()) "
        "for n in ('en-us', 'en-us+f3', 'en-gb+klatt4')]; print(h.hexdigest())"
    )
    digests = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in "ab"}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2


def test_no_synthesiser_names_the_remedy(monkeypatch):
    def fail():
        raise SynthesisError("none")

    monkeypatch.setattr(voices_module, "_DISCOVERED", (fail,))
    voices_module._discover.cache_clear()
    try:
        with pytest.raises(SynthesisError, match=r"pip install espeakng-loader .*kws\[train\]"):
            available_synthesizers()
        with pytest.raises(SynthesisError, match="pip install"):
            speak("hello", Voice("espeak", "en-us"))
    finally:
        voices_module._discover.cache_clear()


def test_no_library_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(espeak_library.ctypes.util, "find_library", lambda name: None)
    espeak_library.load_espeak.cache_clear()
    try:
        with pytest.raises(SynthesisError, match="pip install espeakng-loader"):
            espeak_library.load_espeak()
    finally:
        monkeypatch.undo()
        espeak_library.load_espeak.cache_clear()


def test_flite_speaks_text_and_phones_with_times(flite):
    name = flite.voices()[0]
    said = flite.say("hey computer", Voice("flite", name))
    spelled = flite.say("[[h'eI k@mpj'u:t3]]", Voice("flite", name, tract=1.1))
    assert [phone.label for phone in said.phones] == [phone.label for phone in spelled.phones]
    assert said.phones[-1].end_s == pytest.approx(said.duration_s, abs=0.1)
    assert spelled.duration_s == pytest.approx(said.duration_s, rel=0.25)
    with pytest.raises(SynthesisError, match="no voice"):
        flite.say("hello", Voice("flite", "nobody"))
    with pytest.raises(SynthesisError, match="pitch_range"):
        flite.say("hello", Voice("flite", name, pitch_range=1.5))


WRITE_TONE = """
import sys, numpy as np, soundfile
time_s = np.arange(4000) / 8000
soundfile.write(sys.argv[2], 0.2 * np.sin(2 * np.pi * len(sys.argv[1]) * 100 * time_s), 8000)
"""


def test_any_command_can_be_a_synthesiser(tmp_path, rng):
    script = tmp_path / "tone.py"
    script.write_text(WRITE_TONE)
    command = CommandSynthesizer(f"{sys.executable} {script} {{text}} {{output}}", name="tone")
    voice = draw_voice(rng, split_of("tone", "default"), [command])
    assert voice == Voice("tone", "default")  # nothing it can't honour was drawn
    speech = speak("four", voice, [command])
    assert speech.duration_s == pytest.approx(0.5, abs=0.02)
    assert centroid_hz(speech.waveform) == pytest.approx(400, rel=0.05)
    with pytest.raises(SynthesisError, match="tract"):
        command.say("four", Voice("tone", "default", tract=1.1))
    with pytest.raises(SynthesisError, match="phones"):
        command.say("[[h'eI]]", voice)


def test_a_synthesiser_of_few_voices_is_drawn_as_often_as_one_of_many_or_less(espeak, rng):
    command = CommandSynthesizer("say {text} {output}", name="tone")
    split = split_of("tone", "default")
    for power, share in ((0.0, 0.5), (0.5, 0.05), (1.0, 0.0)):
        config = VoiceConfig(count_power=power)
        voices = [draw_voice(rng, split, [espeak, command], config) for _ in range(300)]
        assert np.mean([voice.synthesizer == "tone" for voice in voices]) == pytest.approx(share, abs=0.1)


def test_a_bad_command_says_why():
    with pytest.raises(SynthesisError, match="must contain"):
        CommandSynthesizer("say {text}")
    with pytest.raises(SynthesisError, match="must contain"):
        CommandSynthesizer("say {text} {output} {speaker}")
    with pytest.raises(SynthesisError, match="no-such-program"):
        CommandSynthesizer("no-such-program {text} {output}").say("hello", Voice("command", "default"))
    with pytest.raises(SynthesisError, match="wrote no file"):
        CommandSynthesizer("true {text} {output}").say("hello", Voice("command", "default"))


def test_a_second_library_in_the_process_takes_nothing_from_the_first(espeak):
    espeak_library.load_espeak.cache_clear()
    second = type(espeak)()
    for synthesizer in (espeak, second, espeak):
        speech = synthesizer.say("hey computer", Voice("espeak", "en-us"))
        assert [segment.label for segment in speech.words] == ["hey", "computer"]
