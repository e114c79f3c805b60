"""The bank of real speech: round trips, splits by speaker, the phrase left out, damaged files refused."""

from dataclasses import replace

import numpy as np
import pytest

from kws.data.alignment import class_of
from kws.errors import EncoderError
from kws.model.bank import compress, read_bank

DIM, SHA256 = 12, "ab" * 32
COMPUTER = [class_of(phone) for phone in ("K", "AH", "M", "P", "Y", "UW", "T", "ER")]


def make_bank(num_speakers=5, labels=None, num_components=DIM):
    rng = np.random.default_rng(0)
    shape = rng.standard_normal((DIM, DIM))
    features = [rng.standard_normal((20 + 10 * index, DIM)) @ shape + 3 for index in range(num_speakers)]
    steps = [np.full(len(part), 3) for part in features] if labels is None else labels
    return features, compress(
        features, steps, range(num_speakers), range(num_speakers), num_components, SHA256, {"licences": ["CC0"]}
    )


def test_features_come_back_within_the_steps_of_eight_bits(tmp_path):
    features, bank = make_bank()
    bank.save(tmp_path / "bank.safetensors")
    read = read_bank(tmp_path / "bank.safetensors", SHA256)
    original = np.concatenate(features)
    error = read.features(np.arange(read.num_frames)) - original
    assert np.sqrt(np.mean(error**2)) < 0.02 * original.std()
    assert read.details == {"licences": ["CC0"]}
    assert read.num_speakers == 5


def test_fewer_components_keep_the_largest_and_a_smaller_file():
    features, bank = make_bank(num_components=6)
    error = bank.features(np.arange(bank.num_frames)) - np.concatenate(features)
    share = np.mean(error**2) / np.concatenate(features).var(0).mean()
    assert share < 0.3
    assert len(bank.to_bytes()) < len(make_bank()[1].to_bytes())


def test_speakers_never_cross_the_split():
    _, bank = make_bank()
    training, held_out = bank.split(0.3, np.random.default_rng(1))
    assert not set(training.speakers) & set(held_out.speakers)
    assert training.num_frames + held_out.num_frames == bank.num_frames
    assert held_out.num_frames >= 0.3 * bank.num_frames


def test_one_speaker_is_for_training():
    training, held_out = make_bank(1)[1].split(0.2, np.random.default_rng(0))
    assert training.num_frames == 20
    assert held_out.num_frames == 0


def test_utterances_with_the_phrase_are_left_out_even_if_a_phone_is_off():
    said = np.repeat([0, *COMPUTER, 0], 2)
    off = np.repeat([0, *COMPUTER[:3], class_of("B"), *COMPUTER[4:]], 3)
    other = np.repeat([0, *COMPUTER[:4], 0], 2)
    labels = [np.resize(part, 20 + 10 * index) for index, part in enumerate((said, off, other))]
    _, bank = make_bank(3, labels)
    assert list(bank.without(COMPUTER).speakers) == [2]


def test_another_encoders_bank_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "bank.safetensors"
    make_bank()[1].save(path)
    with pytest.raises(EncoderError, match=r"another encoder.*recipes/bank/make\.py"):
        read_bank(path, "cd" * 32)


@pytest.mark.parametrize("content", [b"", b"no bank", b"cut"])
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "bank.safetensors"
    path.write_bytes(make_bank()[1].to_bytes()[:-100] if content == b"cut" else content)
    with pytest.raises(EncoderError, match="can't be read"):
        read_bank(path, SHA256)


def test_parts_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "bank.safetensors"
    bank = make_bank()[1]
    for wrong in (
        replace(bank, starts=bank.starts + 1),
        replace(bank, labels=bank.labels[:-1]),
        replace(bank, speakers=bank.speakers[:-1]),
        replace(bank, basis=bank.basis[:-1]),
        replace(bank, codes=bank.codes.astype(np.int16)),
    ):
        wrong.save(path)
        with pytest.raises(EncoderError, match=r"parts that don't fit|lacks a part"):
            read_bank(path, SHA256)
