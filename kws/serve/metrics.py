"""Counts of a server, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_LAG_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts of one server; servers in one process share none.

    Labels: `protocol` is "wyoming" or "websocket".
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        protocol = ["protocol"]
        self.clients = Gauge("kws_clients", "Clients connected now", protocol, registry=registry)
        self.connections = Counter("kws_connections", "Clients accepted", protocol, registry=registry)
        self.refused = Counter("kws_refused", "Clients refused: too many at once", protocol, registry=registry)
        self.client_errors = Counter("kws_client_errors", "Clients closed for an error", protocol, registry=registry)
        self.audio_s = Counter("kws_audio_seconds", "Audio listened to", protocol, registry=registry)
        self.dropped_blocks = Counter("kws_dropped_blocks", "Blocks lost, the queue being full", registry=registry)
        self.dropped_s = Counter("kws_dropped_seconds", "Audio lost, the queue being full", registry=registry)
        self.detections = Counter("kws_detections", "Detections", ["keyword"], registry=registry)
        self.busy_s = Counter("kws_busy_seconds", "Time that workers spent detecting", registry=registry)
        self.lag_s = Histogram(
            "kws_lag_seconds", "From the arrival of audio until it was heard", buckets=_LAG_BUCKETS_S, registry=registry
        )

    def text(self) -> bytes:
        """Returns all counts as Prometheus text."""
        return generate_latest(self._registry)

    def value(self, name: str, **labels: str) -> float:
        """Returns the sample `name` as Prometheus would read it; 0 if it was never counted."""
        return self._registry.get_sample_value(name, labels) or 0.0
