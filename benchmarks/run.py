"""Cost and memory against openWakeWord and PocketSphinx in one run, one thread, 80 ms at a time; growth; soak.

Launch (from the repository, with kws[train] installed and a package index in reach):
    python benchmarks/run.py --work /tmp/kws-benchmarks --out benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from environments import ROOT, Environment, last_change, make_environment
from sounds import write_keywords, write_minute, write_noisy_clips
from table import write_table

PEERS = {
    "openWakeWord": ("openwakeword==0.5.1",),  # the last one whose wheel holds its models
    "openWakeWord, tflite": ("openwakeword==0.5.1", "numpy<2"),  # its tflite-runtime needs the old NumPy
    "PocketSphinx": ("pocketsphinx==5.1.1", "numpy"),
}
OURS = "kws"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
COUNTS = (1, 10, 50)
PEER_COUNTS = (1, 6)
"""openWakeWord 0.5.1 comes with six keywords."""
OPENWAKEWORD_MODELS = ("alexa", "hey_jarvis", "hey_mycroft", "hey_rhasspy", "timer", "weather")
NUM_WAKE_WORDS = 4
"""The first four of them: the others tell commands apart, and one of their outputs is always high."""


class Worker:
    """A process that hears with one engine.

    Args:
        environment: what it runs in.
        engine: as `worker.py` calls it.
        options: of the engine.
    """

    def __init__(self, environment: Environment, engine: str, options: Mapping[str, Any]) -> None:
        command = [environment.python, Path(__file__).with_name("worker.py"), engine, json.dumps(options)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_clean_environment(), cwd="/"
        )
        self.loaded = self._answer()

    def ask(self, command: str) -> dict[str, Any]:
        """Returns the answer to `command`."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args}: ended with exit code {self._process.wait()}")
        return json.loads(line)


class Bench:
    """All that the measurements share.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.work: Path = arguments.work
        self.work.mkdir(parents=True, exist_ok=True)
        self._environments: dict[str, Environment] = {}
        self.audio = str(write_minute(self.work / "minute.raw"))
        self.keywords = write_keywords(arguments.model, self.work, max(COUNTS))

    def environment(self, name: str) -> Environment:
        """Returns the environment of an engine, made where none is there yet."""
        if name not in self._environments:
            if name == OURS:
                changed = last_change(ROOT / "kws", ROOT / "pretrained")
                arguments = ("-c", str(ROOT / "constraints.txt"), str(ROOT))
                made = make_environment(self.work / "env-kws", *arguments, newer_than=changed)
            else:
                made = make_environment(self.work / f"env-{list(PEERS).index(name)}", *PEERS[name])
            self._environments[name] = made
        return self._environments[name]

    def ours(self, num_keywords: int = 1, **options: Any) -> Worker:
        """Returns a worker of this project's."""
        models = self.keywords[:num_keywords]
        return Worker(self.environment(OURS), "kws", {"models": models, "audio": self.audio} | options)

    def peer(self, name: str, num_keywords: int = 1) -> Worker:
        """Returns a worker of another engine's."""
        is_sphinx = name == "PocketSphinx"
        models = ["hey computer"] if is_sphinx else list(OPENWAKEWORD_MODELS[:num_keywords])
        options = {"models": models, "audio": self.audio, "framework": "tflite" if "tflite" in name else "onnx"}
        return Worker(self.environment(name), "pocketsphinx" if is_sphinx else "openwakeword", options)

    def write(self, name: str, results: Mapping[str, Any]) -> None:
        """Writes the results of a measurement as JSON."""
        machine = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
        text = json.dumps({"machine": machine, "results": results}, indent=1)
        (self.arguments.out / f"{name}.json").write_text(text + "\n")

    def interleaved(self, workers: Mapping[str, Worker]) -> dict[str, dict[str, Any]]:
        """Returns CPU seconds per second of audio and stream, and memory, of rounds that the workers take in turn."""
        spent: dict[str, list[float]] = {name: [] for name in workers}
        last: dict[str, dict[str, Any]] = {}
        for _ in range(self.arguments.rounds):
            for name, worker in workers.items():
                last[name] = worker.ask("round")
                spent[name].append(last[name]["cpu_s_per_s"])
        for worker in workers.values():
            worker.close()
        return {
            name: {
                "cpu_s_per_s": float(np.median(values)),
                "peak_mb": last[name]["peak_mb"],
                "resident_mb": last[name]["resident_mb"],
                "rounds": values,
            }
            for name, values in spent.items()
        }


def engines(bench: Bench) -> dict[str, Any]:
    """One keyword, one stream: every engine, and the dials of ours."""
    workers = {
        OURS: bench.ours(),
        "kws, float32": bench.ours(backend="onnx"),
        "kws, 320 ms blocks": bench.ours(block_ms=320),
        "kws, 640 ms blocks": bench.ours(block_ms=640),
        "kws, gate": bench.ours(gate=True),
        **{name: bench.peer(name) for name in PEERS},
    }
    return bench.interleaved(workers)


def keywords(bench: Bench) -> dict[str, Any]:
    """Growth with keywords."""
    workers = {f"kws, {count}": bench.ours(count) for count in COUNTS}
    workers |= {f"openWakeWord, {count}": bench.peer("openWakeWord", count) for count in PEER_COUNTS}
    return bench.interleaved(workers)


def streams(bench: Bench) -> dict[str, Any]:
    """Growth with streams of one detector; the cost is that of one stream."""
    return bench.interleaved({f"kws, {count}": bench.ours(streams=count) for count in COUNTS})


def cold_start(bench: Bench) -> dict[str, Any]:
    """From the first import to a second of audio heard, in fresh processes, in turn; the medians."""
    makers: dict[str, Callable[[], Worker]] = {OURS: bench.ours}
    makers |= {name: lambda name=name: bench.peer(name) for name in PEERS}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in makers}
    for _ in range(bench.arguments.rounds):
        for name, make in makers.items():
            worker = make()
            found[name].append(worker.loaded["loaded"])
            worker.close()
    return {
        name: {key: float(np.median([one[key] for one in all_])) for key in all_[0]} for name, all_ in found.items()
    }


def disk(bench: Bench) -> dict[str, Any]:
    """What installing each engine adds to an empty environment."""
    return {
        name: {"added_mb": bench.environment(name).added_mb, "versions": bench.environment(name).versions}
        for name in (OURS, *PEERS)
    }


def starts(bench: Bench) -> dict[str, Any]:
    """Clips of noise and talk, each to a fresh stream: in how many something fires within the first second."""
    clips = write_noisy_clips(bench.work / "clips.npy", bench.arguments.clips)
    workers = {OURS: bench.ours(), "openWakeWord": bench.peer("openWakeWord", NUM_WAKE_WORDS)}
    answers = {name: worker.ask(f"starts {clips}") for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return answers


def soak(bench: Bench) -> dict[str, Any]:
    """Memory after every hour of audio through one stream; each hour is written, so that it may be broken off."""
    worker, resident_mb = bench.ours(), []
    for hour in range(bench.arguments.hours):
        resident_mb.append(worker.ask(f"soak {hour}")["resident_mb"])
        print(f"{hour + 1} h: {resident_mb[-1]} MB", flush=True)
        bench.write("soak", {"hours": len(resident_mb), "resident_mb_by_hour": resident_mb})
    worker.close()
    return {"hours": len(resident_mb), "resident_mb_by_hour": resident_mb}


MEASUREMENTS = {
    measurement.__name__: measurement for measurement in (engines, keywords, streams, cold_start, disk, starts, soak)
}


def main() -> None:
    """Runs the measurements asked for, writes each as JSON, and the table of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for environments and audio; kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="folder for results")
    parser.add_argument("--model", default=str(ROOT / "pretrained/hey_computer"), help="the wake word")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="some of them")
    parser.add_argument("--rounds", type=int, default=7, help="a minute of audio each")
    parser.add_argument("--clips", type=int, default=200, help="for starts")
    parser.add_argument("--hours", type=int, default=24, help="of audio for the soak")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments)
    for name in arguments.only:
        print(f"{name}: {MEASUREMENTS[name].__doc__}", flush=True)
        bench.write(name, MEASUREMENTS[name](bench))
    print(write_table(arguments.out))


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | ONE_THREAD


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
