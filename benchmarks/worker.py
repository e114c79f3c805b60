"""One engine in a process of its own: reads commands from standard input, answers each with a line of JSON.

It runs in the engine's own environment, where `kws` may be missing: NumPy is all that it shares with the others.
Commands: `round` hears the audio once, `soak SEED` an hour; `starts` counts what fires at once in fresh streams.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RATE = 16_000
CHUNK = 1280
"""Samples: 80 ms, what a microphone gives and openWakeWord takes at a time."""
START_S = 1.0
"""After a reset, in which nothing may fire."""

Feed = Callable[[Any], bool]
"""Takes int16 samples and returns whether a keyword fired."""


def kws_streams(options: dict[str, Any]) -> Iterator[Feed]:
    """Yields fresh streams of this project's detector; the detector is shared."""
    import kws

    detector = kws.load(
        *options["models"], backend=options.get("backend", "auto"), block_ms=options.get("block_ms", 0),
        gate=options.get("gate", False),
    )  # fmt: skip
    while True:
        stream = detector.stream()
        yield lambda chunk, stream=stream: bool(stream.feed(chunk))


def openwakeword_streams(options: dict[str, Any]) -> Iterator[Feed]:
    """Yields fresh openWakeWord models: its state is in the model."""
    from openwakeword.model import Model

    folder = Path(sys.modules["openwakeword"].__file__).parent / "resources" / "models"
    framework = options.get("framework", "onnx")
    suffix = "onnx" if framework == "onnx" else "tflite"
    paths = [str(folder / f"{name}_v0.1.{suffix}") for name in options["models"]]
    while True:
        model = Model(wakeword_models=paths, inference_framework=framework)
        yield lambda chunk, model=model: max(model.predict(chunk).values()) >= 0.5


def pocketsphinx_streams(options: dict[str, Any]) -> Iterator[Feed]:
    """Yields fresh PocketSphinx decoders that search for phrases."""
    import tempfile

    from pocketsphinx import Decoder

    with tempfile.NamedTemporaryFile("w", suffix=".list") as file:
        file.write("".join(f"{phrase} /1e-20/\n" for phrase in options["models"]))
        file.flush()
        while True:
            decoder = Decoder(kws=file.name, loglevel="FATAL")
            decoder.start_utt()

            def feed(chunk: Any, decoder: Any = decoder) -> bool:
                decoder.process_raw(chunk.tobytes(), False, False)
                if decoder.hyp() is None:
                    return False
                decoder.end_utt()
                decoder.start_utt()
                return True

            yield feed


ENGINES = {"kws": kws_streams, "openwakeword": openwakeword_streams, "pocketsphinx": pocketsphinx_streams}


def main() -> None:
    """Loads the engine named by the first argument with the JSON of the second, and serves standard input."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    options = json.loads(sys.argv[2])
    streams = ENGINES[sys.argv[1]](options)
    feeds = [next(streams)]
    import numpy as np

    audio = np.fromfile(options["audio"], np.int16)
    for start in range(0, RATE, CHUNK):  # the first score comes within a second
        feeds[0](audio[start : start + CHUNK])
    loaded = {"wall_s": time.perf_counter() - began_s, "cpu_s": time.process_time() - began_cpu_s}
    feeds += [next(streams) for _ in range(options.get("streams", 1) - 1)]
    print(json.dumps({"loaded": loaded} | memory()), flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        answer = COMMANDS[command](feeds, audio, streams, *arguments)
        print(json.dumps(answer | memory()), flush=True)


def hear_round(feeds: list[Feed], audio: Any, streams: Iterator[Feed]) -> dict[str, float]:
    """Returns CPU seconds per second of audio and stream."""
    began_s = time.process_time()
    for start in range(0, len(audio) - CHUNK + 1, CHUNK):
        chunk = audio[start : start + CHUNK]
        for feed in feeds:
            feed(chunk)
    return {"cpu_s_per_s": (time.process_time() - began_s) / (len(audio) / RATE) / len(feeds)}


def soak(feeds: list[Feed], audio: Any, streams: Iterator[Feed], seed: str) -> dict[str, Any]:
    """Hears another hour of audio, at levels that change from minute to minute; the answer tells the memory in use."""
    import numpy as np

    rng = np.random.default_rng(int(seed))
    for _ in range(60):
        gain = 10 ** (rng.uniform(-30, 0) / 20)
        minute = (np.resize(np.roll(audio, int(rng.integers(len(audio)))), 60 * RATE) * gain).astype(np.int16)
        for start in range(0, len(minute), CHUNK):
            feeds[0](minute[start : start + CHUNK])
    return {}


def count_starts(feeds: list[Feed], audio: Any, streams: Iterator[Feed], path: str) -> dict[str, int]:
    """Returns in how many of the clips at `path`, each heard by a fresh stream, something fires at once."""
    import numpy as np

    clips = np.load(path)
    fired = 0
    for clip in clips:
        feed = next(streams)
        fired += any([feed(clip[start : start + CHUNK]) for start in range(0, round(START_S * RATE), CHUNK)])
    return {"clips": len(clips), "fired": fired}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {"round": hear_round, "soak": soak, "starts": count_starts}


def memory() -> dict[str, float | None]:
    """Returns what the process has in memory, and the most that it ever had, in MB (10⁶ bytes)."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return {"resident_mb": None, "peak_mb": None}
    values = dict(line.split(":", 1) for line in status.read_text().splitlines())
    in_mb = {name: round(int(values[key].split()[0]) * 1024 / 1e6, 1) for name, key in _MEMORY.items()}
    return dict(in_mb)


_MEMORY = {"resident_mb": "VmRSS", "peak_mb": "VmHWM"}

if __name__ == "__main__":
    main()
