"""eSpeak NG's C library through ctypes: found and initialised once per process, every call behind one lock.

The library (GPL-3.0) is loaded at run time only, from the optional wheel `espeakng_loader` or from the system.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from kws.errors import SynthesisError

REMEDY = "run: pip install espeakng-loader (or pip install 'kws[train]'), or install your system's espeak-ng"

# Source: espeak-ng 1.52, src/include/espeak-ng/speak_lib.h
_SYNCHRONOUS_RETRIEVAL = 2
_INITIALIZE = 0x0001 | 0x8000  # phoneme events; return an error instead of exiting the process
_SYNTH_FLAGS = 0x0001 | 0x0100  # UTF-8; [[phones]] are understood
_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4}
_PHONEME_SEPARATOR = ord(" ") << 8
_RANDOM_SEED = 1


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


class _VoiceRecord(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Mark:
    """A word or phone that begins at `sample`.

    Attributes:
        sample: index into the waveform, at the library's sample rate.
        text_position: index of the word's first character in the text.
        phone: the phone's mnemonic, or None where a word begins.
    """

    sample: int
    text_position: int
    phone: str | None


_LOCK = threading.RLock()
"""One caller at a time: voice, parameters and callback belong to the process."""


class EspeakLibrary:
    """The loaded library. Its state is global to the process: `load_espeak` makes one and keeps it.

    Attributes:
        sample_rate: of the speech it makes, in Hz.
        data_path: the folder `espeak-ng-data` in use.
    """

    def __init__(self, library_path: str, data_path: str | None) -> None:
        try:
            self._library = ctypes.CDLL(library_path)
        except OSError as error:
            raise SynthesisError(f"can't load eSpeak NG from {library_path} ({error}); {REMEDY}") from error
        self._declare()
        self._chunks: list[np.ndarray] = []
        self._marks: list[Mark] = []
        path = data_path.encode() if data_path else None
        self.sample_rate = int(self._library.espeak_Initialize(_SYNCHRONOUS_RETRIEVAL, 0, path, _INITIALIZE))
        if self.sample_rate <= 0:
            raise SynthesisError(f"eSpeak NG can't read its data in {data_path or 'the system folder'}; {REMEDY}")
        self._callback = _Callback(self._collect)
        self._identifiers = self._list_identifiers()
        if hasattr(self._library, "espeak_ng_SetRandSeed"):
            self._library.espeak_ng_SetRandSeed(ctypes.c_long(_RANDOM_SEED))
        found = ctypes.c_char_p()
        self._library.espeak_Info(ctypes.byref(found))
        self.data_path = Path((found.value or b"").decode())

    def languages(self) -> list[str]:
        """Returns the codes of all voices the library carries, such as "en-us" and "de"."""
        return sorted(self._identifiers)

    def variants(self) -> list[str]:
        """Returns the names of the voice variants on disk, such as "f3"."""
        return sorted(path.name for path in (self.data_path / "voices" / "!v").glob("*") if path.is_file())

    def speak(self, text: str, language: str, variant: str, **parameters: int) -> tuple[np.ndarray, list[Mark]]:
        """Returns `text` as (num_samples,) int16 at `sample_rate`, and the marks of its words and phones.

        Args:
            text: plain text, or phones between `[[` and `]]`.
            language: one of `languages()`.
            variant: one of `variants()`, or "" for the plain voice.
            parameters: `rate` in words per minute (80..450), `pitch` and `range` (0..100, plain voice at 50).

        Raises:
            SynthesisError: the voice didn't take effect, or the library reports an error.
        """
        encoded = text.replace("\0", " ").encode()
        with _LOCK:
            self._select(language, variant)
            for name, value in parameters.items():
                self._library.espeak_SetParameter(_PARAMETERS[name], int(value), 0)
            self._chunks, self._marks = [], []
            self._library.espeak_SetSynthCallback(self._callback)  # another instance may have set its own
            status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _SYNTH_FLAGS, None, None)
            chunks, marks = self._chunks, self._marks
        if status != 0:
            raise SynthesisError(f"eSpeak NG failed with status {status} on the text {text!r}; {REMEDY}")
        return np.concatenate(chunks) if chunks else np.zeros(0, np.int16), marks

    def phonemes(self, text: str, language: str) -> str:
        """Returns the mnemonics of `text` in the notation of `[[...]]`, one space between phones, two between words.

        Raises:
            SynthesisError: the language is unknown.
        """
        clauses = []
        with _LOCK:
            self._select(language, "")
            rest = ctypes.c_char_p(text.replace("\0", " ").encode())
            while rest.value is not None:  # each call takes one clause and moves the pointer
                clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), 1, _PHONEME_SEPARATOR)
                clauses.append((clause or b"").decode().strip())
        return "  ".join(clause for clause in clauses if clause)

    def _list_identifiers(self) -> dict[str, str]:
        records, index = self._library.espeak_ListVoices(None), 0
        identifiers: dict[str, str] = {}
        while records[index]:
            record = records[index].contents
            code = record.languages[1:].decode()  # the first byte is a priority
            identifiers.setdefault(code, record.identifier.decode())
            index += 1
        return identifiers

    def _select(self, language: str, variant: str) -> None:
        # by identifier: 1.52 doesn't find "en-gb" by its code, and passes over a missing variant with status 0
        name = self._identifiers.get(language, language) + (f"+{variant}" if variant else "")
        status = self._library.espeak_SetVoiceByName(name.encode())
        current = (self._library.espeak_GetCurrentVoice().contents.identifier or b"").decode()
        if status != 0 or current != name:
            raise SynthesisError(
                f"eSpeak NG has no voice '{language}+{variant}' (status {status}, {current} instead); "
                "list the voices with EspeakSynthesizer().voices()"
            )

    def _collect(self, samples: ctypes._Pointer, num_samples: int, events: ctypes._Pointer) -> int:
        if samples and num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            event = events[index]
            if event.type == _EVENT_WORD:
                self._marks.append(Mark(event.sample, event.text_position - 1, None))
            elif event.type == _EVENT_PHONEME:
                self._marks.append(Mark(event.sample, event.text_position - 1, event.id.string.decode()))
            index += 1
        return 0

    def _declare(self) -> None:
        library, text, number, pointer = self._library, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p
        size, unsigned = ctypes.c_size_t, ctypes.c_uint
        library.espeak_Initialize.argtypes = [number, number, text, number]
        library.espeak_SetVoiceByName.argtypes = [text]
        library.espeak_SetParameter.argtypes = [number, number, number]
        library.espeak_Synth.argtypes = [text, size, unsigned, number, unsigned, unsigned, pointer, pointer]
        library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(text), number, number]
        library.espeak_TextToPhonemes.restype = text
        library.espeak_Info.argtypes = [ctypes.POINTER(text)]
        library.espeak_Info.restype = text
        library.espeak_ListVoices.argtypes = [pointer]
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceRecord))
        library.espeak_GetCurrentVoice.restype = ctypes.POINTER(_VoiceRecord)
        library.espeak_SetSynthCallback.argtypes = [_Callback]


@lru_cache(maxsize=1)
def load_espeak() -> EspeakLibrary:
    """Returns the library of this process, loaded on the first call.

    Raises:
        SynthesisError: neither the wheel nor a system library is there, or it is broken.
    """
    try:
        import espeakng_loader

        return EspeakLibrary(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    except ImportError:
        system_library = ctypes.util.find_library("espeak-ng")
    except RuntimeError as error:
        raise SynthesisError(f"the package espeakng_loader is broken ({error}); {REMEDY}") from error
    if system_library is None:
        raise SynthesisError(f"no eSpeak NG library on this machine; {REMEDY}")
    return EspeakLibrary(system_library, None)
