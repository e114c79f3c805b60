"""What the README shows works: its Python example runs, its commands and options exist."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kws
from kws.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"(?:^|`)(kws [a-z]+[^`\n#|]*)", README, flags=re.MULTILINE)))


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_runs(tiny_wakeword, noise, tmp_path, monkeypatch, capsys):
    (example,) = code_blocks("python")
    tiny_wakeword.with_threshold(0.0).save(tmp_path / "hey_computer")

    class OneClip:
        def __enter__(self):
            return iter([noise])

        def __exit__(self, *error):
            return None

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kws, "Microphone", OneClip, raising=False)
    exec(compile(example, "README.md", "exec"), {})
    assert "tiny" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_their_options_exist(command):
    _, name, *arguments = shlex.split(command)
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, command
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in result.output, command


def test_make_targets_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)$", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_no_figure_without_a_command():
    """Every table of results names the command that measured it."""
    _, _, measured = README.partition("## How good is it")
    assert "python recipes/wake-words/measure.py" in measured
