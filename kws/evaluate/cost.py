"""What listening costs: CPU seconds per second of audio and peak memory, of a fresh process that does only that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.samples import block_size
from kws.detect.detector import load
from kws.detect.runtime import Backend
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE

BLOCK_S = 0.08
"""What a microphone gives at a time, in seconds."""
ROUND_S = 4.0
NUM_ROUNDS = 5
"""The median of so many rounds is taken: other work on the machine disturbs some."""
SHARE_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_STATUS = Path("/proc/self/status")
_CHILD = "import sys, kws.evaluate.cost as cost; cost.measure_here(sys.stdout.write, *sys.argv[1:])"


@dataclass(frozen=True)
class Cost:
    """What one stream costs, fed as by a microphone.

    Attributes:
        cpu_s_per_s: CPU seconds of all threads, user and system, per second of audio.
        peak_memory_mb: the most memory that the process ever had, Python and libraries included; None where the system
            doesn't tell.
    """

    cpu_s_per_s: float
    peak_memory_mb: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the values, for JSON."""
        return asdict(self)


def measure_cost(model: str, backend: Backend = "auto") -> Cost:
    """Returns what listening for the wake word `model` costs, on one thread, in a process of its own.

    Args:
        model: folder, `.kws` file or name.
        backend: what runs its encoder.

    Raises:
        ConfigError: the process failed; with its last line.
    """
    environment = os.environ | dict.fromkeys(SHARE_THREADS, "1")
    command = [sys.executable, "-c", _CHILD, model, backend]
    child = subprocess.run(command, capture_output=True, text=True, env=environment)
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"the cost of '{model}' can't be measured ({last}); --no-cost leaves it out")
    return Cost(**json.loads(child.stdout))


def measure_here(write: Callable[[str], object], model: str, backend: Backend) -> None:
    """Listens to noise with `model` in this process and writes the cost as JSON."""
    stream = load(model, backend=backend).stream()
    noise = np.random.default_rng(0).normal(0, 0.05, round(ROUND_S * SAMPLE_RATE)).astype(np.float32)
    size, spent_s = block_size(BLOCK_S), []
    for _ in range(NUM_ROUNDS):
        began_s = time.process_time()
        for start in range(0, len(noise), size):
            stream.feed(noise[start : start + size])
        spent_s.append(time.process_time() - began_s)
    write(json.dumps(Cost(float(np.median(spent_s)) / ROUND_S, _peak_memory_mb()).to_dict()))


def _peak_memory_mb() -> float | None:
    if _STATUS.is_file():  # Linux; getrusage there begins with the memory of the process that started this one
        peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(peak.split()[1]) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:
        return None
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)
