"""`kws record` keeps good takes, refuses bad ones with the reason, and goes on; `kws enrol` makes a detector."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_system import pulse_null_sink
from command_line import Run, runner

from kws.audio.io import read_audio, write_audio
from kws.audio.quality import measure_speech
from kws.data.manifest import read_clips
from kws.data.synth import draw_voice, speak
from kws.frames import SAMPLE_RATE

ROOT = Path(__file__).resolve().parents[2]
ROOM_DB = -65.0


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return runner(capsys)


def phrase(level_db: float = -20.0, duration_s: float = 0.7) -> np.ndarray:
    """Returns a sound as long and loud as a phrase: (num_samples,) float32."""
    sound = np.random.default_rng(1).standard_normal(round(duration_s * SAMPLE_RATE))
    return (sound * 10 ** (level_db / 20)).astype(np.float32)


def session(path: Path, *phrases: np.ndarray, room_db: float = ROOM_DB, count_in_s: float = 1.5) -> Path:
    """Writes a second of room, then for each phrase the count, a moment, the phrase and a pause; returns `path`."""
    parts = [np.zeros(SAMPLE_RATE)]
    for sound in phrases:
        parts += [np.zeros(round((count_in_s + 0.3) * SAMPLE_RATE)), sound, np.zeros(round(0.62 * SAMPLE_RATE))]
    waveform = np.concatenate(parts)
    waveform += np.random.default_rng(0).standard_normal(len(waveform)) * 10 ** (room_db / 20)
    write_audio(path, waveform.astype(np.float32))
    return path


@pytest.mark.parametrize("command", ["record", "enrol"])
def test_help_fits_a_terminal_and_shows_examples(run: Run, command: str) -> None:
    outcome = run(command, "--help")
    assert f"kws {command}" in outcome.output and "Example" in outcome.output
    assert max(map(len, outcome.output.splitlines())) <= 80


def test_takes_are_kept_trimmed_and_listed(run: Run, tmp_path: Path) -> None:
    recording = session(tmp_path / "session.wav", phrase(), phrase(duration_s=0.5), phrase(duration_s=1.1))
    outcome = run("record", "Hey, Computer", "--count", 3, "--file", recording, "--speaker", "anna")
    assert outcome.code == 0, outcome.messages
    folder = tmp_path / "hey_computer-recordings"
    paths = [folder / f"hey_computer-000{number}.wav" for number in (1, 2, 3)]
    assert outcome.output.split() == [str(path.relative_to(tmp_path)) for path in paths]
    clips = read_clips(folder / "takes.jsonl")
    assert [clip.path for clip in clips] == paths
    assert {(clip.text, clip.speaker) for clip in clips} == {("Hey, Computer", "anna")}
    for clip, duration_s in zip(clips, (0.7, 0.5, 1.1)):
        info = soundfile.info(clip.path)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        assert clip.duration_s == pytest.approx(duration_s + 0.6, abs=0.05)  # 0.3 s of room on either side
        assert measure_speech(read_audio(clip.path)).start_s == pytest.approx(0.3, abs=0.03)
    assert f"the room is at {ROOM_DB:.1f}" in outcome.messages or "the room is at -65.1" in outcome.messages
    assert "kws enrol 'Hey, Computer' hey_computer-recordings" in outcome.messages


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (phrase(level_db=-48.0), "too quiet: its speech is at -4"),
        (np.clip(20 * phrase(), -1, 1), "clipping: "),
        (phrase(duration_s=0.12), "too short: it holds 0.1"),
        (np.zeros(6 * SAMPLE_RATE, np.float32), "silence: nothing rose above -50.0 dBFS within 4 s"),
        (phrase(duration_s=4.5), "too long: no pause came within 4 s"),
    ],
    ids=["quiet", "clipped", "short", "silent", "long"],
)
def test_a_bad_take_is_refused_with_the_reason_and_asked_for_again(
    run: Run, tmp_path: Path, bad: np.ndarray, reason: str
) -> None:
    recording = session(tmp_path / "session.wav", bad, phrase())
    outcome = run("record", "jarvis", "--count", 1, "--file", recording, "--out", tmp_path / "takes")
    assert outcome.code == 0, outcome.messages
    assert f"take 1 of 1 refused, again please: {reason}" in outcome.messages
    (clip,) = read_clips(tmp_path / "takes/takes.jsonl")
    assert clip.duration_s == pytest.approx(1.3, abs=0.05)


def test_a_noisy_room_is_named_and_its_takes_refused(run: Run, tmp_path: Path) -> None:
    recording = session(tmp_path / "session.wav", phrase(-20.0), room_db=-30.5)
    recording_loud = session(tmp_path / "loud.wav", phrase(-21.5), phrase(-12.0), room_db=-30.0)
    outcome = run("record", "jarvis", "--count", 1, "--file", recording, "--out", tmp_path / "quieter")
    assert "a loud room (-30." in outcome.messages
    outcome = run("record", "jarvis", "--count", 1, "--file", recording_loud, "--out", tmp_path / "takes")
    assert outcome.code == 0, outcome.messages
    assert "refused" in outcome.messages
    assert len(read_clips(tmp_path / "takes/takes.jsonl")) == 1


def test_the_same_command_goes_on_with_the_next_number(run: Run, tmp_path: Path) -> None:
    recording, out = session(tmp_path / "session.wav", *[phrase()] * 3), tmp_path / "takes"
    assert run("record", "jarvis", "--count", 2, "--file", recording, "--out", out).code == 0
    (out / "jarvis-0001.wav").unlink()
    (out / ".jarvis-0002.wav.1234.tmp").write_bytes(b"RIFF")  # as a killed session might leave it
    outcome = run("record", "jarvis", "--count", 3, "--file", recording, "--out", out)
    assert [Path(line).name for line in outcome.output.split()] == ["jarvis-0003.wav", "jarvis-0004.wav"]
    assert [clip.path.name for clip in read_clips(out / "takes.jsonl")] == [f"jarvis-000{n}.wav" for n in (2, 3, 4)]
    again = run("record", "jarvis", "--count", 3, "--file", recording, "--out", out)
    assert (again.code, again.output) == (0, "")


def test_a_source_that_ends_early_is_an_error_and_keeps_the_takes(run: Run, tmp_path: Path) -> None:
    recording = session(tmp_path / "session.wav", phrase())
    outcome = run("record", "jarvis", "--count", 2, "--file", recording, "--out", tmp_path / "takes")
    assert outcome.code == 2
    assert "ended before all takes were made" in outcome.messages
    assert len(read_clips(tmp_path / "takes")) == 1


def test_nothing_but_silence_is_an_error_in_the_end(run: Run, tmp_path: Path) -> None:
    recording = session(tmp_path / "session.wav", np.zeros(70 * SAMPLE_RATE, np.float32))
    outcome = run("record", "jarvis", "--file", recording, "--out", tmp_path / "takes")
    assert outcome.code == 2
    assert "10 takes in a row were refused, the last for silence" in outcome.messages
    assert not (tmp_path / "takes").exists()


def test_impossible_wishes(run: Run, tmp_path: Path) -> None:
    assert "exclude each other" in run("record", "jarvis", "--stdin", "--device", "1").messages
    assert "1 to 30 seconds" in run("record", "jarvis", "--seconds", 0, "--stdin").messages
    assert "no letters" in run("record", "!?").messages
    assert run("record", "jarvis", "--file", tmp_path / "none.wav").code == 2


def test_ctrl_c_leaves_whole_files_only(tmp_path: Path) -> None:
    recording = session(tmp_path / "session.wav", *[phrase()] * 2)
    command = [sys.executable, "-m", "kws", "record", "jarvis", "--stdin", "--out", str(tmp_path / "takes")]
    process = subprocess.Popen(
        command,
        **{"cwd": ROOT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore Ctrl-C
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(soundfile.read(recording, dtype="int16")[0].tobytes() + bytes(4_000))
    process.stdin.flush()
    for _ in range(2):
        assert process.stdout.readline()
    time.sleep(0.3)  # it waits for the third take
    process.send_signal(signal.SIGINT)
    code, messages = process.wait(timeout=30), process.stderr.read().decode()
    assert code == 130, messages
    assert "interrupted with 2 takes; run the same command to go on" in messages
    assert sorted(path.name for path in (tmp_path / "takes").iterdir()) == [
        "jarvis-0001.wav", "jarvis-0002.wav", "takes.jsonl",
    ]  # fmt: skip
    for clip in read_clips(tmp_path / "takes/takes.jsonl"):
        assert read_audio(clip.path).size == pytest.approx(1.3 * SAMPLE_RATE, abs=800)


@pytest.mark.microphone
def test_takes_at_the_microphone(tmp_path: Path) -> None:
    write_audio(tmp_path / "phrase.wav", phrase())
    out = tmp_path / "takes"
    with pulse_null_sink() as pulse:
        command = [sys.executable, "-m", "kws", "record", "jarvis", "--count", "2", "--out", str(out)]
        process = subprocess.Popen(
            [*command, "--count-in", "0.5", "--seconds", "10"],
            **{"cwd": ROOT, "env": pulse.env, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        )
        assert process.stderr is not None
        messages = []
        for line in process.stderr:
            messages.append(line)
            if "say it now" in line:
                time.sleep(0.5)
                pulse.play(tmp_path / "phrase.wav")
        assert process.wait(timeout=60) == 0, messages
    assert not any("refused" in message for message in messages)
    for clip in read_clips(out / "takes.jsonl"):
        take = measure_speech(read_audio(clip.path))
        assert take.duration_s == pytest.approx(0.7, abs=0.06)
        assert take.speech_db == pytest.approx(-20.0, abs=2.0)  # resampled twice, it lacks the top of its band


def test_what_was_recorded_is_enrolled_and_improved(run: Run, tiny_encoder_folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voices = [draw_voice(rng) for _ in range(3)]
    recording = session(tmp_path / "session.wav", *(0.4 * speak("lumos", voice).waveform for voice in voices))
    assert run("record", "lumos", "--count", 3, "--file", recording).code == 0
    small = ["pool.num_voices=2", "pool.num_validation_voices=2", "windows.num_positives=8", "windows.num_negatives=8"]
    small += ["validation_windows=1", "training.epochs=1", "training.rounds=1", "training.batch_size=8"]
    options = [part for setting in small for part in ("--set", setting)]
    options += ["--encoder", str(tiny_encoder_folder)]
    outcome = run("enrol", "Lumos", "lumos-recordings", "--keep-clips", *options)
    assert outcome.code == 0, outcome.messages
    assert "lumos is ready; try it: kws listen lumos" in outcome.output
    assert "CARD.md says what was not measured" in outcome.output
    assert len(list((tmp_path / "lumos/clips").glob("*.wav"))) == 3
    outcome = run("detect", "lumos", "--threshold", 0, "--format", "json", "lumos-recordings/lumos-0001.wav")
    assert json.loads(outcome.output.splitlines()[0])["keyword"] == "lumos"
    options += ["--set", "validation_positives=2"]
    outcome = run("train", "lumos", "--from", "lumos", "--out", "better", *options)
    assert outcome.code == 0, outcome.messages
    outcome = run("train", "lumos", "--from", "lumos", "--out", "other", *options, "--set", "head.hidden=8")
    assert outcome.code == 2
    assert "leave --from out" in outcome.messages


def test_detect_warns_of_odd_recordings_on_standard_error(run: Run, make_wakeword, tmp_path: Path) -> None:
    model = make_wakeword("lumos").save(tmp_path / "lumos")
    write_audio(tmp_path / "good.wav", phrase())
    write_audio(tmp_path / "offset.wav", phrase() + np.float32(0.25))
    outcome = run("detect", model, tmp_path / "good.wav", tmp_path / "offset.wav", "--format", "json")
    assert outcome.code == 0
    assert f"warning: {tmp_path / 'offset.wav'}: DC offset: its mean is +0.2" in outcome.messages
    assert "good.wav" not in outcome.messages
    assert all(json.loads(line)["keyword"] == "lumos" for line in outcome.output.splitlines())
