"""What the output layer heard: greedy CTC by hand, and the base install's path against torch's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kws.errors import EncoderError
from kws.evaluate.heard import Listener, OutputWeights, Phone, between, merge_repeats, spell, utterances
from kws.frames import WAV2VEC2_GEOMETRY
from kws.model.settings import EncoderConfig

LABELS = ("<blank>", "AA", "B", "|")
ROOT = Path(__file__).resolve().parents[2]


def phones_of(best, probabilities=None):
    probabilities = np.ones(len(best)) if probabilities is None else np.asarray(probabilities)
    return merge_repeats(np.asarray(best), probabilities, LABELS, 0, WAV2VEC2_GEOMETRY)


def test_repeats_are_one_and_blanks_part_them():
    heard = phones_of([0, 1, 1, 0, 1, 2, 2, 0], [1, 0.5, 0.7, 1, 0.9, 0.8, 0.6, 1])
    assert [phone.label for phone in heard] == ["AA", "AA", "B"]
    assert [phone.probability for phone in heard] == [0.7, 0.9, 0.8]
    first = heard[0]
    assert first.start_s == pytest.approx(0.02)
    assert first.end_s == pytest.approx(2 * 0.02 + 0.025)  # its last frame, the third, sees 25 ms


def test_nothing_is_heard_in_blanks_or_in_no_frames():
    assert phones_of([0, 0, 0]) == []
    assert phones_of([]) == []


def test_words_are_spelled_apart_and_pauses_cut():
    def phone(label, start_s):
        return Phone(label, start_s, start_s + 0.02, 1.0)

    phones = [phone("|", 0.0), phone("HH", 0.1), phone("EY", 0.2), phone("|", 0.3), phone("K", 0.4), phone("B", 2.0)]
    assert spell(phones) == "HH EY | K B"
    assert [spell(words) for words in utterances(phones)] == ["HH EY | K", "B"]
    assert spell(between(phones, 0.15, 0.45)) == "EY | K"


def test_the_blank_is_found_by_its_name():
    weights = np.zeros((3, 2), np.float32), np.zeros(3, np.float32)
    assert OutputWeights(*weights, ("A", "<pad>", "B")).blank == 1
    assert OutputWeights(*weights, ("_", "A", "B")).blank == 0


def test_without_torch_the_same_is_heard_as_with_it(tiny_encoder_folder, noise, chunks):
    torch = pytest.importorskip("torch")
    from kws.model.pretrained import load_encoder

    listener = Listener(EncoderConfig(name=str(tiny_encoder_folder)))
    heard = listener.hear(noise)
    assert heard
    in_chunks = listener.hear_blocks(chunks(noise, "random"))
    assert [(phone.label, phone.start_s) for phone in in_chunks] == [(phone.label, phone.start_s) for phone in heard]
    encoder = load_encoder(tiny_encoder_folder)
    with torch.inference_mode():
        logits = encoder.output_layer(encoder(torch.from_numpy(noise)[None]))[0]
    best = logits.argmax(dim=-1).numpy()
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    expected = [encoder.output_layer.labels[label] for label in best[starts] if label != 0]
    assert [phone.label for phone in heard] == expected
    assert all(0 < phone.probability <= 1 for phone in heard)


def test_a_wake_word_on_some_layers_is_explained_with_all_of_them(tiny_encoder_folder, noise):
    whole = Listener(EncoderConfig(name=str(tiny_encoder_folder)))
    part = Listener(EncoderConfig(name=str(tiny_encoder_folder), layers=1, layer="mix"))
    assert part.hear(noise) == whole.hear(noise)


def test_an_encoder_without_output_layer_says_so(tiny_encoder_folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    for name in ("config.json", "vocab.json", "step.onnx"):
        (tmp_path / name).write_bytes((tiny_encoder_folder / name).read_bytes())
    weights = load_file(tiny_encoder_folder / "model.safetensors")
    bare = {name: array for name, array in weights.items() if not name.startswith("lm_head")}
    save_file(bare, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match="without an output layer"):
        Listener(EncoderConfig(name=str(tmp_path)))
    save_file({"lm_head.weight": np.zeros((2, 2), "f4"), "lm_head.bias": np.zeros(2, "f4")}, tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / "output_layer.safetensors")
    with pytest.raises(EncoderError, match="4 labels and frames of 16"):
        Listener(EncoderConfig(name=str(tmp_path)))
    (tmp_path / "output_layer.safetensors").write_bytes(b"broken")
    with pytest.raises(EncoderError, match=r"output_layer\.safetensors can't be read"):
        Listener(EncoderConfig(name=str(tmp_path)))


def test_explaining_loads_neither_torch_nor_scipy():
    code = "import sys, kws.evaluate.explain\nassert not {'torch', 'scipy', 'transformers'} & set(sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
