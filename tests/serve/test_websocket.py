"""WebSocket clients, metrics, and who may connect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from serving import PATIENCE_S, Serve, Serving, mute_client, pcm16, run

from kws.detect.detector import Detector


@asynccontextmanager
async def connect(url: str, **options: Any) -> AsyncIterator[ClientWebSocketResponse]:
    """Yields a connection whose `ready` was read."""
    async with ClientSession() as session, session.ws_connect(f"{url}/ws", **options) as socket:
        assert (await socket.receive_json(timeout=PATIENCE_S))["type"] == "ready"
        yield socket


async def converse(url: str, *messages: bytes | dict[str, Any]) -> list[dict[str, Any]]:
    """Returns all answers to `messages` up to the one that tells the stop, or the connection's end."""
    async with connect(url) as socket:
        for message in messages:
            await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_json(message))
        return await rest(socket)


async def rest(socket: ClientWebSocketResponse) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    while (message := await socket.receive(timeout=PATIENCE_S)).type == WSMsgType.TEXT:
        answers.append(json.loads(message.data))
        if answers[-1]["type"] == "stopped":
            break
    return answers


def of_type(answers: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [answer for answer in answers if answer["type"] == kind]


def offline(detector: Detector, waveform: np.ndarray) -> list[dict[str, Any]]:
    stream = detector.stream()
    return [
        {
            "type": "detection",
            "keyword": one.keyword,
            "score": pytest.approx(one.score, abs=1e-3),
            "start_s": pytest.approx(one.start_s, abs=1e-3),
            "end_s": pytest.approx(one.end_s, abs=1e-3),
        }
        for one in stream.feed(waveform) + stream.flush()
    ]


class TestConversation:
    def test_detections_are_those_of_offline_detection(
        self, serve: Serve, eager_detector: Detector, noise: np.ndarray
    ) -> None:
        audio = pcm16(noise).tobytes()
        pieces = [audio[start : start + 1_111] for start in range(0, len(audio), 1_111)]  # cuts samples in two
        with serve() as serving:
            answers = run(converse(serving.web, *pieces, {"type": "stop"}))
        expected = offline(eager_detector, pcm16(noise))
        assert of_type(answers, "detection") == expected
        assert answers[-1] == {
            "type": "stopped",
            "end_s": pytest.approx(len(noise) / 16_000, abs=1e-3),
            "detections": len(expected),
            "dropped_blocks": 0,
        }

    def test_floats_keywords_and_scores(self, serve: Serve, noise: np.ndarray) -> None:
        start = {"type": "start", "float": True, "keywords": ["go on"], "scores": True}
        with serve() as serving:
            answers = run(converse(serving.web, start, noise.astype("<f4").tobytes(), {"type": "stop"}))
        assert of_type(answers, "ready")[0] | {"thresholds": []} == {
            "type": "ready",
            "keywords": ["go on"],
            "thresholds": [],
            "rate": 16_000,
            "width": 4,
            "channels": 1,
            "float": True,
        }
        assert {answer["keyword"] for answer in of_type(answers, "detection")} == {"go on"}
        scores = of_type(answers, "scores")
        assert scores
        assert all(set(answer["scores"]) == {"go on"} and 0 <= answer["scores"]["go on"] <= 1 for answer in scores)

    def test_a_second_stream_begins_at_zero(self, serve: Serve, noise: np.ndarray) -> None:
        async def twice(url: str) -> list[list[dict[str, Any]]]:
            async with connect(url) as socket:
                heard = []
                for _ in range(2):
                    await socket.send_bytes(pcm16(noise).tobytes())
                    await socket.send_json({"type": "stop"})
                    heard.append(await rest(socket))
                return heard

        with serve() as serving:
            first, second = run(twice(serving.web))
        assert of_type(first, "detection") == of_type(second, "detection") != []

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            ({"type": "begin"}, "type 'begin'"),
            ({"rate": 16_000}, "no JSON object with a 'type'"),
            ({"type": "start", "rate": "fast"}, "rate 'fast'"),
            ({"type": "start", "width": 2, "float": True}, "floats of 2 bytes"),
            ({"type": "start", "float": "yes"}, "expected true or false"),
            ({"type": "start", "keywords": ["alexa"]}, "no keyword 'alexa'"),
            ({"type": "start", "keywords": "go on"}, "list of names"),
        ],
    )
    def test_what_breaks_the_rules_is_told_and_ends_the_connection(
        self, serve: Serve, message: dict[str, Any], reason: str
    ) -> None:
        with serve() as serving:
            answers = run(converse(serving.web, message))
            assert reason in answers[-1]["text"]
            assert any(reason in line for line in serving.reports)

    def test_floats_that_are_no_audio(self, serve: Serve) -> None:
        bad = np.full(16_000, np.nan, "<f4").tobytes()
        with serve() as serving:
            answers = run(converse(serving.web, {"type": "start", "float": True}, bad))
        assert "NaN" in of_type(answers, "error")[0]["text"]

    def test_a_message_that_is_too_long(self, serve: Serve) -> None:
        async def close_code(url: str) -> int | None:
            async with connect(url) as socket:
                await socket.send_bytes(bytes(5_000))
                await socket.receive(timeout=PATIENCE_S)
                return socket.close_code

        with serve(max_message_bytes=4_096) as serving:
            assert run(close_code(serving.web)) == 1009
            serving.wait_for(lambda: any("could not be read" in line for line in serving.reports))

    def test_a_client_that_takes_no_answer_is_ended_and_harms_no_other(
        self, serve: Serve, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kws.serve.client.MAX_UNREAD_BYTES", 4096)
        question = b'{"type": "start"}'
        frame = bytes([0x81, 0x80 | len(question)]) + bytes(4) + question  # masked with zeros, so plain
        upgrade = (
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        with serve(send_s=0.2) as serving, mute_client(serving.web, upgrade + 2_000 * frame):
            serving.wait_for(lambda: serving.metric("kws_client_errors_total", protocol="websocket") == 1)
            answers = run(converse(serving.web, pcm16(noise).tobytes(), {"type": "stop"}))
        assert of_type(answers, "detection")

    def test_the_end_of_the_server_is_told(self, serve: Serve) -> None:
        async def closed_by(serving: Serving) -> int | None:
            async with connect(serving.web) as socket:
                ending = asyncio.create_task(asyncio.to_thread(serving.call, serving.server.__aexit__()))
                await socket.receive(timeout=PATIENCE_S)
                await ending
                return socket.close_code

        with serve() as serving:
            assert run(closed_by(serving)) == 1001


async def fetch(url: str, path: str, **options: Any) -> tuple[int, str, str]:
    async with ClientSession() as session, session.get(url + path, **options) as answer:
        return answer.status, await answer.text(), answer.headers.get("Content-Type", "")


class TestWeb:
    def test_metrics_are_prometheus_text(self, serve: Serve, noise: np.ndarray) -> None:
        with serve() as serving:
            run(converse(serving.web, pcm16(noise).tobytes(), {"type": "stop"}))
            status, text, kind = run(fetch(serving.web, "/metrics"))
        assert status == 200
        assert kind.startswith("text/plain")
        assert 'kws_connections_total{protocol="websocket"} 1.0' in text
        assert "# TYPE kws_lag_seconds histogram" in text
        assert 'kws_detections_total{keyword="go on"}' in text

    def test_health(self, serve: Serve) -> None:
        with serve() as serving:
            status, text, _ = run(fetch(serving.web, "/health"))
        assert status == 200
        assert json.loads(text) == {"keywords": ["hey computer", "go on"], "clients": 0}

    @pytest.mark.parametrize(
        ("headers", "is_let_in"),
        [
            ({}, True),
            ({"Origin": "https://evil.example"}, False),
            ({"Origin": "https://good.example"}, True),
            ({"Host": "evil.example"}, False),
            ({"Host": "evil.example", "Origin": "http://evil.example"}, False),
            ({"Origin": "null"}, False),
        ],
    )
    def test_web_pages_of_others_are_refused(self, serve: Serve, headers: dict[str, str], is_let_in: bool) -> None:
        async def is_accepted(url: str) -> bool:
            try:
                async with connect(url, headers=headers):
                    return True
            except WSServerHandshakeError:
                return False

        with serve(allowed_origins=("https://good.example",)) as serving:
            assert run(is_accepted(serving.web)) == is_let_in
            assert run(fetch(serving.web, "/metrics", headers=headers))[0] == (200 if is_let_in else 403)

    def test_too_many_clients_are_refused(self, serve: Serve) -> None:
        async def second_status(url: str) -> int:
            async with connect(url):
                return (await fetch(url, "/ws"))[0]

        with serve(max_clients=1) as serving:
            assert run(second_status(serving.web)) == 503
