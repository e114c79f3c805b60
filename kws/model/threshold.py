"""A new threshold in an artefact that is there: wakeword.json rewritten, whole or not at all, nothing else touched."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kws.errors import ArtefactError
from kws.model.artefact import MAX_FILE_BYTES, METADATA_FILE
from kws.model.files import write_atomically


def write_threshold(
    path: Path, column: int, threshold: float, record_key: str = "", record: Mapping[str, Any] | None = None
) -> None:
    """Writes `threshold` of the keyword `column` into the artefact at `path`: a folder or a `.kws` archive.

    Of an archive the other members are copied.

    Args:
        path: the artefact.
        column: which of its keywords.
        threshold: 0 to 1.
        record_key: where the details keep how thresholds came about, oldest first.
        record: how this one did.

    Raises:
        ArtefactError: it can't be read or written.
    """

    def changed(content: bytes) -> bytes:
        values = json.loads(content)
        values["keywords"][column]["trigger"]["threshold"] = threshold
        if record is not None:
            details = values.setdefault("details", {})
            details[record_key] = [*details.get(record_key, ()), record]
        return (json.dumps(values, indent=2) + "\n").encode()

    try:
        if path.is_dir():
            write_atomically(path / METADATA_FILE, changed((path / METADATA_FILE).read_bytes()))
            return
        buffer = io.BytesIO()
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as copy:
            for member in archive.infolist():
                if member.file_size > MAX_FILE_BYTES:
                    raise ValueError(f"{member.filename} is larger than a wake word's")
                content = archive.read(member)
                copy.writestr(member.filename, changed(content) if member.filename == METADATA_FILE else content)
        write_atomically(path, buffer.getvalue())
    except (OSError, zipfile.BadZipFile, KeyError, IndexError, ValueError) as error:
        raise ArtefactError(f"{path} can't be changed ({error}); check that it is whole and may be written") from error
