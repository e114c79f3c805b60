"""Wyoming clients of the package itself, and some that break its rules, at a server on loopback."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from serving import Serve, Serving, ask, detect, pcm16, run, spoken
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event, async_read_event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from kws.detect.detector import Detector


async def send_raw(uri: str, content: bytes) -> list[Event]:
    """Returns all that the server answers to `content` until it ends the connection."""
    host, port = uri.removeprefix("tcp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(content)
    answers = []
    while (event := await async_read_event(reader)) is not None:
        answers.append(event)
    writer.close()
    return answers


def offline(detector: Detector, waveform: np.ndarray) -> list[tuple[str, int]]:
    """Returns keyword and end, in ms, of what `detector` finds in `waveform` after 16-bit coding."""
    stream = detector.stream()
    found = stream.feed(pcm16(waveform)) + stream.flush()
    return [(one.keyword, round(1000 * one.end_s)) for one in found]


class TestConversation:
    def test_describe_names_every_keyword(self, serve: Serve) -> None:
        with serve() as serving:
            (answer,) = run(ask(serving.wyoming, Describe().event()))
        (program,) = Info.from_event(answer).wake
        assert [model.name for model in program.models] == ["hey computer", "go on"]
        assert all(model.installed and model.phrase == model.name for model in program.models)

    def test_ping(self, serve: Serve) -> None:
        with serve() as serving:
            (answer,) = run(ask(serving.wyoming, Ping("x").event()))
        assert Pong.from_event(answer).text == "x"

    @pytest.mark.parametrize("chunk", [160, 1024, 33_333])
    def test_the_packages_client_hears_what_offline_detection_finds(
        self, serve: Serve, eager_detector: Detector, noise: np.ndarray, chunk: int
    ) -> None:
        with serve() as serving:
            heard = run(detect(serving.wyoming, noise, chunk=chunk))
        expected = offline(eager_detector, noise)
        assert [one.name for one in heard] == [keyword for keyword, _ in expected]
        chunk_ms = 1000 * chunk / 16_000  # the timestamp is that of the chunk in which it fired
        assert all(end - chunk_ms - 1 <= (one.timestamp or 0) <= end for one, (_, end) in zip(heard, expected))

    def test_only_the_keywords_asked_for_by_the_names_they_were_asked_by(self, serve: Serve, noise: np.ndarray) -> None:
        with serve() as serving:
            heard = run(detect(serving.wyoming, noise, ["Go_On"]))
        assert heard
        assert {one.name for one in heard} == {"Go_On"}

    def test_not_detected(self, serve: Serve, deaf_detector: Detector, noise: np.ndarray) -> None:
        with serve(deaf_detector) as serving:
            (answer,) = run(ask(serving.wyoming, *spoken(noise)))
        assert NotDetected.is_type(answer.type)

    def test_the_context_comes_back(self, serve: Serve, noise: np.ndarray) -> None:
        with serve() as serving:
            answers = run(ask(serving.wyoming, Detect(context={"room": 1}).event(), *spoken(noise)))
        assert answers
        assert all(Detection.from_event(answer).context == {"room": 1} for answer in answers)

    def test_a_satellite_sends_no_audio_start_and_detects_again_on_one_connection(
        self, serve: Serve, eager_detector: Detector, noise: np.ndarray
    ) -> None:
        num_each = len(eager_detector.stream().feed(noise[:16_000]))
        chunks = [event for event in spoken(noise[:16_000]) if AudioChunk.is_type(event.type)]
        with serve() as serving:
            answers = run(ask(serving.wyoming, Detect().event(), *chunks, Detect().event(), *chunks))
            serving.wait_for(lambda: not serving.server.clients.sessions)
            counted = sum(serving.metric("kws_detections_total", keyword=name) for name in eager_detector.keywords)
        assert counted == 2 * num_each
        assert all(Detection.is_type(answer.type) for answer in answers)

    @pytest.mark.parametrize("chunk", [333, 2_048])
    @pytest.mark.parametrize(("rate", "width", "channels"), [(8_000, 1, 1), (48_000, 3, 2), (44_100, 4, 1)])
    def test_other_formats_are_converted(
        self, serve: Serve, noise: np.ndarray, rate: int, width: int, channels: int, chunk: int
    ) -> None:
        audio = np.random.default_rng(0).integers(0, 256, rate * width * channels, np.uint8).tobytes()
        pcm: dict[str, Any] = {"rate": rate, "width": width, "channels": channels}
        pieces = [audio[start : start + chunk] for start in range(0, len(audio), chunk)]
        chunks = [AudioChunk(**pcm, audio=piece).event() for piece in pieces]
        with serve() as serving:
            events = [AudioStart(**pcm).event(), *chunks, AudioStop().event()]
            answers = run(ask(serving.wyoming, *events))
            assert Detection.is_type(answers[0].type)
            assert serving.metric("kws_audio_seconds_total", protocol="wyoming") == pytest.approx(1.0, abs=0.01)

    def test_an_empty_stream(self, serve: Serve) -> None:
        start = AudioStart(rate=16_000, width=2, channels=1)
        empty = AudioChunk(rate=16_000, width=2, channels=1, audio=b"")
        with serve() as serving:
            (answer,) = run(ask(serving.wyoming, start.event(), empty.event(), AudioStop().event()))
        assert NotDetected.is_type(answer.type)

    def test_unknown_events_are_skipped(self, serve: Serve) -> None:
        with serve() as serving:
            (answer,) = run(ask(serving.wyoming, Event("from-the-future", {"a": 1}, b"xyz"), Ping().event()))
        assert Pong.is_type(answer.type)


def audio_start(**changes: object) -> bytes:
    data = {"rate": 16_000, "width": 2, "channels": 1} | changes
    return json.dumps({"type": "audio-start", "data": data}).encode() + b"\n"


RULE_BREAKERS = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "Wyoming protocol"),
    "no type": (b'{"data": {}}\n', "no type"),
    "no object": (b"[1]\n", "no JSON object"),
    "deep JSON": (b"[" * 60_000 + b"\n", "not JSON"),
    "long header": (b'{"type": "' + b"x" * 100_000 + b'"}\n', "longer than 65536 bytes"),
    "long data": (b'{"type": "detect", "data_length": 99999999}\n', "data_length 99999999"),
    "negative length": (b'{"type": "audio-chunk", "payload_length": -1}\n', "payload_length -1"),
    "long payload": (b'{"type": "audio-chunk", "payload_length": 99999999999}\n', "payload_length 99999999999"),
    "no format": (b'{"type": "audio-start"}\n', "rate None"),
    "impossible rate": (audio_start(rate=1), "rate 1"),
    "impossible width": (audio_start(width=7), "width 7"),
    "no channel": (audio_start(channels=0), "channels 0"),
    "rate as text": (audio_start(rate="x"), "rate 'x'"),
    "unknown keyword": (b'{"type": "detect", "data": {"names": ["alexa"]}}\n', "no keyword 'alexa'"),
    "keywords of another type": (b'{"type": "detect", "data": {"names": {"a": 1}}}\n', "list of names"),
}


class TestBadInput:
    def test_what_breaks_the_rules_ends_that_client_only_with_an_error(self, serve: Serve, noise: np.ndarray) -> None:
        with serve() as serving:
            for name, (content, reason) in RULE_BREAKERS.items():
                (answer,) = run(send_raw(serving.wyoming, content + 1000 * b"{}\n"))
                assert Error.is_type(answer.type), name
                assert reason in Error.from_event(answer).text, name
                assert any(reason in line for line in serving.reports), name
            assert run(detect(serving.wyoming, noise))
            assert serving.metric("kws_client_errors_total", protocol="wyoming") == len(RULE_BREAKERS)
            serving.wait_for(lambda: serving.metric("kws_clients", protocol="wyoming") == 0)

    def test_half_an_event(self, serve: Serve) -> None:
        async def leave(uri: str) -> list[Event]:
            host, port = uri.removeprefix("tcp://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b'{"type": "audio-chunk", "payload_length": 100}\nabc')
            writer.write_eof()
            return [event async for event in _all_events(reader)]

        with serve() as serving:
            (answer,) = run(leave(serving.wyoming))
        assert "ended within 'audio-chunk'" in Error.from_event(answer).text

    def test_too_many_clients_are_refused(self, serve: Serve) -> None:
        async def crowd(serving: Serving) -> Event | None:
            async with AsyncClient.from_uri(serving.wyoming) as first, AsyncClient.from_uri(serving.wyoming) as second:
                await first.write_event(Ping().event())
                await first.read_event()  # it is in
                return await second.read_event()

        with serve(max_clients=1) as serving:
            answer = run(crowd(serving))
            assert answer is not None and Error.from_event(answer).code == "full"
            assert serving.metric("kws_refused_total", protocol="wyoming") == 1

    def test_a_silent_client_is_ended(self, serve: Serve) -> None:
        with serve(idle_s=0.2) as serving:
            (answer,) = run(send_raw(serving.wyoming, b'{"type": "pi'))
        assert "nothing came for 0.2 s" in Error.from_event(answer).text


async def _all_events(reader: asyncio.StreamReader) -> Any:
    while (event := await async_read_event(reader)) is not None:
        yield event
