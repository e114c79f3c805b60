"""The folder of a recording session: numbered takes of one phrase, and the manifest that `read_clips` reads."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np

from kws.audio.io import write_audio
from kws.data.manifest import read_manifest
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

MANIFEST = "takes.jsonl"


class TakeFolder:
    """Takes of one phrase in `folder`; a session that was stopped goes on with the next number.

    Files are written whole or not at all, and the manifest only after the take that it names.

    Attributes:
        paths: the takes that are there, in order.

    Args:
        folder: made with the first take.
        stem: what the takes' names begin with.
        text: what is said.
        speaker: who says it, or empty.

    Raises:
        ConfigError: a bad line in the manifest that is there already.
    """

    def __init__(self, folder: Path, stem: str, text: str, speaker: str = "") -> None:
        self.folder = folder
        self._stem = stem
        self._fields = {"text": text} | ({"speaker": speaker} if speaker else {})
        self._numbered = re.compile(re.escape(stem) + r"-(\d+)\.wav")
        self.paths = sorted(path for path in folder.glob("*.wav") if self._numbered.fullmatch(path.name))
        self._lines = self._read_lines()

    def add(self, waveform: np.ndarray) -> Path:
        """Writes `waveform`, (num_samples,) float32 at 16 kHz, as the next take, and returns its path.

        Raises:
            AudioError: the folder can't be written.
        """
        path = self.folder / f"{self._stem}-{self._next_number():04d}.wav"
        write_audio(path, waveform)
        self.paths.append(path)
        fields = {"audio_filepath": path.name, "duration": round(len(waveform) / SAMPLE_RATE, 3)}
        self._lines[path.name] = json.dumps(fields | self._fields, ensure_ascii=False)
        self._write_manifest()
        return path

    def _next_number(self) -> int:
        numbers = [int(found.group(1)) for path in self.paths if (found := self._numbered.fullmatch(path.name))]
        return max(numbers, default=0) + 1

    def _read_lines(self) -> dict[str, str]:
        """Returns the manifest's lines by file name: none for takes that were deleted, one for each that is there."""
        manifest = self.folder / MANIFEST
        lines: dict[str, str] = {}
        if manifest.is_file():
            read_manifest(manifest)
            for line in manifest.read_text(encoding="utf-8").splitlines():
                name = json.loads(line)["audio_filepath"] if line.strip() else ""
                if name and (self.folder / name).is_file():
                    lines[name] = line
        for path in self.paths:
            bare = json.dumps({"audio_filepath": path.name} | self._fields, ensure_ascii=False)
            lines.setdefault(path.name, bare)
        return lines

    def _write_manifest(self) -> None:
        manifest = self.folder / MANIFEST
        temporary = manifest.with_name(f".{MANIFEST}.tmp")
        try:
            temporary.write_text("".join(f"{line}\n" for line in self._lines.values()), encoding="utf-8")
            os.replace(temporary, manifest)
        except OSError as error:
            raise AudioError(
                f"can't write {manifest}: {error.strerror}; check the folder and its free space"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
