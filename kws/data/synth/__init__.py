"""Speech synthesis: text ──▶ `Speech` with word and phone times, spoken by many synthetic voices."""

from kws.data.synth.espeak import EspeakSynthesizer
from kws.data.synth.external import CommandSynthesizer, FliteSynthesizer
from kws.data.synth.speech import Segment, Speech, Synthesizer, Voice
from kws.data.synth.voices import Split, VoiceConfig, available_synthesizers, draw_voice, speak, split_of

__all__ = [
    "CommandSynthesizer",
    "EspeakSynthesizer",
    "FliteSynthesizer",
    "Segment",
    "Speech",
    "Split",
    "Synthesizer",
    "Voice",
    "VoiceConfig",
    "available_synthesizers",
    "draw_voice",
    "speak",
    "split_of",
]
