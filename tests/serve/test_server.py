"""Many clients at once, slow and silent ones among them; addresses; the way a server ends."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession
from serving import PATIENCE_S, Serve, Serving, ask, detect, mute_client, pcm16, run, spoken
from wyoming.audio import AudioChunk, AudioStart
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.wake import Detection

from kws.detect.detector import Detector, load
from kws.errors import ConfigError
from kws.serve.client import choose_keywords
from kws.serve.server import Server, run_server
from kws.serve.settings import ProtocolError, ServeConfig, parse_address

ROOT = Path(__file__).resolve().parents[2]
HEY_COMPUTER = ROOT / "pretrained/hey_computer"


@pytest.fixture(scope="module")
def many_clients() -> types.ModuleType:
    """Returns the demo that sends a recording from many clients."""
    spec = importlib.util.spec_from_file_location("many_clients", ROOT / "demo/many_clients.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["many_clients"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def slowed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Makes detection wait until the event that it returns is set, as on a machine that is too slow."""
    from kws.serve.session import Session

    go_on, hear = threading.Event(), Session._hear

    def slow(self: Session, *arguments: Any) -> Any:
        assert go_on.wait(PATIENCE_S)
        return hear(self, *arguments)

    monkeypatch.setattr(Session, "_hear", slow)
    return go_on


class TestManyClients:
    def test_recordings_from_many_at_once_lose_nothing(
        self, serve: Serve, eager_detector: Detector, noise: np.ndarray, many_clients: types.ModuleType
    ) -> None:
        with serve() as serving:
            outcomes = run(many_clients.run_clients(serving.wyoming, noise, 20, True))
            assert serving.metric("kws_dropped_blocks_total") == 0
        stream = eager_detector.stream()
        num_expected = len(stream.feed(pcm16(noise)) + stream.flush())
        assert [sum(dict(outcome.counts).values()) for outcome in outcomes] == [num_expected] * 20

    def test_live_satellites_lose_nothing(
        self, serve: Serve, eager_detector: Detector, noise: np.ndarray, many_clients: types.ModuleType
    ) -> None:
        with serve() as serving:
            outcomes = run(many_clients.run_clients(serving.wyoming, noise, 4, False))
            assert serving.metric("kws_dropped_blocks_total") == 0
        assert len({outcome.counts for outcome in outcomes}) == 1

    def test_a_real_wake_word_is_heard_by_a_live_satellite(
        self, serve: Serve, many_clients: types.ModuleType, spoken_takes: np.ndarray
    ) -> None:
        detector = load(HEY_COMPUTER)
        stream = detector.stream()
        num_expected = len(stream.feed(pcm16(spoken_takes)) + stream.flush())
        assert num_expected
        with serve(detector) as serving:
            (outcome,) = run(many_clients.run_clients(serving.wyoming, spoken_takes, 1, False))
        assert outcome.counts == (("hey computer", num_expected),)


@pytest.fixture(scope="module")
def spoken_takes() -> np.ndarray:
    """Returns the wake word said by voices that its training never heard: (num_samples,) float32."""
    from kws.data.synth import draw_voice, speak

    rng, pause = np.random.default_rng(0), np.zeros(8_000, np.float32)
    takes = [speak("hey computer", draw_voice(rng, "validation")).waveform for _ in range(3)]
    return np.concatenate([part for take in takes for part in (0.5 * take, pause)])


class TestSlowClients:
    def test_silent_and_halting_clients_harm_no_other(self, serve: Serve, noise: np.ndarray) -> None:
        half = b'{"type": "audio-chunk", "payload_length": 1000}\nabc'
        with serve() as serving, mute_client(serving.wyoming), mute_client(serving.wyoming, half):
            serving.wait_for(lambda: len(serving.server.clients.sessions) == 2)
            assert run(detect(serving.wyoming, noise))

    def test_a_client_that_takes_no_answer_is_ended(self, serve: Serve, noise: np.ndarray) -> None:
        question = b'{"type": "describe"}\n'
        with serve(send_s=0.2) as serving, mute_client(serving.wyoming) as mute:
            mute.settimeout(0.2)
            with contextlib.suppress(OSError):
                while True:  # until the server reads no more
                    mute.sendall(question * 1_000)
            serving.wait_for(lambda: serving.metric("kws_client_errors_total", protocol="wyoming") == 1)
            assert run(detect(serving.wyoming, noise))

    def test_a_live_client_of_a_slow_server_loses_its_oldest_blocks(
        self, serve: Serve, slowed: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The clock stands where a live client's audio would end."""
        chunk = AudioChunk(rate=16_000, width=2, channels=1, audio=bytes(3_200))

        async def speak(serving: Serving) -> list[Event]:
            async with AsyncClient.from_uri(serving.wyoming, read_timeout=PATIENCE_S) as client:
                await client.write_event(AudioStart(rate=16_000, width=2, channels=1).event())
                for _ in range(30):
                    await client.write_event(chunk.event())
                await asyncio.to_thread(
                    serving.wait_for, lambda: serving.metric("kws_dropped_blocks_total") >= 30 - 5 - 10
                )
                slowed.set()
                await client.write_event(Event("audio-stop"))
                await client.write_event(Ping().event())
                events = [await client.read_event()]
                while events[-1] is not None and events[-1].type != "pong":
                    events.append(await client.read_event())
                return [event for event in events if event is not None]

        monkeypatch.setattr("kws.serve.session.FAST_CLOCK", 1e9)
        with serve(max_queued_s=0.5) as serving:
            heard = run(speak(serving))
            lost = serving.metric("kws_dropped_blocks_total")
            heard_s = serving.metric("kws_audio_seconds_total", protocol="wyoming")
            serving.wait_for(lambda: any("too slow" in line for line in serving.reports))
        assert heard_s == pytest.approx(0.1 * (30 - lost))
        assert serving.metric("kws_dropped_seconds_total") == pytest.approx(0.1 * lost)
        last = [Detection.from_event(event) for event in heard if Detection.is_type(event.type)]
        assert last  # what was not lost is still heard

    def test_a_recording_waits_for_a_slow_server(
        self,
        serve: Serve,
        slowed: threading.Event,
        eager_detector: Detector,
        noise: np.ndarray,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The clock stands, so that this machine may be as slow as it likes."""
        monkeypatch.setattr("kws.serve.session.FAST_CLOCK", 0.0)
        with serve(max_queued_s=0.5) as serving:
            threading.Timer(0.5, slowed.set).start()
            heard = run(detect(serving.wyoming, noise))
            assert serving.metric("kws_dropped_blocks_total") == 0
        stream = eager_detector.stream()
        assert len(heard) == len(stream.feed(pcm16(noise)) + stream.flush())

    def test_a_fault_in_detection_ends_that_client_only(
        self, serve: Serve, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from kws.serve.session import Session

        hear, faults = Session._hear, [RuntimeError("broken")]

        def broken(self: Session, *arguments: Any) -> Any:
            if faults:
                raise faults.pop()
            return hear(self, *arguments)

        monkeypatch.setattr(Session, "_hear", broken)
        with serve() as serving:
            with contextlib.suppress(OSError):
                run(ask(serving.wyoming, *spoken(noise)))
            serving.wait_for(lambda: any("broken" in line for line in serving.reports))
            assert run(detect(serving.wyoming, noise))


class TestAddresses:
    def test_a_unix_socket_is_its_owners_alone_and_goes_with_the_server(
        self, serve: Serve, noise: np.ndarray, tmp_path: Path
    ) -> None:
        path = tmp_path / "kws.sock"
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()  # leaves its file, as a server that was killed does
        with serve(uris={"wyoming": [f"unix://{path}"]}):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert run(detect(f"unix://{path}", noise))
        assert not path.exists()

    def test_an_address_in_use(self, serve: Serve, eager_detector: Detector) -> None:
        async def open_second(uri: str) -> None:
            async with Server(eager_detector, [uri]):
                pass

        with serve() as serving, pytest.raises(ConfigError, match=r"can't listen on tcp://127\.0\.0\.1:\d+ .*in use"):
            run(open_second(serving.wyoming))

    def test_a_file_in_the_way_is_left_alone(self, eager_detector: Detector, tmp_path: Path) -> None:
        async def start() -> None:
            async with Server(eager_detector, [f"unix://{tmp_path}/notes"]):
                pass

        (tmp_path / "notes").write_text("mine")
        with pytest.raises(ConfigError, match="can't listen on unix://"):
            run(start())
        assert (tmp_path / "notes").read_text() == "mine"

    @pytest.mark.parametrize(
        "uri",
        ["", "10400", "tcp://", "tcp://localhost", "tcp://h:x", "tcp://h:1/path", "http://h:1", "unix://", "ftp://h:1"],
    )
    def test_wrong_addresses(self, uri: str) -> None:
        with pytest.raises(ConfigError, match="expected tcp://127"):
            parse_address(uri, "tcp", "unix")

    @pytest.mark.parametrize(
        ("uri", "is_local"),
        [
            ("tcp://127.0.0.1:1", True),
            ("tcp://localhost:1", True),
            ("tcp://[::1]:1", True),
            ("unix:///tmp/x", True),
            ("tcp://0.0.0.0:1", False),
            ("tcp://[::]:1", False),
            ("tcp://192.168.1.2:1", False),
        ],
    )
    def test_what_is_local(self, uri: str, is_local: bool) -> None:
        address = parse_address(uri, "tcp", "unix")
        assert str(address) == uri
        assert address.is_local == is_local

    def test_no_address(self, eager_detector: Detector) -> None:
        with pytest.raises(ConfigError, match="no address to listen on"):
            Server(eager_detector)

    @pytest.mark.parametrize("limit", [{"max_clients": 0}, {"max_queued_s": 0}, {"workers": -1}, {"idle_s": 0}])
    def test_impossible_limits(self, limit: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(limit))):
            ServeConfig(**limit)


def test_keywords_are_chosen_whatever_their_case() -> None:
    assert choose_keywords(["HEY_Computer"], ["hey computer", "go on"]) == {"hey computer": "HEY_Computer"}
    assert choose_keywords([], ["a"]) == choose_keywords(None, ["a"]) == {"a": "a"}
    with pytest.raises(ProtocolError, match="listens for: a"):
        choose_keywords(["b"], ["a"])


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
class TestEnd:
    def test_the_command_answers_until_sigterm(
        self, make_wakeword: Callable[..., Any], noise: np.ndarray, tmp_path: Path
    ) -> None:
        model = make_wakeword("hey computer").save(tmp_path / "hey_computer")
        process = subprocess.Popen(
            [sys.executable, "-m", "kws", "serve", str(model), "--threshold", "0"]
            + ["--uri", "tcp://127.0.0.1:0", "--web", "http://127.0.0.1:0"],
            **{"cwd": ROOT, "text": True, "stderr": subprocess.PIPE},
        )
        assert process.stderr is not None
        uris: list[str] = []
        while len(uris) < 2 and (line := process.stderr.readline()):
            uris += [line.split()[-1]] if line.startswith("listening on") else []
        web, wyoming = uris
        (info,) = run(ask(wyoming, Describe().event()))
        assert Info.from_event(info).wake[0].models[0].name == "hey computer"
        num_heard = len(run(detect(wyoming, noise)))
        assert f'kws_detections_total{{keyword="hey computer"}} {num_heard:.1f}' in run(_metrics(web))
        process.terminate()
        messages = process.stderr.read()
        assert process.wait(PATIENCE_S) == 0, messages
        assert "served 2.1 s of audio; dropped blocks: 0" in messages
        assert "Traceback" not in messages

    def test_what_is_queued_at_ctrl_c_is_still_heard(
        self, eager_detector: Detector, noise: np.ndarray, slowed: threading.Event
    ) -> None:
        reports: list[str] = []

        async def interrupt() -> int:
            server = Server(eager_detector, ["tcp://127.0.0.1:0"], report=reports.append)
            serving = asyncio.create_task(run_server(server, reports.append))
            while not any(line.startswith("listening on") for line in reports):
                await asyncio.sleep(0.01)
            async with AsyncClient.from_uri(str(server.addresses[0]), read_timeout=PATIENCE_S) as client:
                for event in spoken(noise):
                    await client.write_event(event)
                while not (sessions := list(server.clients.sessions.values())) or sessions[0].is_idle:
                    await asyncio.sleep(0.01)
                os.kill(os.getpid(), signal.SIGINT)
                slowed.set()
                await serving
                num_heard = 0
                while (event := await client.read_event()) is not None:
                    num_heard += Detection.is_type(event.type)
                return num_heard

        assert run(interrupt()) > 0
        assert "ending 1 clients" in reports


class TestCommand:
    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        from kws.cli import main

        monkeypatch.setitem(sys.modules, "wyoming", None)
        with pytest.raises(SystemExit):
            main(["serve", str(HEY_COMPUTER)])
        assert "pip install 'kws[serve]'" in capsys.readouterr().err


async def _metrics(url: str) -> str:
    async with ClientSession() as session, session.get(f"{url}/metrics") as answer:
        return await answer.text()


class TestDiscovery:
    def test_a_server_for_the_network_is_announced_and_taken_back(
        self, eager_detector: Detector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[tuple[str, Any]] = []

        class Fake:
            async def async_register_service(self, info: Any, **options: Any) -> None:
                calls.append(("register", info))

            async def async_unregister_service(self, info: Any) -> None:
                calls.append(("unregister", info))

            async def async_close(self) -> None:
                calls.append(("close", None))

        monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", Fake)
        monkeypatch.setattr("kws.serve.server.is_loopback", lambda host: False, raising=False)
        monkeypatch.setattr("kws.serve.settings.is_loopback", lambda host: False)

        async def serve_shortly() -> int:
            async with Server(eager_detector, ["tcp://127.0.0.1:0"], is_announced=True) as server:
                return server.addresses[0].port

        port = run(serve_shortly())
        assert [name for name, _ in calls] == ["register", "unregister", "close"]
        info = calls[0][1]
        assert (info.type, info.port, info.parsed_addresses()) == ("_wyoming._tcp.local.", port, ["127.0.0.1"])

    def test_a_server_for_this_machine_is_not_announced(self, eager_detector: Detector) -> None:
        reports: list[str] = []

        async def serve_shortly() -> None:
            async with Server(eager_detector, ["tcp://127.0.0.1:0"], report=reports.append, is_announced=True):
                pass

        run(serve_shortly())
        assert any("is not announced" in line for line in reports)
