"""Where half the bits are worth it: which devices multiply bfloat16, and which would only imitate it."""

from __future__ import annotations

import torch


def multiplies_bfloat16(device: str) -> bool:
    """Returns whether `device` ("cpu" or "cuda") has instructions for bfloat16 products, so that it gains by them.

    A processor without them still computes, tens of times slower than in float32.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
