"""Sends the same recording to a running `kws serve` from many Wyoming clients at once, and counts what comes back.

Launch:
    kws serve hey_computer &
    python demo/many_clients.py talk.wav --clients 50            # at the speed of speech, as satellites would
    python demo/many_clients.py talk.wav --clients 50 --fast     # as fast as the server takes it

Prints how many detections each client got, how late it was told that all its audio was heard, and what the server
counted: audio heard and lost, and the time that audio waited.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiohttp import ClientSession
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection

from kws.audio.io import read_audio
from kws.audio.samples import pcm16_from_waveform
from kws.frames import SAMPLE_RATE

CHUNK_SAMPLES = 1024
"""What satellites send at a time."""
FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}
COUNTS = r"^(kws_(?:dropped_\w+|audio_seconds|busy_seconds|lag_seconds)_(?:total|sum|count).*|process_cpu\S* .*)$"


@dataclass(frozen=True)
class Outcome:
    """What one client saw: detections of each keyword, and how long after its last audio the end was confirmed."""

    counts: tuple[tuple[str, int], ...]
    late_s: float


async def run_client(uri: str, waveform: np.ndarray, is_fast: bool, delay_s: float) -> Outcome:
    """Sends `waveform`, (num_samples,) float32, 16 kHz, from one client and returns what it saw."""
    await asyncio.sleep(delay_s)
    async with AsyncClient.from_uri(uri) as client:
        answers = asyncio.create_task(_read_answers(client))
        await client.write_event(Detect().event())
        await client.write_event(AudioStart(**FORMAT).event())
        began_s = time.monotonic()
        for start in range(0, len(waveform), CHUNK_SAMPLES):
            chunk = waveform[start : start + CHUNK_SAMPLES]
            if not is_fast:
                due_s = began_s + (start + len(chunk)) / SAMPLE_RATE
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await client.write_event(AudioChunk(**FORMAT, audio=pcm16_from_waveform(chunk).tobytes()).event())
        await client.write_event(AudioStop().event())
        await client.write_event(Ping().event())
        ended_s = time.monotonic()
        counts = await answers
        return Outcome(tuple(sorted(counts.items())), time.monotonic() - ended_s)


async def run_clients(uri: str, waveform: np.ndarray, num_clients: int, is_fast: bool) -> list[Outcome]:
    """Returns what `num_clients` clients saw; live ones start spread over a second."""
    delays = [0.0 if is_fast else index / num_clients for index in range(num_clients)]
    return await asyncio.gather(*(run_client(uri, waveform, is_fast, delay_s) for delay_s in delays))


async def _read_answers(client: AsyncClient) -> Counter[str]:
    counts: Counter[str] = Counter()
    while (event := await client.read_event()) is not None and not Pong.is_type(event.type):
        if Detection.is_type(event.type):
            counts[Detection.from_event(event).name or "?"] += 1
    return counts


async def _server_counts(url: str) -> list[str]:
    async with ClientSession() as session, session.get(f"{url}/metrics") as answer:
        return re.findall(COUNTS, await answer.text(), re.MULTILINE)


def main() -> int:
    """Prints what the clients saw; returns 1 if they did not all see the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, help="any audio file")
    parser.add_argument("--clients", type=int, default=50, help="how many at once")
    parser.add_argument("--fast", action="store_true", help="don't wait for the speed of speech")
    parser.add_argument("--uri", default="tcp://127.0.0.1:10400", help="of the server, for Wyoming")
    parser.add_argument("--web", default="http://127.0.0.1:10401", help="of the server, for its counts")
    arguments = parser.parse_args()
    waveform = read_audio(arguments.recording)
    began_s = time.monotonic()
    outcomes = asyncio.run(run_clients(arguments.uri, waveform, arguments.clients, arguments.fast))
    took_s, total_s = time.monotonic() - began_s, arguments.clients * len(waveform) / SAMPLE_RATE
    print(
        f"{arguments.clients} clients, {total_s:.0f} s of audio in {took_s:.1f} s: {total_s / took_s:.1f} × real time"
    )
    for counts, num_clients in Counter(outcome.counts for outcome in outcomes).items():
        print(f"  {num_clients} clients heard {dict(counts) or 'nothing'}")
    late_s = sorted(outcome.late_s for outcome in outcomes)
    print(f"  end confirmed after {late_s[len(late_s) // 2]:.3f} s in the middle, {late_s[-1]:.3f} s at the latest")
    print(*(f"  {line}" for line in asyncio.run(_server_counts(arguments.web))), sep="\n")
    return int(len({outcome.counts for outcome in outcomes}) > 1)


if __name__ == "__main__":
    sys.exit(main())
