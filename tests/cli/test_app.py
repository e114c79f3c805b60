"""The command line, run in this process through `main`, and in a process of its own where that is the point."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Outcome, Run, runner

from kws.audio.io import write_audio
from kws.model.artefact import WakeWord

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["train", "evaluate", "detect", "listen", "export", "tune", "synth", "devices", "models", "version"]

MakeWakeWord = Callable[..., WakeWord]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "80")
    return runner(capsys)


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "kws", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, **(pipes | options))  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def model(make_wakeword: MakeWakeWord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns an artefact that fires on anything at threshold 0, and on nothing at 1."""
    return make_wakeword("hey computer").save(tmp_path_factory.mktemp("model") / "hey_computer")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "recording.wav"
    write_audio(path, np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_fits_a_terminal(run: Run, command: str) -> None:
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert f"kws {command}" in outcome.output
    assert max(map(len, outcome.output.splitlines())) <= 80
    if command != "version":
        assert "Example" in outcome.output


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from kws.cli import main\n"
        "try: main(['--help'])\n"
        "finally: assert not {'torch', 'numpy', 'onnxruntime', 'soundfile'} & set(sys.modules), sys.modules.keys()"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert all(command in process.stdout for command in COMMANDS)


def test_version_is_the_same_as_a_command_and_as_an_option(run: Run) -> None:
    assert run("version") == run("--version")
    assert run("version").output.strip()


def test_python_m_kws_is_the_command() -> None:
    output, _ = start("version").communicate(timeout=60)
    assert output.strip()


def test_a_wrong_option_is_an_error(run: Run) -> None:
    assert run("detect", "--nonsense").code == 2


class TestDetect:
    def test_text(self, run: Run, model: Path, recording: Path) -> None:
        outcome = run("detect", model, recording, "--threshold", 0)
        assert outcome.code == 0
        assert outcome.output.startswith(f"{recording}: ")
        assert "hey computer" in outcome.output
        assert outcome.messages == ""

    def test_json_has_every_field_of_a_detection(self, run: Run, model: Path, recording: Path) -> None:
        first = run("detect", model, recording, "--threshold", 0, "--format", "json").detections[0]
        assert list(first) == ["file", "keyword", "score", "start_s", "end_s"]
        assert first["file"] == str(recording)
        assert first["keyword"] == "hey computer"
        assert 0 <= float(str(first["score"])) <= 1
        assert 0 <= float(str(first["start_s"])) < float(str(first["end_s"])) <= 1.5

    def test_audacity_is_start_end_label_by_tabs(self, run: Run, model: Path, recording: Path) -> None:
        outcome = run("detect", model, recording, "--threshold", 0, "--format", "audacity")
        start_s, end_s, label = outcome.output.splitlines()[0].split("\t")
        assert float(start_s) < float(end_s)
        assert label == "hey computer"

    def test_audacity_labels_one_recording_only(self, run: Run, model: Path, recording: Path) -> None:
        outcome = run("detect", model, recording, recording.parent / "other.wav", "--format", "audacity")
        assert outcome.code == 2
        assert "one recording, 2 were named" in outcome.messages

    def test_nothing_heard_is_no_error(self, run: Run, model: Path, recording: Path) -> None:
        assert run("detect", model, recording, "--threshold", 1) == Outcome(0, "", "")

    def test_more_models_are_heard_in_the_same_pass(
        self, run: Run, model: Path, recording: Path, make_wakeword: MakeWakeWord, tmp_path: Path
    ) -> None:
        second = make_wakeword("go on", seed=1).save(tmp_path / "second.kws")
        outcome = run("detect", model, recording, "-m", second, "--threshold", 0, "--format", "json")
        assert {detection["keyword"] for detection in outcome.detections} == {"hey computer", "go on"}

    def test_folders_are_searched(self, run: Run, model: Path, recording: Path) -> None:
        assert str(recording) in run("detect", model, recording.parent, "--threshold", 0).output

    def test_unreadable_files_are_skipped_counted_and_listed(
        self, run: Run, model: Path, recording: Path, tmp_path: Path
    ) -> None:
        bad, empty, missing = tmp_path / "bad.wav", tmp_path / "empty.wav", tmp_path / "missing.wav"
        bad.write_text("not audio")
        empty.touch()
        outcome = run("detect", model, bad, empty, missing, recording, "--threshold", 0)
        assert outcome.code == 0
        assert str(recording) in outcome.output
        assert outcome.messages.count("skipped: ") == 3
        assert "3 of 4 files could not be read" in outcome.messages

    def test_nothing_left_is_an_error(self, run: Run, model: Path, tmp_path: Path) -> None:
        (tmp_path / "bad.wav").write_text("not audio")
        outcome = run("detect", model, tmp_path)
        assert outcome.code == 2
        assert "1 of 1 files" in outcome.messages

    def test_an_unknown_model_is_an_error_without_a_traceback(self, run: Run, recording: Path) -> None:
        outcome = run("detect", "no-such-model", recording)
        assert outcome.code == 2
        assert outcome.messages.startswith("error: no wake word at 'no-such-model'")

    def test_debug_shows_where(self, recording: Path) -> None:
        process = start("detect", "no-such-model", recording, "--debug")
        assert "Traceback" in process.communicate(timeout=60)[1]
        assert process.returncode == 1

    @pytest.mark.parametrize("options", [("--backend", "onnx"), ("--block-ms", "160"), ("--gate",)])
    def test_how_the_encoder_is_run_changes_nothing_found(
        self, run: Run, model: Path, recording: Path, options: tuple[str, ...]
    ) -> None:
        command = ("detect", model, recording, "--threshold", "0", "--format", "json")
        expected = run(*command).detections
        assert expected
        assert run(*command, *options).detections == expected

    def test_what_cannot_run_the_encoder_is_an_error(self, run: Run, model: Path, recording: Path) -> None:
        outcome = run("detect", model, recording, "--backend", "int8")
        assert outcome.code == 2
        assert "step.int8.onnx (kws export" in outcome.messages
        outcome = run("listen", model, "--file", recording, "--fast", "--block-ms", "100")
        assert outcome.code == 2
        assert "block_ms" in outcome.messages and "a multiple of 80 ms" in outcome.messages

    def test_an_impossible_threshold_is_an_error(self, run: Run, model: Path, recording: Path) -> None:
        outcome = run("detect", model, recording, "--threshold", 3)
        assert outcome.code == 2
        assert "trigger.threshold = 3.0 is impossible; allowed: 0 to 1" in outcome.messages


class TestListen:
    def test_a_file_gives_what_detect_gives(self, run: Run, model: Path, recording: Path) -> None:
        heard = run("listen", model, "--file", recording, "--fast", "--json", "--threshold", 0)
        found = run("detect", model, recording, "--format", "json", "--threshold", 0)
        assert heard.code == 0
        assert heard.detections == [
            {key: value for key, value in detection.items() if key != "file"} for detection in found.detections
        ]
        assert "listened 1.5 s; detections: hey computer" in heard.messages
        assert "dropped blocks: 0" in heard.messages

    def test_a_file_is_paced_unless_fast(self, run: Run, model: Path, recording: Path) -> None:
        durations = []
        for arguments in ([], ["--fast"]):
            begin = time.monotonic()
            assert run("listen", model, "--file", recording, "--threshold", 0, *arguments).code == 0
            durations.append(time.monotonic() - begin)
        assert durations[0] >= 1.5
        assert durations[1] < durations[0]

    @pytest.mark.parametrize("is_wav", [True, False])
    def test_standard_input_gives_what_a_file_gives(
        self, run: Run, model: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, is_wav: bool
    ) -> None:
        content = recording.read_bytes()
        start = 0 if is_wav else content.index(b"data") + 8
        piped = types.SimpleNamespace(buffer=io.BytesIO(content[start:]))
        monkeypatch.setattr(sys, "stdin", piped)
        heard = run("listen", model, "--stdin", "--json", "--threshold", 0)
        assert heard.detections
        assert (
            heard.detections
            == run("listen", model, "--file", recording, "--fast", "--json", "--threshold", 0).detections
        )

    def test_exec_finds_the_detection_in_its_environment(
        self, run: Run, model: Path, recording: Path, tmp_path: Path
    ) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "import json, os, sys\n"
            "values = {key: value for key, value in os.environ.items() if key.startswith('KWS_')}\n"
            f"open({str(tmp_path / 'heard.json')!r}, 'a').write(json.dumps(values) + chr(10))\n"
        )
        outcome = run(
            *("listen", model, "--file", recording, "--fast", "--json", "--threshold", 0),
            *("--exec", f"'{sys.executable}' '{script}'"),
        )
        assert outcome.code == 0
        told = [json.loads(line) for line in (tmp_path / "heard.json").read_text().splitlines()]
        assert len(told) == len(outcome.detections)
        assert set(told[0]) >= {"KWS_KEYWORD", "KWS_SCORE", "KWS_START_S", "KWS_END_S"}
        assert told[0]["KWS_KEYWORD"] == "hey computer"
        assert {round(float(values["KWS_END_S"]), 3) for values in told} == {
            round(float(str(detection["end_s"])), 3) for detection in outcome.detections
        }

    def test_exec_is_not_waited_for(self, run: Run, model: Path, recording: Path) -> None:
        begin = time.monotonic()
        command = f"'{sys.executable}' -c 'import time; time.sleep(30)'"
        assert run("listen", model, "--file", recording, "--fast", "--threshold", 0, "--exec", command).code == 0
        assert time.monotonic() - begin < 15

    def test_exec_that_fails_is_reported(self, run: Run, model: Path, recording: Path) -> None:
        command = f"'{sys.executable}' -c 'import sys; sys.exit(3)'"
        outcome = run("listen", model, "--file", recording, "--fast", "--threshold", 0, "--exec", command)
        assert outcome.code == 0
        assert "failed with exit code 3" in outcome.messages

    @pytest.mark.parametrize("command", ["no-such-program", "", "echo 'open"])
    def test_exec_that_cannot_work_is_an_error_at_the_start(
        self, run: Run, model: Path, recording: Path, command: str
    ) -> None:
        outcome = run("listen", model, "--file", recording, "--fast", "--exec", command)
        assert outcome.code == 2
        assert outcome.messages.startswith("error: ")

    def test_sources_exclude_each_other(self, run: Run, model: Path, recording: Path) -> None:
        assert run("listen", model, "--file", recording, "--stdin").code == 2
        assert run("listen", model, "--fast").code == 2

    def test_an_unreadable_file_is_an_error(self, run: Run, model: Path, tmp_path: Path) -> None:
        outcome = run("listen", model, "--file", tmp_path / "missing.wav")
        assert outcome.code == 2
        assert "error: can't read" in outcome.messages

    @pytest.mark.skipif(os.name != "posix", reason="Ctrl-C can be sent to another process on POSIX only")
    def test_ctrl_c_ends_cleanly_with_a_summary(self, model: Path) -> None:
        process = start(
            *("listen", model, "--stdin", "--json", "--threshold", 0),
            stdin=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore Ctrl-C
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\0" * 64_000)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["keyword"] == "hey computer"  # flushed though the stream goes on
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        _, messages = process.communicate(timeout=30)
        assert process.returncode == 0, messages
        assert "listened" in messages
        assert "Traceback" not in messages


class TestSynth:
    @pytest.fixture(autouse=True)
    def _needs_espeak(self) -> None:
        pytest.importorskip("espeakng_loader")

    def test_clips_are_written_and_the_seed_decides_them(self, run: Run, tmp_path: Path) -> None:
        names = []
        for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
            outcome = run("synth", "hey computer", "--count", 3, "--seed", seed, "--out", tmp_path / folder)
            assert outcome.code == 0
            names.append([Path(line).name for line in outcome.output.splitlines()])
            assert all(Path(line).stat().st_size > 8_000 for line in outcome.output.splitlines())
        assert len(names[0]) == 3
        assert names[0] == names[1] != names[2]

    def test_a_voice_can_be_chosen(self, run: Run, tmp_path: Path) -> None:
        voice = run("synth", "--list-voices").output.splitlines()[0]
        outcome = run("synth", "hey", "--voice", voice, "--count", 1, "--out", tmp_path)
        assert outcome.code == 0
        assert voice.replace(":", "-") in outcome.output

    def test_an_unknown_voice_names_the_nearest(self, run: Run, tmp_path: Path) -> None:
        outcome = run("synth", "hey", "--voice", "en-us+f33", "--out", tmp_path)
        assert outcome.code == 2
        assert "did you mean 'en-us+f3'?" in outcome.messages

    def test_no_phrase_is_an_error(self, run: Run) -> None:
        assert run("synth").code == 2


def test_models_shows_what_comes_with_the_package(run: Run) -> None:
    entries = [json.loads(line) for line in run("models", "--json").output.splitlines()]
    encoders = [entry for entry in entries if entry["kind"] == "encoder"]
    assert encoders
    assert all(Path(entry["folder"]).is_dir() and entry["num_bytes"] > 0 and not entry["problem"] for entry in entries)
    assert all(entry["name"] in run("models").output for entry in entries)


def test_models_shows_a_wake_word_with_its_licence_and_metrics(
    run: Run, make_wakeword: MakeWakeWord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wakeword("hey computer").save(tmp_path / "hey_computer", card="---\nlicense: apache-2.0\n---\n")
    make_wakeword("hey computer").save(tmp_path / "damaged").joinpath("head.safetensors").write_bytes(b"")
    monkeypatch.setattr("kws.model.catalogue.pretrained_folder", lambda: tmp_path)
    damaged, whole = (json.loads(line) for line in run("models", "--json").output.splitlines())
    assert whole["keywords"] == ["hey computer"]
    assert whole["licence"] == "apache-2.0"
    assert "head.safetensors" in damaged["problem"]


def test_devices_without_portaudio_names_the_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, package: str | None = None) -> types.ModuleType:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr("kws.audio.microphone.importlib.import_module", refuse)
    outcome = run("devices")
    assert outcome.code == 2
    assert "error: the PortAudio library is missing" in outcome.messages
    assert "libportaudio2" in outcome.messages


class TestTrain:
    @pytest.fixture(autouse=True)
    def _needs_torch(self) -> None:
        pytest.importorskip("torch")

    def test_an_unknown_config_key_names_the_nearest(self, run: Run, tmp_path: Path) -> None:
        outcome = run("train", "hey computer", "--out", tmp_path / "out", "--set", "trigger.treshold=0.5")
        assert outcome.code == 2
        assert "did you mean 'trigger.threshold'?" in outcome.messages
        assert not (tmp_path / "out").exists()

    def test_options_reach_the_training(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []

        def train_wakeword(phrase: str, out: Path, **options: object) -> types.SimpleNamespace:
            options["progress"]("mixing", 1, 1)  # type: ignore[operator]
            calls.append((phrase, out, options))
            return types.SimpleNamespace(path=out, wakeword=types.SimpleNamespace(encoder_folder=None))

        monkeypatch.setattr("kws.train.wakeword.train_wakeword", train_wakeword)
        outcome = run(
            "train", "go on", "--out", tmp_path, "--encoder", "some/id", "--seed", 7, "--set", "a.b=1", "--fresh"
        )
        assert outcome.code == 0
        assert "mixing: 1 of 1" in outcome.messages
        (phrase, out, options) = calls[0]
        assert (phrase, out, options["is_fresh"]) == ("go on", tmp_path, True)
        assert options["overrides"] == ["a.b=1", 'encoder.name="some/id"', "seed=7"]

    def test_ctrl_c_says_how_to_go_on(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def train_wakeword(phrase: str, out: Path, **options: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("kws.train.wakeword.train_wakeword", train_wakeword)
        outcome = run("train", "go on", "--out", tmp_path)
        assert outcome.code == 130
        assert "interrupted; run the same command to go on" in outcome.messages
