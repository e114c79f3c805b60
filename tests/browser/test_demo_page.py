"""The demo's page in a browser: a wake word is heard and seen, its threshold dragged and saved, a new one is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Open, say

from kws.model.artefact import load_wakeword

pytestmark = pytest.mark.browser
IS_PAINTED = "id => document.getElementById(id).getContext('2d').getImageData(0, 0, 800, 300).data.some(Boolean)"


class TestListening:
    def test_a_detection_is_seen(self, demo: Callable[..., Any], show: Open, spoken: Path) -> None:
        with demo() as serving:
            shown = show(serving.web, spoken)
            shown.listen_for(2)
            page = shown.page
            assert "hey computer" in page.text_content("#heard")
            assert float(page.text_content("#heard small").split()[1]) >= 0.5
            assert page.get_attribute("#listen", "aria-pressed") == "true"
            shown.wait_for("#level-text", r"-[1-5]\d dBFS")
            painted = (
                "id => document.getElementById(id).getContext('2d').getImageData(0, 0, 800, 300).data.some(Boolean)"
            )
            assert page.evaluate(painted, "live")
            page.click("#listen")
            shown.wait_for("#level-text", "microphone off")
            assert shown.problems == []

    def test_the_server_stops_and_comes_back(self, demo: Callable[..., Any], show: Open, spoken: Path) -> None:
        with demo() as serving:
            shown = show(serving.web, spoken)
            shown.listen_for(1)
        shown.wait_for("#status", "not running")
        num_before = shown.num_heard
        with demo(port=int(serving.web.rpartition(":")[2])):
            shown.wait_for("#status", "connected")
            shown.wait_for_log(num_before + 1)


class TestThreshold:
    def test_dragging_says_what_it_would_have_done(self, demo: Callable[..., Any], show: Open, spoken: Path) -> None:
        with demo() as serving:
            shown = show(serving.web, spoken)
            shown.listen_for(2)
            shown.drag(0.32)
            high = shown.threshold
            assert high > 0.9
            would, heard = shown.effect()
            assert would < heard
            shown.drag(0.75)
            low = shown.threshold
            assert 0.1 < low < 0.5
            would, heard = shown.effect()
            assert would >= heard >= 2
            shown.page.click("#listen")  # stopped, what was heard can still be tried
            shown.page.focus(".handle")
            shown.page.keyboard.press("ArrowDown")
            would, heard = shown.effect()
            assert would >= heard >= 2

    def test_a_threshold_out_of_reach_silences_it(self, demo: Callable[..., Any], show: Open, spoken: Path) -> None:
        with demo() as serving:
            shown = show(serving.web, spoken)
            shown.listen_for(1)
            shown.page.focus(".handle")
            shown.page.keyboard.press("End")
            shown.effect()
            num_heard = shown.num_heard
            shown.page.wait_for_timeout(9000)  # the whole recording once more
            assert shown.num_heard == num_heard

    def test_keys_move_it_and_the_button_saves_it(
        self, demo: Callable[..., Any], show: Open, spoken: Path, folder: Path
    ) -> None:
        before = (folder / "hey_computer/head.safetensors").read_bytes()
        with demo() as serving:
            shown = show(serving.web, spoken)
            shown.wait_for(".choice[aria-pressed=true]", "hey computer")
            shown.page.focus(".handle")
            for key in ("PageUp", "ArrowUp", "ArrowUp", "ArrowDown"):
                shown.page.keyboard.press(key)
            assert shown.threshold == 0.61
            shown.page.click("text=Save threshold")
            shown.wait_for(".effect", "threshold 0.61 saved")
            assert shown.page.is_hidden("text=Save threshold")
        saved = load_wakeword(folder / "hey_computer")
        assert saved.keywords[0].trigger.threshold == 0.61
        assert saved.details["thresholds_set_by_hand"][-1]["previous_threshold"] == 0.5
        assert (folder / "hey_computer/head.safetensors").read_bytes() == before

    def test_a_finger_moves_it(self, demo: Callable[..., Any], show: Open, spoken: Path) -> None:
        with demo() as serving:
            shown = show(serving.web, spoken, size=(390, 844), has_touch=True, is_mobile=True)
            shown.wait_for(".choice[aria-pressed=true]", "hey computer")
            handle = shown.page.locator(".handle").bounding_box()
            x, y = handle["x"] + 100, handle["y"] + handle["height"] / 2
            devtools = shown.page.context.new_cdp_session(shown.page)
            for kind, dy in (("touchStart", 0), ("touchMove", -20), ("touchMove", -40), ("touchEnd", None)):
                points = [] if dy is None else [{"x": x, "y": y + dy}]
                devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            assert 0.6 < shown.threshold < 0.9
            assert shown.page.evaluate("scrollY") == 0


class TestMaking:
    @pytest.fixture(scope="class")
    def takes(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        rng = np.random.default_rng(5)
        return say(tmp_path_factory.mktemp("takes") / "takes.wav", 3 * ["open sesame"], rng, pause_s=1.5)

    @pytest.mark.slow
    def test_from_takes(self, demo: Callable[..., Any], show: Open, takes: Path, folder: Path) -> None:
        with demo() as serving:
            shown = show(serving.web, takes)
            page = shown.page
            page.fill("#phrase", "open sesame")
            assert page.is_disabled("#train")
            page.click("#record")
            shown.wait_for("#take-status", "Quiet, please")
            shown.wait_for("#take-status", r"Say “open sesame” now \(take 2 of 5\)")
            shown.wait_for("#take-status", "5 good takes")
            page.click(".takes .drop >> nth=0")
            page.locator(".takes .good").nth(4).wait_for(state="detached")
            with page.expect_response("**/takes/*") as played:
                page.click(".takes .play >> nth=0")
            assert played.value.body()[:4] == b"RIFF"
            page.check("#keep")
            page.click("#train")
            shown.wait_for("#progress-text", "“open sesame”: ")
            assert page.is_visible("#cancel")
            shown.wait_for("#progress-text", "is ready")
            shown.wait_for("#keywords", "open sesame")
            assert page.locator(".choice[aria-pressed=true]").count() == 2
            assert shown.problems == []
        made = load_wakeword(folder / "open_sesame")
        assert made.keywords[0].name == "open sesame"
        assert len(list((folder / "open_sesame/clips").glob("*.wav"))) == 4

    def test_from_text_can_be_cancelled(self, demo: Callable[..., Any], show: Open, takes: Path, folder: Path) -> None:
        with demo("pool.num_voices=400") as serving:
            shown = show(serving.web, takes)
            shown.page.fill("#phrase", "open sesame")
            shown.page.check("input[value=text]")
            shown.page.click("#train")
            shown.wait_for("#progress-text", r": (speaking|synthes|voices|gather).* of ")
            shown.page.click("#cancel")
            shown.wait_for("#progress-text", "Cancelled")
        assert not (folder / "open_sesame/wakeword.json").exists()

    @pytest.mark.parametrize(
        ("gain", "reason"), [(0.0, "silence"), (60.0, "clipping")], ids=["a dead microphone", "far too loud"]
    )
    def test_bad_takes_are_refused_with_the_reason(
        self, demo: Callable[..., Any], show: Open, tmp_path: Path, gain: float, reason: str
    ) -> None:
        rng = np.random.default_rng(5)
        recording = say(tmp_path / "bad.wav", 2 * ["open sesame"], rng, pause_s=1.5, gain=gain)
        with demo() as serving:
            shown = show(serving.web, recording)
            shown.page.fill("#phrase", "open sesame")
            shown.page.click("#record")
            text = shown.wait_for("#take-status", "Not kept: ")
            assert reason in text
            assert "Again: say" in text
            assert shown.page.locator(".takes .good").count() == 0


class TestAccess:
    def test_keys_alone_suffice(self, demo: Callable[..., Any], show: Open, spoken: Path) -> None:
        with demo() as serving:
            shown = show(serving.web, spoken)
            shown.wait_for(".choice[aria-pressed=true]", "hey computer")
            seen = []
            for _ in range(14):
                shown.page.keyboard.press("Tab")
                seen.append(shown.page.evaluate("document.activeElement.id || document.activeElement.className"))
            for stop in ("listen", "handle", "choice", "phrase", "record"):
                assert stop in seen
            unnamed = """() => [...document.querySelectorAll("button, input, [role=slider], canvas")].filter((one) =>
                one.checkVisibility() && !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).length"""
            assert shown.page.evaluate(unnamed) == 0

    def test_nothing_sticks_out(self, demo: Callable[..., Any], show: Open, spoken: Path) -> None:
        with demo() as serving:
            shown = show(serving.web, spoken)
            for path in ("/", "/browser"):
                shown.page.goto(serving.web + path)
                shown.page.wait_for_selector("h1")
                for width in (320, 390, 768, 1280):
                    shown.page.set_viewport_size({"width": width, "height": 800})
                    assert shown.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, width)
            assert shown.problems == []
