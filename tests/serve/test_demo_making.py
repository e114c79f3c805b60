"""Takes from a page's microphone, and training beside the detection."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse
from demo_server import connect, receive, serve
from serving import pcm16, run

from kws.model.artefact import load_wakeword


class TestTakes:
    def phrases(self, number: int, gain: float = 0.2) -> np.ndarray:
        """Returns a second of a quiet room, then what is as long as phrases, with pauses."""
        rng = np.random.default_rng(0)
        pieces = [np.zeros(20_000)]
        for _ in range(number):
            pieces += [gain * rng.normal(0, 1, 12_000) * np.hanning(12_000), np.zeros(16_000)]
        waveform = np.concatenate(pieces)
        return np.clip(waveform + rng.normal(0, 1e-4, len(waveform)), -1, 1).astype(np.float32)

    async def record(self, socket: ClientWebSocketResponse, waveform: np.ndarray, count: int) -> list[dict[str, Any]]:
        await socket.send_json({"type": "choose", "names": []})
        await socket.send_json({"type": "start", "rate": 16_000})
        await socket.send_json({"type": "record", "count": count})
        await socket.send_bytes(pcm16(waveform).tobytes())
        told = [await receive(socket, "takes")]
        while told[-1]["state"] != "ended":
            told.append(await receive(socket, "takes"))
        return told

    def test_good_ones_are_kept_played_and_dropped(self, folder: Path) -> None:
        async def talk(url: str) -> None:
            async with connect(url) as socket:
                told = await self.record(socket, self.phrases(3), 2)
                states = [one["state"] for one in told]
                assert states == ["room", "say", "kept", "say", "kept", "ended"]
                first = told[2]
                assert first["duration_s"] == pytest.approx(1.2, abs=0.4)
                assert max(first["peaks"]) == 1.0
                async with ClientSession() as session, session.get(f"{url}/takes/{first['take']}") as response:
                    assert (await response.read())[:4] == b"RIFF"
                await socket.send_json({"type": "drop_take", "take": first["take"]})
                left = await receive(socket, "takes")
                assert [one["take"] for one in left["left"]] == [told[4]["take"]]
            async with ClientSession() as session, session.get(f"{url}/takes/{told[4]['take']}") as response:
                assert response.status == 404  # the page went away, and its takes with it

        with serve(folder) as serving:
            run(talk(serving.web))

    def test_clipped_ones_are_refused_with_the_reason(self, folder: Path) -> None:
        async def talk(url: str) -> list[dict[str, Any]]:
            async with connect(url) as socket:
                await socket.send_json({"type": "choose", "names": []})
                await socket.send_json({"type": "start", "rate": 16_000})
                await socket.send_json({"type": "record", "count": 2})
                await socket.send_bytes(pcm16(self.phrases(1, gain=5.0)).tobytes())
                refused = await receive(socket, "takes")
                while refused["state"] != "refused":
                    refused = await receive(socket, "takes")
                await socket.send_json({"type": "end_record"})
                ended = await receive(socket, "takes")
                while ended["state"] != "ended":
                    ended = await receive(socket, "takes")
                return [refused, ended]

        with serve(folder) as serving:
            refused, ended = run(talk(serving.web))
        assert "clipping" in refused["reasons"][0]
        assert ended["num_takes"] == 0


class TestTraining:
    """In a process of its own, which needs torch."""

    @pytest.fixture
    def overrides(self, tiny_encoder_folder: Path) -> tuple[str, ...]:
        tiny = ["pool.num_voices=3", "pool.num_validation_voices=2", "windows.num_positives=16"]
        tiny += ["windows.num_negatives=16", "validation_windows=2", "training.epochs=2", "training.rounds=1"]
        return (*tiny, f"encoder.name={json.dumps(str(tiny_encoder_folder))}")

    def test_every_page_sees_it_and_it_outlives_the_page(self, folder: Path, overrides: tuple[str, ...]) -> None:
        takes = TestTakes()

        async def talk(url: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
            async with connect(url) as other:
                async with connect(url) as socket:
                    await takes.record(socket, takes.phrases(3), 3)
                    await socket.send_json({"type": "train", "phrase": "Hey Computer!", "method": "enrol"})
                    states = [await receive(other, "training")]
                    await socket.send_json({"type": "train", "phrase": "lumos", "method": "text"})
                    assert "is being trained" in (await receive(socket, "problem"))["text"]
                while states[-1]["type"] == "training":
                    states.append(await receive(other, "training", "trained"))
                return states, states[-1]

        with serve(folder, overrides=overrides) as serving:
            states, trained = asyncio.run(talk(serving.web))
        assert {state["state"] for state in states[:-1]} == {"running"}
        assert {"starting", "training"} <= {state["stage"] for state in states[:-1]}
        assert trained["name"] == "hey_computer_2"  # nothing that is there is overwritten
        assert load_wakeword(folder / "hey_computer_2").details["method"] == "enrolment"
        assert not (folder / "hey_computer_2/clips").exists()

    def test_cancelling_ends_it(self, folder: Path, overrides: tuple[str, ...]) -> None:
        async def talk(url: str) -> dict[str, Any]:
            async with connect(url) as socket:
                await socket.send_json({"type": "train", "phrase": "lumos", "method": "text"})
                await receive(socket, "training")
                await socket.send_json({"type": "cancel"})
                state = await receive(socket, "training")
                while state["state"] in ("running", "cancelling"):
                    state = await receive(socket, "training")
                return state

        with serve(folder, overrides=(*overrides, "pool.num_voices=500")) as serving:
            assert asyncio.run(talk(serving.web))["state"] == "cancelled"
        assert not (folder / "lumos/wakeword.json").exists()

    def test_a_failure_is_told(self, folder: Path) -> None:
        async def talk(url: str) -> dict[str, Any]:
            async with connect(url) as socket:
                await socket.send_json({"type": "train", "phrase": "lumos", "method": "text"})
                state = await receive(socket, "training")
                while state["state"] == "running":
                    state = await receive(socket, "training")
                return state

        with serve(folder, overrides=("training.no_such_key=1",)) as serving:
            state = asyncio.run(talk(serving.web))
        assert state["state"] == "failed"
        assert "unknown config key 'training.no_such_key'" in state["text"]
