"""The scores that the demo keeps, and what another threshold makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from demo_server import TRIGGER

from kws.detect.detector import Detector
from kws.detect.trigger import Trigger
from kws.frames import SAMPLE_RATE
from kws.serve.demo_watch import Watch


class TestWatch:
    def feed(self, watch: Watch, waveform: np.ndarray, chunk: int = 700) -> None:
        stream = watch.stream()
        for start in range(0, len(waveform), chunk):
            stream.feed(waveform[start : start + chunk])
            watch.collect((start + len(waveform[start : start + chunk])) / SAMPLE_RATE)

    @pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.8, 1.0])
    def test_what_would_have_fired_is_what_fires(
        self, make_wakeword: Callable[..., Any], noise: np.ndarray, threshold: float
    ) -> None:
        wakeword = make_wakeword("hey computer", seed=5, trigger=TRIGGER)
        watch = Watch(Detector([wakeword]))
        self.feed(watch, noise)
        times_s, span_s = watch.would_fire("hey computer", threshold)
        stream = Detector([wakeword.with_threshold(threshold)]).stream()
        assert times_s == pytest.approx([one.end_s for one in stream.feed(noise)])
        assert span_s == pytest.approx(len(noise) / SAMPLE_RATE, abs=0.2)

    def test_a_threshold_moves_while_it_listens(self, make_wakeword: Callable[..., Any], noise: np.ndarray) -> None:
        watch = Watch(Detector([make_wakeword("hey computer", seed=5, trigger=TRIGGER).with_threshold(1.0)]))
        stream = watch.stream()
        assert stream.feed(noise) == []
        watch.set_threshold("hey computer", 0.0)
        assert len(stream.feed(noise)) > 1
        assert watch.thresholds == [0.0]

    def test_smoothed_scores_are_those_that_fire(self, make_wakeword: Callable[..., Any], noise: np.ndarray) -> None:
        detector = Detector([make_wakeword("hey computer", seed=5, trigger=TRIGGER)])
        watch, smoothed = Watch(detector), []
        stream = watch.stream()
        for start in range(0, len(noise), 1500):
            stream.feed(noise[start : start + 1500])
            smoothed += [piece.smoothed for piece in watch.collect(0.0)]
        values = np.concatenate(smoothed)[:, 0]
        fired = [firing.frame for firing in Trigger(TRIGGER, detector.geometry.hop_s).feed_smoothed(values)]
        expected = detector.stream().feed(noise)
        assert [detector.geometry.frame_end_s(frame) for frame in fired] == [one.end_s for one in expected]
        assert expected

    def test_lost_audio_moves_the_times(self, make_wakeword: Callable[..., Any], noise: np.ndarray) -> None:
        watch = Watch(Detector([make_wakeword("hey computer", seed=5)]))
        watch.stream().feed(noise[:16_000])
        (piece,) = watch.collect(1.0 + 2.5)
        assert piece.times_s[0] == pytest.approx(2.5 + 0.025)

    def test_only_the_last_minutes_are_kept(
        self, make_wakeword: Callable[..., Any], noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kws.serve.demo_watch.KEPT_S", 1.0)
        watch = Watch(Detector([make_wakeword("hey computer", seed=5)]))
        self.feed(watch, noise)
        assert watch.would_fire("hey computer", 0.5)[1] == pytest.approx(1.0, abs=0.2)

    def test_without_a_wake_word_it_only_listens(self, noise: np.ndarray) -> None:
        watch = Watch()
        stream = watch.stream()
        assert stream.feed(noise) == stream.flush() == []
        (piece,) = watch.collect(len(noise) / SAMPLE_RATE)
        assert np.array_equal(piece.waveform, noise)
        assert watch.would_fire("hey computer", 0.5) == ([], 0.0)
