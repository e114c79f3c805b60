"""Tiny checkpoints of the architectures that run by window, as `save_pretrained` writes them."""

from __future__ import annotations

import json
from pathlib import Path

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 5,
}
LABELS = ("<pad>", "A", "B", "C", "|")
KINDS = ["Wav2Vec2", "Hubert", "WavLM"]


def build_checkpoint(folder: Path, kind: str, **settings: object) -> Path:
    """Writes a randomly initialised checkpoint of `kind` to `folder`, and returns it."""
    import torch
    import transformers

    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**{**SIZES, **settings})
        getattr(transformers, f"{kind}ForCTC")(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}', encoding="utf-8")
    vocabulary = {label: index for index, label in enumerate(LABELS)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return folder
