"""Configuration: frozen dataclasses ↔ TOML, `key=value` overrides, and errors that name the nearest valid key."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kws.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Config = TypeVar("Config")


def load_config(cls: type[Config], source: Config | Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Returns a `cls` read from `source` (defaults without one), then changed by `overrides`.

    Args:
        cls: a frozen dataclass, whose fields may be such dataclasses (TOML tables).
        source: a TOML file, or a `cls`.
        overrides: `"section.key=value"` strings; the value is TOML, or a bare string.

    Raises:
        ConfigError: unreadable TOML, an unknown key, or an impossible value.
    """
    if source is None:
        values: dict[str, Any] = {}
    elif isinstance(source, (str, Path)):
        values = _read_toml(source)
    else:
        values = to_dict(source)
    for override in overrides:
        _apply_override(values, override)
    return from_dict(cls, values)


def from_dict(cls: type[Config], values: Mapping[str, Any], prefix: str = "") -> Config:
    """Returns a `cls` from nested `values`; keys left out keep their defaults.

    Raises:
        ConfigError: an unknown key (with the nearest valid one) or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        if key not in names:
            nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
            raise ConfigError(
                f"unknown config key '{prefix}{key}'; did you mean '{prefix}{nearest[0]}'? "
                f"Valid keys: {', '.join(prefix + name for name in names)}"
            )
        arguments[key] = _convert(value, hints[key], prefix + key)
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ConfigError(f"incomplete config{f' section [{prefix[:-1]}]' if prefix else ''}: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Returns `config` as nested plain values, without the keys that are None (TOML has no null)."""
    result: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            result[field.name] = to_dict(value)
        elif isinstance(value, tuple):
            result[field.name] = list(value)
        elif value is not None:
            result[field.name] = value
    return result


def to_toml(config: Any) -> str:
    """Returns `config`, resolved, as TOML text that `load_config` reads back to an equal object."""
    import tomli_w

    return tomli_w.dumps(to_dict(config))


def check(is_possible: bool, key: str, value: object, allowed: str) -> None:
    """Raises a `ConfigError` that names `key`, `value` and what is `allowed`, unless `is_possible`."""
    if not is_possible:
        raise ConfigError(f"{key} = {value!r} is impossible; allowed: {allowed}")


def _read_toml(path: Path | str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read the config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override '{override}' is not of the form section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, name = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override '{override}': '{section}' is a value, not a section")
    values[name] = value


def _convert(value: Any, hint: Any, key: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        origin = typing.get_origin(option) or option
        if dataclasses.is_dataclass(origin) and isinstance(value, Mapping):
            return from_dict(typing.cast(Any, origin), value, f"{key}.")
        if origin is typing.Literal and value in typing.get_args(option):
            return value
        if origin is tuple and isinstance(value, (list, tuple)):
            element = typing.get_args(option)[0]
            return tuple(_convert(item, element, f"{key}[{index}]") for index, item in enumerate(value))
        if origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(origin, type) and type(value) is origin:
            return value
    raise ConfigError(f"{key} = {value!r} has the wrong type; allowed: {_describe(options)}")


def _describe(options: Sequence[Any]) -> str:
    words = []
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            words += [repr(value) for value in typing.get_args(option)]
        elif option is not type(None):
            words.append(getattr(option, "__name__", str(option)))
    return ", ".join(words)
