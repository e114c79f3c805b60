"""What is read to be measured on: conditions, ages, bad recordings."""

import json

import numpy as np
import pytest

from kws.audio.io import write_audio
from kws.detect.detector import Detector
from kws.errors import AudioError, ConfigError
from kws.evaluate.material import read_material, score
from kws.frames import SAMPLE_RATE


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for index, age in enumerate((6, 40, None, 12)):
        write_audio(tmp_path / f"{index}.wav", (0.1 * rng.standard_normal(SAMPLE_RATE)).astype(np.float32))
        lines.append(json.dumps({"audio_filepath": f"{index}.wav"} | ({"age": age} if age else {})))
    (tmp_path / "list.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_protocols_conditions(folder):
    conditions = read_material(folder, [folder]).conditions
    assert {name: condition.snr_db for name, condition in conditions.items()} == {
        "clean": None, "after talk": None, "10 dB": 10.0, "5 dB": 5.0
    }  # fmt: skip
    assert len(conditions.pop("after talk").talk) == 4
    assert not any(condition.talk for condition in conditions.values())


def test_no_talk_without_sound_in_the_negatives(folder):
    write_audio(folder / "quiet" / "0.wav", np.zeros(SAMPLE_RATE, np.float32))
    assert list(read_material(folder, [folder / "quiet"], snrs_db=[]).conditions) == ["clean"]


def test_children_stand_apart_where_ages_are_known(folder):
    material = read_material(folder / "list.jsonl", [folder / "list.jsonl", folder])
    assert material.groups == {"children": [0, 3], "adults": [1], "age unknown": [2]}
    manifest = str(folder / "list.jsonl")
    sizes = {name: len(clips) for name, clips in material.negatives.items()}
    assert sizes == {
        f"{manifest}, children": 2,
        f"{manifest}, adults": 1,
        f"{manifest}, age unknown": 1,
        str(folder): 4,
    }
    assert read_material(folder, [folder]).groups == {}


def test_bad_recordings_are_skipped_and_listed(folder, tiny_wakeword):
    (folder / "1.wav").write_bytes(b"nothing")
    warnings = []
    material = read_material(folder / "list.jsonl", [folder], snrs_db=[], warn=warnings.append)
    assert len(material.positives) == 3
    assert material.groups == {"children": [0, 2], "age unknown": [1]}
    scores = score(Detector([tiny_wakeword]), material, warn=warnings.append)
    assert len(scores.positives["clean"]) == 3
    assert [part.path.name for part in scores.negatives[0].parts[0]] == ["0.wav", "2.wav", "3.wav"]
    assert [part.start_s for part in scores.negatives[0].parts[0]] == pytest.approx([0, 1.3, 2.6])
    assert len(material.skipped) == 1 and "1.wav" in material.skipped[0]
    assert any("1.wav" in warning for warning in warnings)


def test_nothing_readable_is_an_error(tmp_path, folder, tiny_wakeword):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.wav").write_bytes(b"nothing")
    with pytest.raises(AudioError, match="none of the files could be read"):
        read_material(bad, [folder])
    with pytest.raises(AudioError, match="not one recording in"):
        score(Detector([tiny_wakeword]), read_material(folder / "0.wav", [bad], snrs_db=[]))
    with pytest.raises(AudioError, match="doesn't exist"):
        read_material(folder, [folder / "nowhere"])


@pytest.mark.parametrize(("key", "options"), [("--snr", {"snrs_db": [200.0]}), ("--seed", {"seed": -1})])
def test_impossible_settings_are_refused(folder, key, options):
    with pytest.raises(ConfigError, match=key):
        read_material(folder, [folder], **options)
