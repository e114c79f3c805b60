"""Head training learns, and a stopped run that goes on ends where an unbroken one does."""

import numpy as np
import pytest
import torch

from kws.model.head import Head
from kws.model.settings import HeadConfig
from kws.train.head_training import FrameSet, HeadTrainer, HeadTrainingConfig, head_loss
from kws.train.losses import NEGATIVE, LossConfig

HOP_S = 0.02
CONFIG = HeadTrainingConfig(epochs=6, rounds=3, batch_size=16, dropout=0.1, noise=0.05)


@pytest.fixture(scope="module")
def data():
    """Windows of noise; in positives a fixed pattern stands in the four frames up to the end."""
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((96, 60, 8)).astype(np.float16)
    ends = np.full(96, NEGATIVE, np.int64)
    pattern = 3 * rng.standard_normal((4, 8))
    for index in range(0, 96, 2):
        ends[index] = rng.integers(10, 45)
        frames[index, ends[index] - 3 : ends[index] + 1] += pattern.astype(np.float16)
    return FrameSet(frames, ends)


def trainer(data, checkpoint=None, config=CONFIG):
    torch.manual_seed(0)
    head = Head(8, 1, HeadConfig(hidden=16, kernel=3, dilation=1))
    return HeadTrainer(head, data, config, LossConfig(), HOP_S, seed=0, checkpoint=checkpoint)


def test_training_lowers_the_loss(data):
    config = HeadTrainingConfig(epochs=30, rounds=1, batch_size=16, learning_rate=1e-2, dropout=0.0)
    losses = trainer(data, config=config).run()
    assert losses[-1] < 0.3 * losses[0]


def test_a_stopped_run_goes_on_with_the_same_losses(data, tmp_path):
    unbroken = trainer(data).run()
    path = tmp_path / "head.ckpt"
    stopped = trainer(data, path)

    def stop_after_three(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop_after_three)
    assert path.is_file()
    assert trainer(data, path).run() == pytest.approx(unbroken, abs=1e-6)


@pytest.mark.parametrize("kind", ["conv", "gru"])
def test_halves_of_the_members_train_as_the_whole_head(data, kind):
    heads = [Head(8, 1, HeadConfig(kind=kind, hidden=8, members=3, kernel=3, dilation=1)) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    subjects = [HeadTrainer(head, data, CONFIG, LossConfig(), HOP_S, seed=0) for head in heads]
    subjects[1]._parts = [range(heads[1].config.num_members)]
    assert subjects[0].run() == pytest.approx(subjects[1].run(), rel=1e-4)
    if kind == "conv":
        assert subjects[0]._parts == [range(1), range(1, 3)]


def test_training_leaves_the_global_generator_alone(data):
    torch.manual_seed(1)
    subject = trainer(data)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    subject.run()
    assert torch.equal(before, torch.get_rng_state())


def test_members_learn_alone_and_answer_together():
    """The first member's gradient is what it would be without the second; the head's logit is the members' mean."""
    torch.manual_seed(0)
    pair = Head(4, 1, HeadConfig(hidden=3, members=2, kernel=2, dilation=1))
    alone = Head(4, 1, HeadConfig(hidden=3, members=1, kernel=2, dilation=1))
    alone.load_state_dict(
        {name: value[..., :3] if name == "output.weight" else value[:3] for name, value in pair.state_dict().items()}
    )
    frames, ends = torch.randn(2, 30, 4), torch.tensor([12, NEGATIVE])
    logits, _ = pair.member_logits(frames, pair.initial_cache(2))
    assert torch.allclose(logits[..., 0], alone(frames, alone.initial_cache(2))[0], atol=1e-6)
    assert torch.allclose(pair(frames, pair.initial_cache(2))[0], logits.mean(3))
    for head in (pair, alone):
        head_loss(head, frames, ends, LossConfig(), 0.02).backward()
    assert torch.allclose(pair.temporal.weight.grad[:3], alone.temporal.weight.grad / 2, atol=1e-6)
