"""One page of the demo: its microphone ─▶ session ─▶ scores, detections and takes; its orders ─▶ shelf and training.

The page sends 16-bit audio in binary messages, and JSON in text messages, each with a `type`:

    {"type": "choose", "names": […]}                      the wake words to listen for, by the names that it was told
    {"type": "start", "rate": 48000}                      begins a stream with them; its time starts at zero
    {"type": "stop"}                                      ends the stream
    {"type": "threshold", "keyword": …, "value": 0 to 1}  moves a threshold; the answer is what it would have done
    {"type": "save", "keyword": …}                        writes the threshold into the wake word
    {"type": "record", "count": 5}, {"type": "end_record"}, {"type": "drop_take", "take": …}
    {"type": "train", "phrase": …, "method": "text" or "enrol", "keep_takes": false}, {"type": "cancel"}

It receives `hello`, `wakewords`, `chosen`, `scores` (smoothed, as the trigger sees them), `detection`, `would_fire`,
`saved`, `takes`, `training`, `trained`, `dropped`, `problem` (the connection goes on) and `error` (it ends).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kws.audio.samples import Waveform
from kws.data.synth.clips import file_stem
from kws.errors import ConfigError, KwsError
from kws.serve.client import Clients
from kws.serve.demo_takes import TakeRecorder, describe_take
from kws.serve.demo_training import Order
from kws.serve.demo_watch import Watch
from kws.serve.session import Engine, Heard
from kws.serve.settings import ProtocolError
from kws.serve.websocket import SocketClient, parse_format

if TYPE_CHECKING:
    from kws.serve.demo import Demo

MAX_PHRASE = 100
"""Longest phrase, in characters."""
DEFAULT_TAKES = 5


class DemoClient(SocketClient):
    """Serves one page.

    Attributes:
        takes: what it recorded, by identifiers that can't be guessed.

    Args:
        demo: what all pages share.
    """

    def __init__(self, demo: Demo, engine: Engine, clients: Clients, request: web.Request) -> None:
        super().__init__(engine, clients, request)
        self.takes: dict[str, Waveform] = {}
        self._demo = demo
        self._watch = Watch()
        self._names: list[str] = []
        self._recorder: TakeRecorder | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "choose": self._choose,
            "start": self._start,
            "stop": self._stop,
            "threshold": self._move_threshold,
            "save": self._save,
            "record": self._record,
            "end_record": self._end_record,
            "drop_take": self._drop_take,
            "train": self._train,
            "cancel": self._cancel,
        }

    async def run(self) -> web.WebSocketResponse:
        """Answers until the page goes away or breaks the rules."""
        self._demo.pages.add(self)
        try:
            return await super().run()
        finally:
            self._demo.pages.discard(self)
            if self._recorder is not None:
                self._recorder.close()
            for task in self._telling:
                task.cancel()

    def ready(self) -> dict[str, Any]:
        """Returns what the page is told first."""
        return {"type": "hello"} | self._demo.describe()

    def tell(self, values: dict[str, Any]) -> None:
        """Sends `values` soon, in the event loop; a page that does not read misses them."""
        if self.reads_in_time:
            task = asyncio.ensure_future(self._send_or_skip(values))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def handle(self, values: dict[str, Any]) -> None:
        """Does what the page asks for; what can't be done it is told, with the remedy."""
        kind = str(values["type"])[:80]
        if kind not in self._handlers:
            raise ProtocolError(f"a message of type {kind!r} came; expected one of {', '.join(self._handlers)}")
        try:
            await self._handlers[kind](values)
        except ProtocolError:
            raise
        except KwsError as error:
            await self.send({"type": "problem", "about": kind, "text": str(error)})

    async def deliver(self, heard: Heard) -> None:
        """Sends the scores and detections in a piece of audio, and hands it to the recorder of takes."""
        await self.tell_losses()
        for piece in self._watch.collect(heard.end_s):
            if self._recorder is not None:
                self._recorder.feed(piece.waveform)
            if len(piece.times_s) and self.reads_in_time:
                scores = piece.smoothed.T.round(4).tolist()
                await self.send({"type": "scores", "first_s": round(float(piece.times_s[0]), 4), "scores": scores})
        for one in heard.detections:
            times = {"start_s": round(one.start_s, 4), "end_s": round(one.end_s, 4)}
            await self.send({"type": "detection", "keyword": one.keyword, "score": round(one.score, 4)} | times)

    async def _choose(self, values: dict[str, Any]) -> None:
        names = values.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ProtocolError("'choose' needs a list of names")
        load = self._demo.shelf.detector
        detector = await asyncio.get_running_loop().run_in_executor(self._engine.pool, load, names)
        self._watch, self._names = Watch(detector), names
        chosen = {"names": names, "keywords": self._watch.keywords, "thresholds": self._watch.thresholds}
        own = [offer for offer in (self._demo.shelf[name] for name in names) if offer.is_own]
        writable = [keyword.name for offer in own for keyword in offer.wakeword.keywords]
        await self.send({"type": "chosen", "hop_s": self._watch.hop_s, "own": writable} | chosen)

    async def _start(self, values: dict[str, Any]) -> None:
        await self.session.start(parse_format(values), self._watch)
        self._watch.forget()
        await self.send({"type": "started"})

    async def _stop(self, values: dict[str, Any]) -> None:
        heard = await self.session.stop()
        await self.deliver(heard)
        await self.send({"type": "stopped", "end_s": round(heard.end_s, 4)})

    async def _move_threshold(self, values: dict[str, Any]) -> None:
        keyword, value = self._keyword(values), values.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ProtocolError(f"a threshold of {str(value)[:20]!r} came; expected 0 to 1")
        self._watch.set_threshold(keyword, float(value))
        times_s, span_s = self._watch.would_fire(keyword, float(value))
        found = {"times_s": [round(time_s, 3) for time_s in times_s], "span_s": round(span_s, 2)}
        await self.send({"type": "would_fire", "keyword": keyword, "threshold": value} | found)

    async def _save(self, values: dict[str, Any]) -> None:
        keyword = self._keyword(values)
        threshold = self._watch.thresholds[self._watch.keywords.index(keyword)]
        path = self._demo.shelf.save_threshold(self._names, keyword, threshold)
        await self.send({"type": "saved", "keyword": keyword, "threshold": threshold, "path": str(path)})

    async def _record(self, values: dict[str, Any]) -> None:
        count = values.get("count", DEFAULT_TAKES)
        if isinstance(count, bool) or not isinstance(count, int):
            raise ProtocolError("'record' needs a whole number as its count")
        await self._end_record(values)
        loop = asyncio.get_running_loop()

        def tell(told: dict[str, Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.tell, told)

        self._recorder = TakeRecorder(self.takes, count, tell)

    async def _end_record(self, values: dict[str, Any]) -> None:
        if self._recorder is not None:
            self._recorder.close()

    async def _drop_take(self, values: dict[str, Any]) -> None:
        self.takes.pop(str(values.get("take")), None)
        left = [describe_take(name, waveform) for name, waveform in self.takes.items()]
        await self.send({"type": "takes", "state": "left", "num_takes": len(left), "left": left})

    async def _train(self, values: dict[str, Any]) -> None:
        phrase = values.get("phrase")
        stem = file_stem(phrase[:MAX_PHRASE]) if isinstance(phrase, str) else ""
        if not stem or not isinstance(phrase, str):
            raise ConfigError("type the phrase first, as it is spoken, such as 'hey computer'")
        await self._end_record(values)
        self._demo.training.start(
            Order(
                phrase=phrase[:MAX_PHRASE].strip(),
                method=values.get("method", "text"),
                out=self._demo.shelf.free_folder(stem),
                takes=list(self.takes.values()),
                has_clips=values.get("keep_takes") is True,
                overrides=self._demo.overrides,
            )
        )

    async def _cancel(self, values: dict[str, Any]) -> None:
        self._demo.training.cancel()

    def _keyword(self, values: dict[str, Any]) -> str:
        keyword = values.get("keyword")
        if keyword not in self._watch.keywords:
            raise ConfigError(f"'{str(keyword)[:80]}' is not listened for now; choose it first")
        return str(keyword)

    async def _send_or_skip(self, values: dict[str, Any]) -> None:
        try:
            await self.send(values)
        except (OSError, asyncio.TimeoutError):  # it goes away; `run` finds out
            return
