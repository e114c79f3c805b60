"""`kws evaluate`, `compare`, `calibrate` and `explain`, from the command line to the files they leave."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from kws.audio.io import read_audio, write_audio
from kws.cli import main
from kws.frames import SAMPLE_RATE
from kws.model.artefact import load_wakeword

pytest.importorskip("scipy")
VOID = {"meta", "img", "source", "br", "path", "line", "polyline"}


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(exit_info.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Returns a folder with three takes of one second and two recordings of other sounds, of four seconds."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for name, count, seconds in (("takes", 3, 1), ("talk", 2, 4)):
        for index in range(count):
            waveform = 0.001 * rng.standard_normal(seconds * SAMPLE_RATE)
            waveform[4_000:12_000] += 0.2 * rng.standard_normal(8_000)
            write_audio(folder / name / f"{index}.wav", waveform.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def models(make_wakeword, tmp_path_factory):
    """Returns the folders of two wake words; the first fires on everything, the second on nothing."""
    folder = tmp_path_factory.mktemp("models")
    eager = make_wakeword("hey computer").with_threshold(0.0).save(folder / "eager")
    deaf = make_wakeword("hey computer", seed=1).with_threshold(1.0).save(folder / "deaf")
    return eager, deaf


class Page(HTMLParser):
    """Collects what a page refers to, and whether its tags match."""

    def __init__(self, path):
        super().__init__()
        self.open, self.references, self.elements = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.elements.append((tag, values))
        self.references += [values[key] for key in ("src", "srcset", "href") if key in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID

    def all(self, tag):
        return [values for name, values in self.elements if name == tag]


@pytest.mark.parametrize("command", ["evaluate", "compare", "calibrate", "explain"])
def test_help_fits_a_terminal_and_has_an_example(run, command):
    code, output, _ = run(command, "--help")
    assert code == 0
    assert "Example" in output
    assert max(map(len, output.splitlines())) <= 80


def test_the_report_is_a_folder_of_its_own(run, models, audio, tmp_path):
    _, deaf = models
    report = tmp_path / "report"
    arguments = ("--positives", audio / "takes", "--negatives", audio / "talk", "--report", report, "--clips", 2)
    code, output, messages = run("evaluate", deaf, *arguments)
    assert code == 0, messages
    assert "misses of 3" in output and f"report: {report / 'index.html'}" in output
    page = Page(report / "index.html")
    local = [reference for reference in page.references if not reference.startswith("#")]
    assert local
    for reference in local:
        assert not Path(reference).is_absolute() and ":" not in reference and ".." not in reference
        assert (report / reference).is_file(), reference
    assert {f"#{values['id']}" for _, values in page.elements if "id" in values} >= {
        reference for reference in page.references if reference.startswith("#")
    }
    assert all(values.get("alt") for values in page.all("img"))
    assert all(values.get("aria-label") for values in page.all("audio") + page.all("svg"))
    assert page.all("table") and all("scope" in values for values in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert any("width=device-width" in values.get("content", "") for values in page.all("meta"))
    assert "prefers-color-scheme: dark" in (report / "index.html").read_text(encoding="utf-8")
    assert (report / "det-dark.png").read_bytes()[:4] == b"\x89PNG"


def test_report_json_has_the_numbers_and_its_clips_play_what_was_missed(run, models, audio, tmp_path):
    _, deaf = models
    options = ("--positives", audio / "takes", "--negatives", audio / "talk", "--clips", 2, "--report", tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "miss-clean-09.wav").write_bytes(b"of an earlier report")
    (tmp_path / "clips" / "mine.wav").write_bytes(b"the user's")
    code, _, messages = run("evaluate", deaf, *options)
    assert code == 0, messages
    values = json.loads((tmp_path / "report.json").read_text())
    assert list(values["conditions"]) == ["clean", "after talk", "10 dB", "5 dB"]
    own = values["conditions"]["clean"]["at_threshold"]
    assert (own["num_missed"], own["num_positives"], own["num_false_alarms"]) == (3, 3, 0)
    assert own["hours"] * 3600 == pytest.approx(2 * 4.3, abs=0.05)
    assert own["false_rejection_rate_interval"][1] == 1.0
    assert values["latency"]["num_measured"] == 0
    assert values["cost"]["cpu_s_per_s"] > 0
    misses = values["worst_misses"]["clean"]
    assert [miss["peak_score"] for miss in misses] == sorted(miss["peak_score"] for miss in misses)
    assert len(read_audio(tmp_path / misses[0]["clip"])) == 3 * SAMPLE_RATE  # a second more on either side
    take = read_audio(misses[0]["source"])
    played = read_audio(tmp_path / misses[0]["clip"])[SAMPLE_RATE : 2 * SAMPLE_RATE]
    assert np.corrcoef(take, played)[0, 1] > 0.99
    assert not any(alarm["is_alarm"] for alarm in values["loudest_without_phrase"])
    assert isinstance(misses[0]["heard"], str)
    names = {path.name for path in (tmp_path / "clips").iterdir()}
    assert "mine.wav" in names and "miss-clean-09.wav" not in names


def test_alarms_and_latency_of_one_that_always_fires(run, models, audio, tmp_path):
    eager, _ = models
    options = ("--positives", audio / "takes", "--negatives", audio / "talk", "--clean-only", "--no-cost")
    code, _, messages = run("evaluate", eager, *options, "--report", tmp_path)
    assert code == 0, messages
    values = json.loads((tmp_path / "report.json").read_text())
    assert list(values["conditions"]) == ["clean", "after talk"]
    assert values["cost"] is None
    assert values["latency"]["num_measured"] == 3
    alarms = values["loudest_without_phrase"]
    assert alarms and alarms[0]["is_alarm"]
    assert all(0 < len(read_audio(tmp_path / alarm["clip"])) <= 3 * SAMPLE_RATE for alarm in alarms)
    assert "Nothing was missed" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_compare_the_same_with_itself(run, models, audio, tmp_path):
    eager, deaf = models
    options = ("--positives", audio / "takes", "--negatives", audio / "talk", "--snr", 10, "--no-cost")
    code, output, _ = run("compare", eager, deaf, *options)
    assert code == 0
    assert "McNemar" in output and "10 dB" in output
    code, output, _ = run("compare", eager, eager, *options, "--json")
    values = json.loads(output)
    assert [test["p_value"] for test in values["tests"]] == [1.0] * 12
    assert values["models"][0] == values["models"][1]
    assert "can't be told apart" in values["verdicts"][0]
    code, _, messages = run("compare", eager, *options)
    assert code == 2 and "name two wake words or more" in messages


def test_calibrate_saves_the_threshold_unless_dry(run, models, audio, tmp_path, make_wakeword):
    model = make_wakeword("hey computer").save(tmp_path / "mine")
    options = ("--audio", audio / "talk", "--false-alarms-per-hour", 1000, "--positives", audio / "takes")
    before = (model / "wakeword.json").read_bytes()
    code, output, _ = run("calibrate", model, *options, "--dry-run", "--json")
    assert code == 0
    values = json.loads(output)
    assert not values["is_saved"] and (model / "wakeword.json").read_bytes() == before
    code, output, _ = run("calibrate", model, *options)
    assert code == 0 and f"saved in {model}" in output and "misses of 3" in output
    wakeword = load_wakeword(model)
    assert wakeword.keywords[0].trigger.threshold == pytest.approx(values["after"]["threshold"])
    assert wakeword.details["calibrations"][0]["previous_threshold"] == 0.5


def test_calibrate_listens_to_the_microphone(run, tmp_path, make_wakeword, monkeypatch):
    class Room:
        device_name, dropped_blocks = "a room", 3

        def __init__(self, device):
            assert device == "2"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def __iter__(self):
            return iter([np.zeros(1600, np.float32)] * 1000)

    monkeypatch.setattr("kws.audio.microphone.Microphone", Room)
    model = make_wakeword("hey computer").save(tmp_path / "mine")
    options = ("--microphone", 0.1, "--device", 2, "--false-alarms-per-hour", 1000, "--json", "--dry-run")
    code, output, messages = run("calibrate", model, *options)
    assert code == 0, messages
    assert json.loads(output)["after"]["hours"] * 3600 == pytest.approx(6.0, abs=0.05)
    assert "3 blocks were dropped" in messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --audio"),
        (("--microphone", 600, "--audio", "."), "give either --audio"),
        (("--microphone", 5), "too few for 0.5 false alarms an hour"),
        (("--audio", ".", "--false-alarms-per-hour", 0), "--false-alarms-per-hour = 0.0 is impossible"),
        (("--audio", "nowhere"), "nowhere doesn't exist"),
    ],
)
def test_calibrate_refuses_with_a_reason(run, models, arguments, message):
    code, _, messages = run("calibrate", models[0], *arguments)
    assert code == 2
    assert message in messages


def test_too_little_audio_changes_nothing(run, audio, make_wakeword, tmp_path):
    model = make_wakeword("hey computer").save(tmp_path / "mine")
    before = (model / "wakeword.json").read_bytes()
    code, _, messages = run("calibrate", model, "--audio", audio / "talk")
    assert code == 2 and "too few for 0.5" in messages
    assert (model / "wakeword.json").read_bytes() == before


def test_explain_marks_detections_among_the_phones(run, models, audio, tiny_encoder_folder):
    eager, _ = models
    take = audio / "takes" / "0.wav"
    code, output, _ = run("explain", eager, take)
    assert code == 0
    assert output.startswith(f"{take}:") and "'hey computer' detected" in output
    code, output, _ = run("explain", eager, take, "--json")
    values = json.loads(output)
    assert {phone["label"] for phone in values["phones"]} <= {"AA", "B", "|"}
    assert all(0 <= phone["start_s"] < phone["end_s"] <= 1 for phone in values["phones"])
    assert values["detections"]
    code, output, _ = run("explain", tiny_encoder_folder, take, "--times")
    assert code == 0 and "detected" not in output


def test_explain_skips_what_it_cannot_read(run, tiny_encoder_folder, audio, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"nothing")
    code, output, messages = run("explain", tiny_encoder_folder, bad, audio / "takes" / "0.wav")
    assert code == 0 and "0.wav:" in output and "1 recordings could not be read" in messages
    code, _, messages = run("explain", tiny_encoder_folder, bad)
    assert code == 2 and "bad.wav" in messages
