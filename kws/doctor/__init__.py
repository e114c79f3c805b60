"""Checks this machine: packages ─▶ models ─▶ speed ─▶ sound ─▶ microphone; each finding says what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kws.doctor.finding import Finding


def examine(
    models: Sequence[str] = (),
    device: str | None = None,
    seconds: float = 2.0,
    has_play: bool = False,
    has_microphone: bool = True,
) -> Iterator[Finding]:
    """Yields what is found, check by check; nothing is changed.

    Args:
        models: wake words to check besides those that come with the package.
        device: the microphone; the default one without.
        seconds: how long it is listened to.
        has_play: whether a sound is played, to measure how loudly the microphone hears it.
        has_microphone: whether the microphone is opened at all.
    """
    from kws.doctor import machine, sound

    yield machine.check_python()
    yield from machine.check_packages()
    yield machine.check_torch_pair()
    yield from machine.check_models(models)
    yield machine.check_speed()
    yield sound.check_server()
    yield from sound.check_devices()
    if has_microphone:
        yield from sound.check_microphone(device, seconds)
        if has_play:
            yield sound.check_echo(device)
