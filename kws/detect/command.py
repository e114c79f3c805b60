"""A command of the user's, run on each detection without holding up the listening."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from kws.detect.detector import Detection
from kws.errors import ConfigError

MAX_RUNNING = 8
"""Commands at work at once; a detection that would start one more is reported and left out."""
PATIENCE_S = 5.0
"""How long `close` waits for commands still at work, to report those that fail; then they are left to themselves."""
_STDERR = 2


class DetectionCommand:
    """Starts `command` on each detection, in a process of its own, and reports the ones that fail.

    The command is split as a shell would split it, but no shell runs it. It finds the detection in the environment:
    KWS_KEYWORD, KWS_SCORE, KWS_START_S, KWS_END_S. What it prints goes to standard error, so that standard output
    carries detections only. It outlives an interrupted `kws`.

    Args:
        command: program and arguments.
        report: called with a line for each command that fails.

    Raises:
        ConfigError: no command, an open quote, or a program that isn't there.
    """

    def __init__(self, command: str, report: Callable[[str], object]) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise ConfigError(f"the command {command!r} can't be split ({error}); close its quotes") from error
        if not self._arguments or shutil.which(self._arguments[0]) is None:
            program = self._arguments[0] if self._arguments else ""
            raise ConfigError(
                f"there is no program '{program}' to run on detections; check its spelling, or give its whole path "
                "(shell syntax needs a shell: sh -c '…')"
            )
        self._report = report
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> DetectionCommand:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def start(self, detection: Detection) -> None:
        """Starts the command for `detection` and returns at once."""
        self.reap()
        if len(self._running) >= MAX_RUNNING:
            self._report(f"{self._arguments[0]}: not run, {MAX_RUNNING} of it are still at work")
            return
        try:
            process = subprocess.Popen(
                self._arguments,
                env=os.environ | _variables(detection),
                stdin=subprocess.DEVNULL,
                stdout=_STDERR,
                start_new_session=True,
            )
        except OSError as error:
            self._report(f"{self._arguments[0]}: can't be run ({error.strerror})")
            return
        self._running.append(process)

    def reap(self) -> None:
        """Reports the commands that ended with a failure since the last call."""
        for process in [process for process in self._running if process.poll() is not None]:
            self._running.remove(process)
            if process.returncode:
                self._report(f"{self._arguments[0]}: failed with exit code {process.returncode}")

    def close(self) -> None:
        """Waits a little for the commands still at work and reports the ones that fail; idempotent."""
        for process in self._running:
            try:
                process.wait(PATIENCE_S / MAX_RUNNING)
            except subprocess.TimeoutExpired:
                continue
        self.reap()


def _variables(detection: Detection) -> dict[str, str]:
    return {
        "KWS_KEYWORD": detection.keyword,
        "KWS_SCORE": f"{detection.score:.4f}",
        "KWS_START_S": f"{detection.start_s:.3f}",
        "KWS_END_S": f"{detection.end_s:.3f}",
    }
