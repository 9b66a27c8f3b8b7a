"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stcompile.server.served import Served

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds, from a short text by itself to a queue of long ones.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Requests that are counted at once.
_TOGETHER = 64


class Metrics:
    """Counts of one server.

    Args:
        models: whose queues are told.
        paths: those that there are; all others are counted as one, which nobody can make many.
    """

    def __init__(self, models: Mapping[str, Served], paths: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._paths = frozenset(paths)
        self._noted: list[tuple[str, int, float, str, int, int]] = []
        self._requests = Counter(
            "stcompile_requests", "Requests that were answered.", ["path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "stcompile_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._texts = Counter("stcompile_texts", "Texts of answered requests.", ["model"], registry=self.registry)
        self._tokens = Counter("stcompile_tokens", "Tokens of answered requests.", ["model"], registry=self.registry)
        self.registry.register(_Waiting(models))

    def note(self, path: str, status: int, seconds: float, model: str, texts: int, tokens: int) -> None:
        """Counts one request: many together cost half of what each by itself does."""
        self._noted.append((path, status, seconds, model, texts, tokens))
        if len(self._noted) >= _TOGETHER:
            self._count()

    def shown(self) -> bytes:
        """In Prometheus' own format."""
        self._count()
        return generate_latest(self.registry)

    def _count(self) -> None:
        noted, self._noted = self._noted, []
        for path, status, seconds, model, texts, tokens in noted:
            known = path if path in self._paths else "other"
            self._requests.labels(known, status).inc()
            self._seconds.labels(known).observe(seconds)
            if model and status < 400:
                self._texts.labels(model).inc(texts)
                self._tokens.labels(model).inc(tokens)


class _Waiting(Collector):
    """How many texts of each model wait or run, asked for when somebody looks."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("stcompile_texts_waiting", "Texts that wait or run.", labels=["model"])
        for name, served in self._models.items():
            gauge.add_metric([name], served.waiting)
        yield gauge
