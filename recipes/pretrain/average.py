"""Averages the weights of several runs that began from each other, and measures the result on held-out speech.

ENCODER=WEIGHT … ──▶ mean of their weights, the convolutions of the last ──▶ OUT ──▶ phone error rates

    python recipes/pretrain/average.py --out runs/pretrain/average --cache runs/pretrain/cache \
        runs/pretrain/first/encoder=0.2 runs/pretrain/second/encoder=0.3 runs/pretrain/third/encoder=0.5

Given one encoder, and no `--out`, it measures that one. The convolutions are not averaged, so that the last one's bank
of real speech fits the result: recipes/bank.

Source: Izmailov et al. 2018, arXiv:1803.05407; Wortsman et al. 2022, arXiv:2203.05482.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from kws.train.phone_error import measure_phones
from kws.train.phone_model import PhoneModel
from kws.train.pretrain_config import PretrainConfig
from kws.train.speech_cache import SpeechCache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "encoders", nargs="+", type=weighted, help="encoder folders, each with =WEIGHT if it is not to count as 1"
    )
    parser.add_argument("--out", type=Path, help="encoder folder to write")
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared speech")
    parser.add_argument("--measure", nargs="*", default=["librispeech-mini-dev", "speechocean762-test"])
    arguments = parser.parse_args()
    model = averaged(*zip(*arguments.encoders, strict=True))
    if arguments.out:
        model.save(arguments.out, has_ctc=True)
    for corpus in arguments.measure:
        cache = SpeechCache(arguments.cache / corpus)
        score = measure_phones(
            model,
            cache,
            model.geometry,
            PretrainConfig.measure_minutes,
            PretrainConfig.measure_block_frames,
            PretrainConfig.measure_left_context_frames,
        )
        print(json.dumps(score.as_dict()))


def weighted(text: str) -> tuple[Path, float]:
    """Returns the folder and the weight of "FOLDER=WEIGHT" or "FOLDER"; raises ValueError if that is no number."""
    folder, _, weight = text.partition("=")
    return Path(folder), float(weight or 1)


def averaged(folders: Sequence[Path], weights: Sequence[float]) -> PhoneModel:
    """Returns the mean of the models in `folders`, each counted `weights` times, with the convolutions of the last.

    Raises:
        EncoderError: a folder holds no whole encoder.
        ConfigError: an encoder has no output layer.
    """
    models = [PhoneModel.from_folder(folder) for folder in folders]
    shares = [weight / sum(weights) for weight in weights]
    mean = models[-1].eval()
    kept = set(mean.encoder.convolutions.parameters())
    with torch.no_grad():
        for name, parameter in mean.named_parameters():
            if parameter not in kept:
                values = [model.get_parameter(name) * share for model, share in zip(models, shares, strict=True)]
                parameter.copy_(torch.stack(values).sum(0))
    return mean


if __name__ == "__main__":
    main()
