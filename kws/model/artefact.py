"""The wake-word artefact: a folder, or one `.kws` zip, of wakeword.json + head.safetensors + CARD.md; no pickle.

Everything is checked before any weight is used: format, version, names, shapes, dtypes, sizes and hashes. Archives are
read in memory and never unpacked, so they can't write anywhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from kws.config import check, from_dict, to_dict
from kws.errors import ArtefactError, ConfigError
from kws.frames import SAMPLE_RATE
from kws.model.files import pretrained_folder, write_atomically
from kws.model.settings import EncoderConfig, HeadConfig, TriggerConfig

FORMAT = "kws-wakeword"
FORMAT_VERSION = 1
METADATA_FILE = "wakeword.json"
WEIGHTS_FILE = "head.safetensors"
CARD_FILE = "CARD.md"
ARCHIVE_SUFFIX = ".kws"
ENCODER_FOLDER = "encoder"
"""In the folder of a wake word that has an encoder of its own: that encoder, as `load_encoder` reads it."""
OWN_ENCODER = f"./{ENCODER_FOLDER}"
"""What such a wake word's metadata calls it, wherever the folder is moved to."""
MAX_FILE_BYTES = 64 << 20
"""Largest file of an artefact that is read; a head has a few hundred kilobytes."""
MAX_DIM = 1 << 17
MAX_DURATION_S = 60.0


@dataclass(frozen=True)
class Keyword:
    """One keyword of a wake word.

    Attributes:
        name: what detections are called, the phrase as typed.
        duration_s: typical length of the phrase, in seconds.
        trigger: when its scores fire.
    """

    name: str
    duration_s: float = 0.8
    trigger: TriggerConfig = field(default_factory=TriggerConfig)

    def __post_init__(self) -> None:
        check(bool(self.name.strip()), "keyword.name", self.name, "any text")
        check(0 <= self.duration_s <= MAX_DURATION_S, "keyword.duration_s", self.duration_s, "0 to 60 seconds")


@dataclass(frozen=True)
class WakeWord:
    """A trained head and all that is needed to run it, except the encoder, which it names and pins.

    Attributes:
        keywords: one for each output of the head.
        encoder: how the encoder is loaded.
        encoder_sha256: hash of the encoder's weight file.
        dim: width of the frames that the head takes.
        num_states: layers in a frame.
        head: kind and size.
        weights: the head's parameters by name, float32.
        details: metrics with hours and counts, seed, versions, licences: recorded, not used.
        encoder_folder: of an encoder that was trained for this wake word and is kept with it; None for any other.
    """

    keywords: tuple[Keyword, ...]
    encoder: EncoderConfig
    encoder_sha256: str
    dim: int
    num_states: int
    head: HeadConfig
    weights: Mapping[str, np.ndarray] = field(repr=False)
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    encoder_folder: Path | None = None

    def save(self, path: Path | str, card: str = "") -> Path:
        """Writes the artefact to `path`: a zip if it ends in `.kws`, else a folder; returns the path.

        Raises:
            ArtefactError: a zip is asked for, but the wake word has an encoder of its own.
        """
        path = Path(path)
        if self.encoder_folder is not None:
            _keep_encoder(self.encoder_folder, path)
        weights = save_safetensors({name: np.ascontiguousarray(array) for name, array in self.weights.items()})
        members = {WEIGHTS_FILE: weights, CARD_FILE: card.encode(), METADATA_FILE: self._metadata(weights)}
        if path.suffix == ARCHIVE_SUFFIX:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
            write_atomically(path, buffer.getvalue())
        else:
            for name, content in members.items():
                write_atomically(path / name, content)
        return path

    def with_threshold(self, threshold: float) -> WakeWord:
        """Returns the wake word with every keyword firing at `threshold`; raises ConfigError unless it is in 0..1."""
        triggers = [replace(keyword.trigger, threshold=threshold) for keyword in self.keywords]
        keywords = tuple(replace(keyword, trigger=trigger) for keyword, trigger in zip(self.keywords, triggers))
        return replace(self, keywords=keywords)

    def _metadata(self, weights: bytes) -> bytes:
        values = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "sample_rate": SAMPLE_RATE,
            "keywords": [asdict(keyword) for keyword in self.keywords],
            "encoder": to_dict(self.encoder) | ({"name": OWN_ENCODER} if self.encoder_folder is not None else {}),
            "encoder_sha256": self.encoder_sha256,
            "dim": self.dim,
            "num_states": self.num_states,
            "head": to_dict(self.head),
            "head_sha256": hashlib.sha256(weights).hexdigest(),
            "details": dict(self.details),
        }
        return (json.dumps(values, indent=2) + "\n").encode()


def load_wakeword(path: Path | str) -> WakeWord:
    """Returns the wake word at `path`: a folder, a `.kws` file, or the name of one that comes with the package.

    Raises:
        ArtefactError: nothing there, or it is damaged, hostile, or from another version; nothing was used of it.
    """
    path = _find(path)
    read = _archive_reader(path) if path.is_file() else _folder_reader(path)
    values = _parse(read(METADATA_FILE), path)
    weights = read(WEIGHTS_FILE)
    if hashlib.sha256(weights).hexdigest() != values.get("head_sha256"):
        raise ArtefactError(f"{path}: {WEIGHTS_FILE} is not the one {METADATA_FILE} was written with; copy it again")
    try:
        arrays = load_safetensors(weights)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path}: {WEIGHTS_FILE} is damaged ({error}); copy or train it again") from error
    try:
        encoder = from_dict(EncoderConfig, values["encoder"])
        own = _own_encoder(path) if encoder.name == OWN_ENCODER else None
        wakeword = WakeWord(
            keywords=tuple(from_dict(Keyword, keyword) for keyword in values["keywords"]),
            encoder=encoder if own is None else replace(encoder, name=str(own)),
            encoder_sha256=str(values["encoder_sha256"]),
            dim=int(values["dim"]),
            num_states=int(values["num_states"]),
            head=from_dict(HeadConfig, {"members": 1, **values["head"]}),  # heads made before they had members
            weights=arrays,
            details=dict(values.get("details", {})),
            encoder_folder=own,
        )
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{path}: {METADATA_FILE} is damaged ({error!r}); copy or train it again") from error
    _check_weights(wakeword, path)
    return wakeword


def expected_shapes(wakeword: WakeWord) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every parameter that a head with the settings of `wakeword` has."""
    width, num_keywords = wakeword.head.width, len(wakeword.keywords)
    shapes: dict[str, tuple[int, ...]] = {
        "state_weights": (wakeword.num_states,),
        "input.weight": (width, wakeword.dim // wakeword.num_states),
        "input.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "output.weight": (num_keywords, width),
        "output.bias": (num_keywords,),
    }
    if wakeword.head.kind == "gru":
        shapes |= {f"temporal.weight_{part}_l0": (3 * width, width) for part in ("ih", "hh")}
        shapes |= {f"temporal.bias_{part}_l0": (3 * width,) for part in ("ih", "hh")}
    else:
        shapes |= {"temporal.weight": (width, wakeword.head.hidden, wakeword.head.kernel), "temporal.bias": (width,)}
    return shapes


def _check_weights(wakeword: WakeWord, path: Path) -> None:
    dim, num_states, num_keywords = wakeword.dim, wakeword.num_states, len(wakeword.keywords)
    if not num_keywords or not 1 <= num_states <= dim <= MAX_DIM or dim % num_states:
        raise ArtefactError(f"{path}: impossible sizes (dim {dim}, {num_states} layers, {num_keywords} keywords)")
    shapes = expected_shapes(wakeword)
    if set(shapes) != set(wakeword.weights):
        odd = sorted(set(shapes) ^ set(wakeword.weights))
        raise ArtefactError(f"{path}: {WEIGHTS_FILE} has missing or extra weights: {', '.join(odd[:5])}")
    for name, shape in shapes.items():
        array = wakeword.weights[name]
        if array.shape != shape or array.dtype != np.float32:
            raise ArtefactError(f"{path}: {name} is {array.dtype} {array.shape}; expected float32 {shape}")
        if not np.isfinite(array).all():
            raise ArtefactError(f"{path}: {name} holds NaN or infinity; train it again")


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: {METADATA_FILE} is not JSON ({error}); copy or train it again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ArtefactError(f"{path}: {METADATA_FILE} is not of the format '{FORMAT}'")
    if values.get("format_version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has format version {values.get('format_version')!r}, this kws reads {FORMAT_VERSION}; "
            "update kws, or train the wake word again"
        )
    if values.get("sample_rate") != SAMPLE_RATE:
        raise ArtefactError(f"{path} was made for {values.get('sample_rate')!r} Hz; only {SAMPLE_RATE} Hz works here")
    return values


def _keep_encoder(folder: Path, path: Path) -> None:
    """Copies the encoder in `folder` into the artefact at `path`, unless it is there."""
    if path.suffix == ARCHIVE_SUFFIX:
        raise ArtefactError(f"{path}: the wake word has an encoder of its own, too large for a zip; name a folder")
    if (path / ENCODER_FOLDER).resolve() != folder.resolve():
        shutil.rmtree(path / ENCODER_FOLDER, ignore_errors=True)
        shutil.copytree(folder, path / ENCODER_FOLDER)


def _own_encoder(path: Path) -> Path:
    if not (path / ENCODER_FOLDER).is_dir():
        raise ArtefactError(f"{path} lacks the folder '{ENCODER_FOLDER}' with its own encoder; copy it again, whole")
    return path / ENCODER_FOLDER


def _find(path: Path | str) -> Path:
    for candidate in (Path(path).expanduser(), pretrained_folder() / str(path)):
        if candidate.is_file() or (candidate / METADATA_FILE).is_file():
            return candidate
    raise ArtefactError(
        f"no wake word at '{path}': expected a folder with {METADATA_FILE}, a {ARCHIVE_SUFFIX} file, or a name that "
        "`kws models` lists; make one with: kws train PHRASE"
    )


def _folder_reader(folder: Path):
    def read(name: str) -> bytes:
        try:
            if (folder / name).stat().st_size > MAX_FILE_BYTES:
                raise ArtefactError(f"{folder / name} is larger than {MAX_FILE_BYTES >> 20} MB: not a wake word's")
            return (folder / name).read_bytes()
        except OSError as error:
            raise ArtefactError(f"{folder / name} can't be read ({error.strerror}); copy it again") from error

    return read


def _archive_reader(path: Path):
    def read(name: str) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(name) as member:
                content = member.read(MAX_FILE_BYTES + 1)
        except (OSError, zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, EOFError) as error:
            raise ArtefactError(f"{path}: {name} can't be read from the archive ({error}); copy it again") from error
        except zlib.error as error:
            raise ArtefactError(f"{path}: {name} is damaged ({error}); copy it again") from error
        if len(content) > MAX_FILE_BYTES:
            raise ArtefactError(f"{path}: {name} is larger than {MAX_FILE_BYTES >> 20} MB: not a wake word's")
        return content

    return read
