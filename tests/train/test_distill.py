"""Distillation: the student nears a small teacher, resumes with the same losses, and is exported without the extras."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402

from kws.audio.io import read_audio  # noqa: E402
from kws.config import load_config  # noqa: E402
from kws.data.alignment import STEP  # noqa: E402
from kws.errors import AudioError, ConfigError, EncoderError  # noqa: E402
from kws.frames import SAMPLE_RATE, WAV2VEC2_GEOMETRY  # noqa: E402
from kws.model.pretrained import load_encoder  # noqa: E402
from kws.train.distill import TEACHER_SCORES, Distillation  # noqa: E402
from kws.train.distill_audio import UNLABELLED, AudioCorpus, SpoiledPair  # noqa: E402
from kws.train.distill_config import DistillConfig  # noqa: E402
from kws.train.distill_model import Teacher, aligned, feature_loss, logit_loss  # noqa: E402
from kws.train.pretrain import pretrain  # noqa: E402
from kws.train.speech_batches import BatchConfig, SpeechBatches  # noqa: E402
from kws.train.spoil import SpoilConfig, Spoiler  # noqa: E402

SIZES: dict[str, object] = dict(
    conv_dim=[8] * 7, hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, vocab_size=6,
    num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
)  # fmt: skip
RECIPE = Path(__file__).parents[2] / "recipes" / "distill" / "config.toml"


def save_teacher(folder: Path, kind: str = "Wav2Vec2ForCTC", **settings: object) -> Path:
    """Writes a small teacher of random weights to `folder`, as `transformers` does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind.removesuffix('ForCTC').removesuffix('Model')}Config")
        model = getattr(transformers, kind)(config(**{**SIZES, **settings}))
        if hasattr(model, "lm_head"):
            model.lm_head.weight.data *= 20  # so that labels differ from frame to frame
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def tones(rate: int, seed: int, num_seconds: int = 3) -> np.ndarray:
    """Returns a new tone every tenth of a second, (num_samples,) float32."""
    frequencies = np.random.default_rng(seed).choice([250.0, 700.0, 1600.0, 3000.0], size=10 * num_seconds)
    phase = 2 * np.pi * np.cumsum(np.repeat(frequencies, rate // 10)) / rate
    return (0.3 * np.sin(phase)).astype(np.float32)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings at several rates, one of them stereo."""
    folder = tmp_path_factory.mktemp("audio")
    for seed in range(3):
        soundfile.write(folder / f"{seed}.wav", tones(SAMPLE_RATE, seed), SAMPLE_RATE)
    (folder / "deeper").mkdir()
    soundfile.write(folder / "deeper" / "8k.flac", tones(8000, 3), 8000)
    soundfile.write(folder / "deeper" / "stereo.wav", np.stack([tones(44_100, 4)] * 2, axis=1), 44_100)
    return folder


@pytest.fixture
def config(tiny_encoder_folder: Path, teacher: Path, audio: Path) -> DistillConfig:
    return DistillConfig(
        initial=str(tiny_encoder_folder),
        teacher=str(teacher),
        audio=str(audio),
        held_out=(str(audio),),
        bf16=False,
        max_steps=6,
        learning_rate=1e-2,
        warmup_steps=2,
        average_decay=0.0,
        batches=BatchConfig(batch_size=4, crop_frames=40, hard_from_step=4),
    )


def losses(run: Distillation, count: int) -> list[float]:
    batches = iter(run.batches())
    return [run.train_step(next(batches))[0] for _ in range(count)]


def test_the_student_nears_its_teacher(config: DistillConfig, tmp_path: Path) -> None:
    run = Distillation(dataclasses.replace(config, spoiled=False, max_steps=101), tmp_path)
    clean = next(iter(run.batches())).waveforms[:, 0]
    features = torch.stack(run.teacher.hear(clean).features)
    one_for_all = torch.cosine_similarity(features, features.mean(dim=(1, 2), keepdim=True), dim=-1).mean()
    seen = losses(run, 100)
    score = run.compare(AudioCorpus([config.audio]))
    assert np.mean(seen[-5:]) < 0.9 * np.mean(seen[:5])
    assert score["cosine"] > one_for_all + 0.03  # more than the same answer to every sound
    assert score["agreement"] > 0.5


def test_a_teacher_without_output_layer_teaches_its_frames(config: DistillConfig, tmp_path: Path) -> None:
    bare = save_teacher(tmp_path / "teacher", "HubertModel")
    run = Distillation(dataclasses.replace(config, teacher=str(bare), max_steps=21), tmp_path)
    before = run.compare(AudioCorpus([config.audio]))
    seen = losses(run, 20)
    after = run.compare(AudioCorpus([config.audio]))
    assert run.model.label_output is None
    assert list(after) == ["cosine"]
    assert after["cosine"] > before["cosine"] + 0.1
    assert np.mean(seen[-5:]) < np.mean(seen[:5])


def test_the_export_is_the_student_alone(config: DistillConfig, tiny_encoder_folder: Path, tmp_path: Path) -> None:
    assert pretrain(config, tmp_path, kind=Distillation) == []
    encoder, start = load_encoder(tmp_path / "encoder"), load_encoder(tiny_encoder_folder)
    waveform = torch.from_numpy(tones(SAMPLE_RATE, seed=9))[None]
    with torch.inference_mode():
        assert (encoder(waveform) - start(waveform)).abs().max() > 0.1
    assert torch.equal(encoder.output_layer.weight, start.output_layer.weight)
    assert encoder.output_layer.labels == start.output_layer.labels
    assert all(name.startswith("wav2vec2.") for name in load_file(tmp_path / "encoder" / "model.safetensors"))
    rows = [json.loads(line) for line in (tmp_path / TEACHER_SCORES).read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 6]
    assert rows[1]["cosine"] > rows[0]["cosine"]


def test_a_killed_run_resumes_with_the_same_losses(config: DistillConfig, tmp_path: Path) -> None:
    whole = losses(Distillation(config, tmp_path), 6)
    first = Distillation(config, tmp_path)
    parts = losses(first, 3)
    first.save()
    second = Distillation(config, tmp_path)
    second.load()
    assert parts + losses(second, 3) == pytest.approx(whole, rel=1e-5)


def test_another_teacher_does_not_resume(config: DistillConfig, tmp_path: Path) -> None:
    Distillation(config, tmp_path).save()
    other = save_teacher(tmp_path / "other", hidden_size=32)
    with pytest.raises(ConfigError, match="does not fit this config"):
        Distillation(dataclasses.replace(config, teacher=str(other)), tmp_path).load()


def test_the_teacher_stays_as_it_was(config: DistillConfig, tmp_path: Path) -> None:
    run = Distillation(config, tmp_path)
    encoder = run.teacher.encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    losses(run, 3)
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(value.requires_grad for value in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any(value is own for value in run.model.parameters() for own in encoder.parameters())


def test_the_teacher_hears_the_whole_crop_as_its_network_does(teacher: Path) -> None:
    waveforms = torch.from_numpy(np.stack([tones(SAMPLE_RATE, seed) for seed in (5, 6)]))
    network = transformers.Wav2Vec2ForCTC.from_pretrained(teacher).eval()
    normal = torch.nn.functional.layer_norm(waveforms, waveforms.shape[1:], eps=1e-7)
    with torch.no_grad():
        expected = network(normal, output_hidden_states=True)
    for loudness in (1.0, 0.1):  # normalised, as its feature extractor does
        heard = Teacher(str(teacher), (1, 3)).hear(loudness * waveforms)
        torch.testing.assert_close(heard.logits, expected.logits, atol=2e-3, rtol=0)
        for layer, features in zip((1, 3), heard.features):
            states = expected.hidden_states[layer]
            torch.testing.assert_close(
                features, torch.nn.functional.layer_norm(states, states.shape[2:]), atol=1e-3, rtol=0
            )


def test_the_layers_taught(teacher: Path, tiny_encoder_folder: Path) -> None:
    assert Teacher(str(teacher)).layers == [1, 2, 3]
    assert Teacher(str(teacher), (3, 1)).layers == [1, 3]
    assert Teacher(str(tiny_encoder_folder)).layers == [1, 2]  # an encoder of this project teaches too
    with pytest.raises(EncoderError, match="has 3 transformer layers"):
        Teacher(str(teacher), (4,))


def test_a_teacher_with_other_frames_is_refused(config: DistillConfig, tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "slow", conv_stride=(5, 2, 2, 2, 2, 2, 4))
    with pytest.raises(EncoderError, match=r"every 640.*every 320.*wav2vec2-base-960h"):
        Distillation(dataclasses.replace(config, teacher=str(folder)), tmp_path)


def test_what_is_no_teacher_is_refused(config: DistillConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EncoderError, match="encoders here are: wav2vec2, hubert, wavlm"):
        Distillation(dataclasses.replace(config, teacher=str(tmp_path)), tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="hf download nobody/no-such-teacher"):
        Distillation(dataclasses.replace(config, teacher="nobody/no-such-teacher"), tmp_path)
    bare = save_teacher(tmp_path / "bare", "Wav2Vec2Model")
    with pytest.raises(ConfigError, match="no output layer"):
        Distillation(dataclasses.replace(config, teacher=str(bare), feature_weight=0.0), tmp_path)


def test_labelled_crops_train_the_phones_too(config: DistillConfig, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "labelled"
    folder.mkdir(parents=True)
    samples = (tones(SAMPLE_RATE, seed=7) * 32767).astype(np.int16)
    np.save(folder / "audio.npy", samples)
    np.save(folder / "labels.npy", np.repeat(np.arange(3, dtype=np.uint8), len(samples) // STEP // 3))
    row = {"start": 0, "length": len(samples), "label_start": 0, "phones": ""}
    (folder / "index.jsonl").write_text(json.dumps(row) + "\n")
    both = dataclasses.replace(config, cache=str(folder.parent), speech=("labelled",), shares=(1.0,), ctc_weight=0.1)
    for settings, is_trained in ((config, False), (both, True)):
        run = Distillation(settings, tmp_path)
        before = run.model.frame_output.weight.clone()
        losses(run, 2)
        assert torch.equal(run.model.frame_output.weight, before) != is_trained
    batches = iter(run.batches())
    labels = torch.cat([next(batches).labels for _ in range(5)])
    is_known = (labels != UNLABELLED).all(dim=1)
    assert 0 < is_known.sum() < len(labels)


def test_the_teacher_hears_what_was_spoiled_for_the_student() -> None:
    waveform = tones(SAMPLE_RATE, seed=8)
    spoiler = Spoiler(SpoilConfig())
    pair = SpoiledPair(spoiler).spoil(waveform, np.random.default_rng(1), lambda: waveform)
    assert np.array_equal(pair[0], waveform)
    assert np.array_equal(pair[1], spoiler.spoil(waveform, np.random.default_rng(1), lambda: waveform))
    clean = SpoiledPair(None).scale(waveform, np.random.default_rng(1))
    assert np.array_equal(clean, [waveform, waveform])


def test_recordings_of_any_rate_are_read_a_piece_at_a_time(audio: Path) -> None:
    corpus = AudioCorpus([str(audio)])
    assert corpus.hours == pytest.approx(15 / 3600)
    for index, row in enumerate(corpus.rows):
        piece, labels = corpus.piece(index, first_step=100, num_steps=50)
        assert piece.dtype == np.float32
        assert len(piece) == 50 * STEP
        assert set(labels) == {UNLABELLED}
        expected = read_audio(row["path"])[100 * STEP : 150 * STEP]
        assert np.abs(piece - expected)[100:-100].max() < 0.01  # a resampler needs some samples to begin and to end
        assert len(corpus.piece(index)[0]) == 3 * SAMPLE_RATE


def test_batches_of_recordings_are_a_function_of_their_step(audio: Path, config: DistillConfig) -> None:
    batches = SpeechBatches([(AudioCorpus([str(audio)]), 1.0)], WAV2VEC2_GEOMETRY, config.batches, SpoiledPair(None))
    assert torch.equal(batches.batch(3).waveforms, batches.batch(3).waveforms)
    assert batches.batch(3).waveforms.shape == (4, 2, WAV2VEC2_GEOMETRY.num_samples(40))


def test_unreadable_recordings_are_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    with pytest.raises(AudioError, match="can be read"):
        AudioCorpus([str(tmp_path)])
    soundfile.write(tmp_path / "good.wav", tones(SAMPLE_RATE, 1), SAMPLE_RATE)
    caplog.clear()
    assert len(AudioCorpus([str(tmp_path)]).rows) == 1
    assert "broken.wav" in caplog.text
    with pytest.raises(AudioError, match="doesn't exist"):
        AudioCorpus([str(tmp_path / "nowhere")])


def test_frames_are_aligned() -> None:
    answer, target = torch.arange(10.0)[None, :, None], torch.arange(9.0)[None, :, None]
    for delay in (0, 1, 3):
        late, wanted = aligned(answer, target, delay)
        assert late.shape == wanted.shape
        assert torch.equal(late - wanted, torch.full_like(late, delay))


def test_losses_on_hand_computed_cases() -> None:
    frames = torch.tensor([[[1.0, -1.0], [2.0, 0.0]]])
    at_best = np.log1p(np.exp(-1.0))
    assert float(feature_loss(frames, frames)) == pytest.approx(at_best)
    assert float(feature_loss(-frames, frames)) == pytest.approx(2.0 + np.log1p(np.e))
    logits = torch.tensor([[[0.0, np.log(3.0)]]], dtype=torch.float32)
    even = torch.zeros(1, 1, 2)
    assert float(logit_loss(logits, logits, 2.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(logit_loss(even, logits, 1.0)) == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5))
    softer = np.array([1.0, np.sqrt(3.0)]) / (1.0 + np.sqrt(3.0))
    assert float(logit_loss(even, logits, 2.0)) == pytest.approx(4 * float(np.sum(softer * np.log(2 * softer))))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"teacher": ""}, "teacher"),
        ({"audio": ()}, "audio"),
        ({"layers": (0,)}, "layers"),
        ({"delay_frames": 39}, "delay_frames"),
        ({"feature_weight": 0.0, "logit_weight": 0.0}, "feature_weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"audio_share": 0.0}, "audio_share"),
    ],
)
def test_impossible_settings_are_refused(config: DistillConfig, change: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        dataclasses.replace(config, **change)


def test_the_recipe_runs_two_steps(tiny_encoder_folder: Path, teacher: Path, audio: Path, tmp_path: Path) -> None:
    recipe = load_config(DistillConfig, RECIPE)
    assert recipe.teacher == "facebook/wav2vec2-base-960h"
    assert (RECIPE.parents[2] / recipe.initial / "config.json").is_file()
    here = [f"initial='{tiny_encoder_folder}'", f"teacher='{teacher}'", f"audio={audio}", "compiled=false"]
    settings = load_config(DistillConfig, RECIPE, [*here, "max_steps=2", "batches.batch_size=2", "delay_frames=2"])
    pretrain(settings, tmp_path, kind=Distillation)
    assert load_encoder(tmp_path / "encoder").output_layer is not None
    assert load_config(DistillConfig, tmp_path / "config.toml") == settings
