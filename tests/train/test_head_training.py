"""Head training learns, and a stopped run that goes on ends where an unbroken one does."""

import numpy as np
import pytest
import torch

from kws.model.head import Head
from kws.model.settings import HeadConfig
from kws.train.head_training import FrameSet, HeadTrainer, HeadTrainingConfig
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


def test_training_leaves_the_global_generator_alone(data):
    torch.manual_seed(1)
    subject = trainer(data)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    subject.run()
    assert torch.equal(before, torch.get_rng_state())
