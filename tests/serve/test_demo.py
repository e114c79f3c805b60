"""What a page of `kws demo` is told, what it may ask for, and which files it gets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession
from demo_server import connect, heard, of_type, receive, serve
from serving import pcm16, run

from kws.detect.detector import Detector
from kws.model.artefact import load_wakeword
from kws.serve.demo import PAGE_FOLDER


class TestConversation:
    def test_scores_and_detections_are_those_of_offline_detection(self, folder: Path, noise: np.ndarray) -> None:
        audio = pcm16(noise).tobytes()
        pieces = [audio[start : start + 1_111] for start in range(0, len(audio), 1_111)]

        async def talk(url: str) -> list[Any]:
            async with connect(url) as socket:
                hello = await receive(socket, "hello")
                assert [offer["name"] for offer in hello["wakewords"]] == ["hey_computer", "go_on.kws"]
                assert hello["training"]["state"] == "none"
                return await heard(socket, ["hey_computer", "go_on.kws"], *pieces)

        with serve(folder) as serving:
            answers = run(talk(serving.web))
        chosen = answers[0]
        assert chosen["keywords"] == chosen["own"] == ["hey computer", "go on"]
        detector = Detector([load_wakeword(folder / "hey_computer"), load_wakeword(folder / "go_on.kws")])
        expected = detector.stream().feed(pcm16(noise))
        found = of_type(answers, "detection")
        assert [(one["keyword"], one["end_s"]) for one in found][: len(expected)] == [
            (one.keyword, pytest.approx(one.end_s, abs=1e-3)) for one in expected
        ]
        assert expected
        scores = of_type(answers, "scores")
        assert scores[0]["first_s"] == 0.025
        num_frames = sum(len(told["scores"][0]) for told in scores)
        assert num_frames == pytest.approx(len(noise) / 320, abs=9)

    def test_thresholds_are_tried_and_saved(self, folder: Path, noise: np.ndarray) -> None:
        head = (folder / "hey_computer/head.safetensors").read_bytes()

        async def talk(url: str) -> tuple[Any, Any, Any]:
            async with connect(url) as socket:
                await heard(socket, ["hey_computer", "go_on.kws"], pcm16(noise).tobytes())
                answers = []
                for keyword, value in (("hey computer", 0.25), ("go on", 0.75)):
                    await socket.send_json({"type": "threshold", "keyword": keyword, "value": value})
                    answers.append(await receive(socket, "would_fire"))
                    await socket.send_json({"type": "save", "keyword": keyword})
                    saved = await receive(socket, "saved")
                return *answers, saved

        with serve(folder) as serving:
            first, second, saved = run(talk(serving.web))
        for told, name in ((first, "hey_computer"), (second, "go_on.kws")):
            stream = Detector([load_wakeword(folder / name)]).stream()  # with the threshold that was saved
            expected = [one.end_s for one in stream.feed(pcm16(noise))]
            assert told["times_s"] == pytest.approx(expected, abs=1e-3)
        assert first["times_s"]
        assert saved["threshold"] == 0.75
        assert load_wakeword(folder / "hey_computer").keywords[0].trigger.threshold == 0.25
        archived = load_wakeword(folder / "go_on.kws")
        assert archived.keywords[0].trigger.threshold == 0.75
        assert archived.details["thresholds_set_by_hand"][0]["previous_threshold"] == 0.5
        assert (folder / "hey_computer/head.safetensors").read_bytes() == head

    @pytest.mark.parametrize(
        ("message", "answer"),
        [
            ({"type": "choose", "names": ["../../secret"]}, "no wake word '../../secret' is offered"),
            ({"type": "choose", "names": ["hey_computer", "hey_computer"]}, "is in more than one of the models"),
            ({"type": "threshold", "keyword": "nothing", "value": 0.5}, "is not listened for now"),
            ({"type": "save", "keyword": "nothing"}, "is not listened for now"),
            ({"type": "train", "phrase": "  ", "method": "text"}, "type the phrase first"),
            ({"type": "train", "phrase": "lumos", "method": "enrol"}, "there are no takes"),
            ({"type": "train", "phrase": "lumos", "method": "magic"}, "method = 'magic' is impossible"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_what_cannot_be_done_is_told_and_the_page_goes_on(
        self, folder: Path, message: dict[str, Any], answer: str
    ) -> None:
        async def talk(url: str) -> None:
            async with connect(url) as socket:
                await socket.send_json(message)
                problem = await receive(socket, "problem")
                assert answer in problem["text"]
                await socket.send_json({"type": "choose", "names": ["hey_computer"]})
                assert (await receive(socket, "chosen"))["keywords"] == ["hey computer"]

        with serve(folder) as serving:
            run(talk(serving.web))

    @pytest.mark.parametrize(
        "message",
        [
            {"type": "delete everything"},
            {"type": "choose", "names": "hey_computer"},
            {"type": "record", "count": "many"},
        ],
        ids=str,
    )
    def test_what_no_page_sends_ends_the_connection(self, folder: Path, message: dict[str, Any]) -> None:
        async def talk(url: str) -> str:
            async with connect(url) as socket:
                await socket.send_json(message)
                return str((await receive(socket, "error"))["text"])

        with serve(folder) as serving:
            assert run(talk(serving.web))

    def test_only_this_machine_and_this_page_may_connect(self, folder: Path) -> None:
        async def ask(url: str, headers: dict[str, str]) -> int:
            async with ClientSession() as session, session.get(f"{url}/wakewords", headers=headers) as response:
                return response.status

        with serve(folder) as serving:
            assert run(ask(serving.web, {})) == 200
            assert run(ask(serving.web, {"Origin": "https://evil.example"})) == 403
            assert run(ask(serving.web, {"Host": "evil.example"})) == 403

    def test_files_outside_the_page_stay_outside(self, folder: Path) -> None:
        async def ask(url: str) -> list[tuple[int, str]]:
            async with ClientSession() as session:
                answers = []
                for path in ("/", "/page/main.js", "/page/..%2Fdemo.py", "/page/%2Fetc%2Fpasswd", "/takes/guess"):
                    async with session.get(url + path) as response:
                        answers.append((response.status, response.headers.get("Content-Security-Policy", "")))
                return answers

        with serve(folder) as serving:
            answers = run(ask(serving.web))
        assert [status for status, _ in answers] == [200, 200, 404, 404, 404]
        assert all("default-src 'self'" in policy for _, policy in answers[:2])

    def test_pages_name_no_other_host(self) -> None:
        """The namespace of SVG is a name, and localhost is said in a remedy."""
        for path in PAGE_FOLDER.iterdir():
            hosts = re.findall(r"(?:https?:)?//([\w-]+\.?[\w.-]*)/?[\"'` ]", path.read_text(encoding="utf-8"))
            assert set(hosts) <= {"www.w3.org", "localhost"}, path
