"""Numbers for monitoring systems in Prometheus' text format; sessions by name, nothing about participants.

To be read in this order: ``Reading``, ``Metrics``, and ``LoopLag``, which measures the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from clmer_server.protocol.outbound import Message
from clmer_server.protocol.parts import EmotionEvent, StreamEntry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Upper ends of the histogram's buckets, from a model that answers at once to a window that waits for a stream."""

_PER_STREAM = ["session", "source"]


@dataclass(frozen=True)
class Reading:
    """The numbers that are read when the metrics are asked for."""

    streams: Mapping[str, tuple[StreamEntry, ...]]  # of every session there is, by its name
    running: Collection[str]  # names of the sessions that run
    n_clients: int
    n_dropped: int  # messages that slow clients have lost
    n_evicted: int = 0  # clients that were cut off
    loop_lag_s: float = 0.0
    gpu_memory_bytes: int | None = None  # None: the model is not on a GPU


class Metrics:
    """Counts a service's events, and reads the other numbers when it is asked.

    A session that does not run has no age; one that was removed has no numbers.

    Args:
        read: Returns what is not counted here; called where ``render`` is called.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._registry = CollectorRegistry()
        self._read = read
        self._ages: dict[str, dict[str, float]] = {}  # s, by session and source, of its newest event
        self._predictions = Counter(
            "clmer_predictions",
            "Events sent, by whether they were valid.",
            ["session", "valid"],
            registry=self._registry,
        )
        self._reasons = Counter(
            "clmer_prediction_reasons",
            "Reasons and warnings in events.",
            ["session", "reason"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "clmer_window_latency_seconds",
            "Where the time of a window went; a replay has no latency against its stamps.",
            ["session", "stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_Readings(read, self._ages))

    def message(self, message: Message) -> None:
        """Count a message to the clients."""
        if not isinstance(message, EmotionEvent):
            return
        session = message.session
        self._predictions.labels(session, str(message.valid).lower()).inc()
        for reason in message.reasons:
            self._reasons.labels(session, reason).inc()
        for stage, milliseconds in message.latency_ms:
            if milliseconds is not None:
                self._latency.labels(session, stage).observe(milliseconds / 1e3)
        ages_ms = {"eeg": message.modalities.eeg.age_ms, "face": message.modalities.face.age_ms}
        self._ages[session] = {source: age / 1e3 for source, age in ages_ms.items() if age is not None}

    def render(self) -> bytes:
        """Return everything as text."""
        self._drop_all_but(self._read().streams)
        return generate_latest(self._registry)

    def _drop_all_but(self, sessions: Collection[str]) -> None:
        for gone in self._ages.keys() - set(sessions):
            del self._ages[gone]
            for metric in (self._predictions, self._reasons, self._latency):
                metric.remove_by_labels({"session": gone})


class _Readings:
    """The present numbers, as a collector of prometheus_client."""

    def __init__(self, read: Callable[[], Reading], ages: Mapping[str, Mapping[str, float]]) -> None:
        self._read = read
        self._ages = ages

    def describe(self) -> Iterable[Metric]:
        """Return nothing: otherwise the registry would read before the service has begun."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present metrics."""
        now = self._read()
        yield GaugeMetricFamily("clmer_ws_clients", "WebSocket clients now.", now.n_clients)
        yield CounterMetricFamily("clmer_ws_dropped", "Messages that slow clients have lost.", now.n_dropped)
        yield CounterMetricFamily("clmer_ws_evicted", "Clients that were cut off.", now.n_evicted)
        yield GaugeMetricFamily("clmer_loop_lag_seconds", "How late the event loop is.", now.loop_lag_s)
        if now.gpu_memory_bytes is not None:
            yield GaugeMetricFamily("clmer_gpu_memory_bytes", "GPU memory the program holds.", now.gpu_memory_bytes)
        yield from _of_streams(now.streams)
        yield _age({session: ages for session, ages in self._ages.items() if session in now.running})


def _of_streams(streams: Mapping[str, tuple[StreamEntry, ...]]) -> Iterator[Metric]:
    live = GaugeMetricFamily("clmer_stream_live", "1 while samples come.", labels=_PER_STREAM)
    rate = GaugeMetricFamily("clmer_stream_rate_hz", "Measured rate.", labels=_PER_STREAM)
    gaps = CounterMetricFamily("clmer_stream_gaps", "Losses longer than could be bridged.", labels=_PER_STREAM)
    lost = CounterMetricFamily("clmer_stream_samples_lost", "Samples lost, by the packet counter.", labels=_PER_STREAM)
    estimated = CounterMetricFamily(
        "clmer_stream_samples_lost_estimated", "Samples that seem lost, by the stamps.", labels=_PER_STREAM
    )
    for session, entries in streams.items():
        for entry in entries:
            labels = [session, entry.source]
            live.add_metric(labels, float(entry.state == "live"))
            gaps.add_metric(labels, entry.n_gaps)
            lost.add_metric(labels, entry.n_lost)
            estimated.add_metric(labels, entry.n_lost_estimated)
            if entry.rate_hz is not None:
                rate.add_metric(labels, entry.rate_hz)
    yield from (live, rate, gaps, lost, estimated)


def _age(ages: Mapping[str, Mapping[str, float]]) -> Metric:
    age = GaugeMetricFamily(
        "clmer_stream_age_seconds", "Age of the newest sample when the newest window ended.", labels=_PER_STREAM
    )
    for session, of_sources in ages.items():
        for source, seconds in of_sources.items():
            age.add_metric([session, source], seconds)
    return age


INTERVAL_S = 0.5
"""Seconds between two wake-ups of ``LoopLag``."""


class LoopLag:
    """Measures how late the event loop wakes a task that sleeps for a fixed interval.

    Attributes:
        seconds: Lateness of the newest wake-up.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self) -> None:
        """Measure the running loop until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.seconds = max(0.0, loop.time() - due)
