"""Manifests: fields arrive, bad lines are named, speakers never cross a split."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kws.audio.io import write_audio
from kws.data.manifest import Clip, read_clips, read_manifest, split_by_speaker
from kws.errors import AudioError, ConfigError


def test_fields_arrive_and_paths_are_relative_to_the_manifest(tmp_path):
    lines = [
        {"audio_filepath": "audio/a.wav", "duration": 1.5, "text": "hey", "speaker": "s1", "label": "hey", "age": 6},
        {"audio_filepath": "/elsewhere/b.wav"},
    ]
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    first, second = read_manifest(manifest)
    assert first == Clip(tmp_path / "audio" / "a.wav", 1.5, "hey", "s1", "hey")
    assert second.path.as_posix() == "/elsewhere/b.wav"
    assert (second.duration_s, second.text, second.speaker, second.label) == (None,) * 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oops", "not JSON"),
        ("[1]", "audio_filepath"),
        ('{"duration": 1}', "audio_filepath"),
        ('{"audio_filepath": 5}', "audio_filepath = 5"),
        ('{"audio_filepath": ""}', "audio_filepath"),
        ('{"audio_filepath": "a.wav", "duration": "long"}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": -1}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": NaN}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": true}', "duration"),
        ('{"audio_filepath": "a.wav", "speaker": 7}', "speaker = 7"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    manifest = tmp_path / "dev.jsonl"
    manifest.write_text('{"audio_filepath": "ok.wav"}\n' + line + "\n")
    with pytest.raises(ConfigError, match=rf"dev\.jsonl, line 2: .*{reason}"):
        read_manifest(manifest)


def test_unreadable_manifests(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.jsonl"):
        read_clips(tmp_path / "gone.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_clips(tmp_path / "binary.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(AudioError, match="no recordings"):
        read_clips(tmp_path / "empty.jsonl")


def test_a_folder_is_a_list_of_clips(tmp_path):
    write_audio(tmp_path / "deep" / "a.wav", np.zeros(100, np.float32))
    assert read_clips(tmp_path) == [Clip(tmp_path / "deep" / "a.wav")]
    (tmp_path / "none").mkdir()
    with pytest.raises(AudioError, match="no recordings"):
        read_clips(tmp_path / "none")


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.8])
def test_speakers_never_cross(tmp_path, rng, fraction):
    clips = [Clip(tmp_path / f"{index}.wav", speaker=f"s{index % 11}") for index in range(200)]
    rest, drawn = split_by_speaker(clips, fraction, rng)
    assert not {clip.speaker for clip in rest} & {clip.speaker for clip in drawn}
    assert sorted(rest + drawn, key=str) == sorted(clips, key=str)
    assert len(drawn) / len(clips) == pytest.approx(fraction, abs=0.1)
    assert rest
    assert drawn


def test_clips_without_speakers_are_split_one_by_one(tmp_path, rng):
    clips = [Clip(tmp_path / f"{index}.wav") for index in range(20)]
    rest, drawn = split_by_speaker(clips, 0.25, rng)
    assert (len(rest), len(drawn)) == (15, 5)


def test_one_speaker_can_not_be_split(tmp_path, rng):
    with pytest.raises(ConfigError, match="speaker"):
        split_by_speaker([Clip(tmp_path / "a.wav", speaker="one")] * 3, 0.5, rng)
    with pytest.raises(ConfigError, match="fraction"):
        split_by_speaker([Clip(tmp_path / "a.wav")] * 3, 1.0, rng)
