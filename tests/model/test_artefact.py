"""The artefact: it comes back as it was saved, and damaged, foreign or hostile ones are refused before use."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as save_safetensors

from kws.errors import ArtefactError, ConfigError
from kws.model import artefact
from kws.model.artefact import Keyword, WakeWord, expected_shapes, load_wakeword
from kws.model.settings import EncoderConfig, HeadConfig, TriggerConfig

METADATA, WEIGHTS = "wakeword.json", "head.safetensors"


@pytest.fixture
def wakeword() -> WakeWord:
    keywords = (Keyword("hey computer", 0.7, TriggerConfig(threshold=0.25)), Keyword("stop", 0.4))
    head = HeadConfig(hidden=4, members=1, kernel=3, dilation=2)
    bare = WakeWord(keywords, EncoderConfig(name="anything", layers=3), "ab" * 32, 12, 3, head, {}, {"seed": 5})
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=shape).astype(np.float32) for name, shape in expected_shapes(bare).items()}
    return dataclasses.replace(bare, weights=weights)


@pytest.fixture(params=["hey", "hey.kws"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "models" / request.param


def rewrite(path: Path, members: dict[str, bytes | None]) -> None:
    """Replaces members of the artefact at `path`, or removes those that are None."""
    if path.is_dir():
        kept = {file.name: file.read_bytes() for file in path.iterdir()}
    else:
        with zipfile.ZipFile(path) as archive:
            kept = {name: archive.read(name) for name in archive.namelist()}
    kept = {name: content for name, content in (kept | members).items() if content is not None}
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
        for name, content in kept.items():
            (path / name).write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in kept.items():
                archive.writestr(name, content)


def metadata_of(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return json.loads((path / METADATA).read_bytes())
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(METADATA))


def set_metadata(path: Path, **changes: Any) -> None:
    rewrite(path, {METADATA: json.dumps(metadata_of(path) | changes).encode()})


def set_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    content = save_safetensors(weights)
    rewrite(path, {WEIGHTS: content})
    set_metadata(path, head_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("kind", ["conv", "gru"])
def test_round_trip(wakeword, path, kind):
    wakeword = dataclasses.replace(wakeword, head=dataclasses.replace(wakeword.head, kind=kind))
    weights = {name: np.full(shape, 0.5, np.float32) for name, shape in expected_shapes(wakeword).items()}
    wakeword = dataclasses.replace(wakeword, weights=weights)
    assert wakeword.save(path, card="# Hey") == path
    loaded = load_wakeword(path)
    assert dataclasses.replace(loaded, weights={}) == dataclasses.replace(wakeword, weights={})
    assert set(loaded.weights) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array)


def test_expected_shapes_are_those_of_the_torch_head(wakeword):
    pytest.importorskip("torch")
    from kws.model.head import Head

    for kind in ("conv", "gru"):
        head = dataclasses.replace(wakeword.head, kind=kind)
        state = Head(wakeword.dim, len(wakeword.keywords), head, wakeword.num_states).state_dict()
        shapes = expected_shapes(dataclasses.replace(wakeword, head=head))
        assert {name: tuple(value.shape) for name, value in state.items()} == shapes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "pickle"}, "not of the format"),
        ({"format_version": 2}, "format version 2"),
        ({"sample_rate": 8000}, "8000"),
        ({"head_sha256": "00"}, "copy it again"),
        ({"dim": 13}, "impossible sizes"),
        ({"dim": 15}, "expected float32"),
        ({"dim": 0}, "impossible sizes"),
        ({"dim": "wide"}, "damaged"),
        ({"num_states": -1}, "impossible sizes"),
        ({"keywords": []}, "impossible sizes"),
        ({"keywords": [{"name": "a", "treshold": 1}]}, "did you mean"),
        ({"keywords": None}, "damaged"),
        ({"keywords": [{"name": " "}, {"name": "b"}]}, "keyword.name"),
        ({"keywords": [{"name": "a", "duration_s": float("nan")}, {"name": "b"}]}, "duration_s"),
        ({"head": {"kind": "lstm"}}, "damaged"),
        ({"encoder": {"layers": -1}}, "damaged"),
    ],
)
def test_wrong_metadata_is_refused(wakeword, path, changes, message):
    wakeword.save(path)
    set_metadata(path, **changes)
    with pytest.raises(ArtefactError, match=message):
        load_wakeword(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b"null"])
def test_metadata_that_is_no_json_object_is_refused(wakeword, path, content):
    wakeword.save(path)
    rewrite(path, {METADATA: content})
    with pytest.raises(ArtefactError, match=r"not JSON|not of the format"):
        load_wakeword(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w | {"output.bias": np.zeros(2, np.float16)}, "float16"),
        (lambda w: w | {"output.bias": np.zeros(3, np.float32)}, r"\(3,\)"),
        (lambda w: w | {"norm.bias": np.full(4, np.nan, np.float32)}, "NaN"),
        (lambda w: w | {"norm.bias": np.full(4, np.inf, np.float32)}, "NaN or infinity"),
        (lambda w: w | {"backdoor": np.zeros(1, np.float32)}, "backdoor"),
        (lambda w: {name: array for name, array in w.items() if name != "input.weight"}, r"input\.weight"),
    ],
)
def test_wrong_weights_are_refused(wakeword, path, change, message):
    wakeword.save(path)
    set_weights(path, change(dict(wakeword.weights)))
    with pytest.raises(ArtefactError, match=message):
        load_wakeword(path)


def test_weights_that_are_no_safetensors_are_refused(wakeword, path):
    wakeword.save(path)
    for content in (b"", b"\x80\x04pickle", b"\xff" * 64):
        rewrite(path, {WEIGHTS: content})
        set_metadata(path, head_sha256=hashlib.sha256(content).hexdigest())
        with pytest.raises(ArtefactError, match="damaged"):
            load_wakeword(path)


@pytest.mark.parametrize("name", [METADATA, WEIGHTS])
def test_missing_member_is_refused(wakeword, path, name):
    wakeword.save(path)
    rewrite(path, {name: None})
    with pytest.raises(ArtefactError):
        load_wakeword(path)


def test_oversize_member_is_refused(wakeword, path, monkeypatch):
    wakeword.save(path)
    monkeypatch.setattr(artefact, "MAX_FILE_BYTES", 100)
    with pytest.raises(ArtefactError, match="larger than"):
        load_wakeword(path)


def test_hostile_names_write_nothing(wakeword, tmp_path):
    path = wakeword.save(tmp_path / "deep" / "hey.kws")
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("../escaped", "/tmp/kws_escaped", "..\\escaped", "sub/../../escaped"):
            archive.writestr(name, b"hostile")
    before = sorted(tmp_path.rglob("*"))
    assert load_wakeword(path).keywords == wakeword.keywords
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/kws_escaped").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_archive_is_refused(wakeword, tmp_path, share):
    path = wakeword.save(tmp_path / "hey.kws")
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    with pytest.raises(ArtefactError):
        load_wakeword(path)


def test_flipped_bytes_are_refused_or_harmless(wakeword, tmp_path):
    """One byte in four, a few hundred archives: either an error of ours, or exactly the wake word."""
    path = wakeword.save(tmp_path / "hey.kws")
    content = path.read_bytes()
    for position in range(0, len(content), 4):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            loaded = load_wakeword(path)
        except ArtefactError:
            continue
        assert dataclasses.replace(loaded, weights={}) == dataclasses.replace(wakeword, weights={})


def test_nothing_there_names_the_remedy(tmp_path):
    with pytest.raises(ArtefactError, match="kws train"):
        load_wakeword(tmp_path / "none")


def test_saving_leaves_no_temporary_files(wakeword, path):
    wakeword.save(path)
    wakeword.save(path)
    files = sorted(file.name for file in path.parent.rglob("*") if file.is_file())
    assert files == (["hey.kws"] if path.suffix else ["CARD.md", WEIGHTS, METADATA])


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="threshold = 2"):
        TriggerConfig(threshold=2)
    with pytest.raises(ConfigError, match="layer = 'first'"):
        EncoderConfig(layer="first")  # type: ignore[arg-type]


def test_a_head_from_before_there_were_members_has_one(wakeword: WakeWord, path: Path) -> None:
    wakeword.save(path)
    metadata = metadata_of(path)
    del metadata["head"]["members"]
    rewrite(path, {METADATA: json.dumps(metadata).encode()})
    assert load_wakeword(path).head.members == 1
