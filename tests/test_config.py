"""Configuration: what is read is what was written, and every mistake is named with its remedy."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Literal

import pytest

from kws.config import check, from_dict, load_config, to_dict, to_toml
from kws.errors import ConfigError


@dataclass(frozen=True)
class Noise:
    snr_db: float = 10.0
    colours: tuple[str, ...] = ("pink", "white")

    def __post_init__(self) -> None:
        check(-30 <= self.snr_db <= 60, "noise.snr_db", self.snr_db, "-30 to 60")


@dataclass(frozen=True)
class Settings:
    name: str = "default"
    steps: int = 100
    is_fast: bool = False
    kind: Literal["conv", "gru"] = "conv"
    folder: str | None = None
    noise: Noise = Noise()


def test_nothing_given_is_the_defaults() -> None:
    assert load_config(Settings) == Settings()


def test_toml_round_trip(tmp_path: Path) -> None:
    settings = Settings('näme "quoted"', 7, True, "gru", None, Noise(-3.5, ("brown",)))
    (tmp_path / "config.toml").write_text(to_toml(settings), encoding="utf-8")
    assert load_config(Settings, tmp_path / "config.toml") == settings
    assert from_dict(Settings, to_dict(settings)) == settings


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps=5", Settings(steps=5)),
        ("name=facebook/wav2vec2-base", Settings(name="facebook/wav2vec2-base")),
        ('name="5"', Settings(name="5")),
        ("is_fast=true", Settings(is_fast=True)),
        ("noise.snr_db=5", Settings(noise=Noise(snr_db=5.0))),
        ('noise.colours=["blue"]', Settings(noise=Noise(colours=("blue",)))),
        ("folder=a=b", Settings(folder="a=b")),
    ],
)
def test_override(override: str, expected: Settings) -> None:
    assert load_config(Settings, overrides=[override]) == expected


def test_an_override_wins_over_the_file_and_the_later_over_the_earlier(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("steps = 1\n[noise]\nsnr_db = 0\ncolours = ['blue']\n")
    settings = load_config(Settings, tmp_path / "config.toml", ["steps=2", "noise.snr_db=3", "steps=4"])
    assert settings == Settings(steps=4, noise=Noise(3.0, ("blue",)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=1", r"unknown config key 'stepz'; did you mean 'steps'\?.*Valid keys: name, steps"),
        ("noise.snr=1", r"unknown config key 'noise.snr'; did you mean 'noise.snr_db'\?"),
        ("steps=many", r"steps = 'many' has the wrong type; allowed: int"),
        ("steps=1.5", r"steps = 1.5 has the wrong type; allowed: int"),
        ("steps=true", r"steps = True has the wrong type; allowed: int"),
        ("noise.snr_db=true", r"noise.snr_db = True has the wrong type; allowed: float"),
        ("name=5", r"name = 5 has the wrong type; allowed: str"),
        ("kind=lstm", r"kind = 'lstm' has the wrong type; allowed: 'conv', 'gru'"),
        ("folder=5", r"folder = 5 has the wrong type; allowed: str"),
        ("noise=5", r"noise = 5 has the wrong type; allowed: Noise"),
        ("noise.colours=[1]", r"noise.colours\[0\] = 1 has the wrong type"),
        ("noise.snr_db=99", r"noise.snr_db = 99.0 is impossible; allowed: -30 to 60"),
        ("steps", r"override 'steps' is not of the form section.key=value"),
        ("=5", r"override '=5' is not of the form"),
    ],
)
def test_a_mistake_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Settings, overrides=[override])


def test_an_override_into_a_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'name' is a value, not a section"):
        load_config(Settings, overrides=["name=a", "name.b=1"])


@pytest.mark.parametrize("content", ["steps = ", "steps = 1\nsteps = 2", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_an_error(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"config\.toml is not valid TOML"):
        load_config(Settings, path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't read the config .*missing\.toml: No such file"):
        load_config(Settings, tmp_path / "missing.toml")


def test_configs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        load_config(Settings).steps = 1  # type: ignore[misc]
