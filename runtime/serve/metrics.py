"""Counters for Prometheus, in a registry of their own; the only file that knows its library.

What the engine knows is read from it when somebody asks; what happens on the HTTP side is counted here.
"""

from collections import Counter
from collections.abc import Iterator
from time import monotonic

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.serve.ledger import Ledger
from runtime.serve.request import Finish, Usage
from runtime.serve.scheduler import Scheduler

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics(Collector):
    """All counters of one server."""

    def __init__(self, scheduler: Scheduler, ledger: Ledger) -> None:
        self._scheduler, self._ledger = scheduler, ledger
        self._requests: Counter[tuple[str, str]] = Counter()
        self._finished: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._dropped = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._first = Histogram(
            "phoropter_first_token_seconds",
            "From a request's submission to its first token.",
            buckets=_SECONDS,
            registry=self._registry,
        )

    def count_request(self, route: str, status: int) -> None:
        """A request was answered."""
        self._requests[route, str(status)] += 1

    def count_first(self, seconds: float) -> None:
        """A request had its first token."""
        self._first.observe(seconds)

    def count_finished(self, finish: Finish, usage: Usage | None) -> None:
        """A generation ended."""
        self._finished[finish] += 1
        if usage is not None:
            self._tokens["prompt"] += usage.prompt
            self._tokens["kept"] += usage.kept
            self._tokens["completion"] += usage.completion

    def count_dropped(self, events: int) -> None:
        """Events did not reach their reader."""
        self._dropped += events

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Everything but the histogram, as it stands."""
        yield from self._http()
        yield from self._engine()

    def _http(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("phoropter_requests", "Requests answered.", labels=["route", "status"])
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        yield requests
        yield _counters("phoropter_generations", "Generations that ended.", "finish", self._finished)
        tokens = "Tokens of generations that ended: fed, kept of sessions, drawn."
        yield _counters("phoropter_tokens", tokens, "kind", self._tokens)
        yield CounterMetricFamily(
            "phoropter_events_dropped", "Events that readers were too slow for.", self._dropped
        )
        yield _counters("phoropter_sent_bytes", "Bytes sent, by what for.", "cause", self._ledger.by_cause())
        yield CounterMetricFamily("phoropter_received_bytes", "Bytes received.", self._ledger.received)

    def _engine(self) -> Iterator[Metric]:
        progress = self._scheduler.progress
        for name, says, value in (
            ("waiting", "Requests that have not begun.", progress.waiting),
            ("running", "Requests that are generated.", progress.running),
            ("paused", "Of these, whose readers are too slow.", progress.paused),
            ("sessions", "Sessions.", progress.sessions),
            ("kv_parked_bytes", "Keys and values of parked sessions.", progress.parked_bytes),
            ("step_seconds", "What the last step took.", progress.step_ms / 1e3),
            ("idle_seconds", "Since the last step.", monotonic() - progress.last_step_s),
            ("up", "1 while the engine lives.", float(progress.failure is None)),
        ):
            yield GaugeMetricFamily(f"phoropter_{name}", says, value)
        yield CounterMetricFamily("phoropter_steps", "Steps of the engine.", progress.steps)
        yield CounterMetricFamily("phoropter_drawn_tokens", "Tokens drawn.", progress.tokens)
        yield CounterMetricFamily("phoropter_positions", "Positions that lenses read.", progress.positions)
        families = CounterMetricFamily(
            "phoropter_families",
            "Families wanted at positions, by where they were.",
            labels=["phase", "tier"],
        )
        cache = progress.cache
        for phase, counts in (("prompt", cache.prompt), ("generation", cache.generation)):
            families.add_metric([phase, "hot"], counts.hot_hits)
            families.add_metric([phase, "warm"], counts.warm_hits)
            families.add_metric([phase, "cold"], counts.cold_misses)
            families.add_metric([phase, "failed"], counts.failed)
        yield families
        memory = GaugeMetricFamily("phoropter_lens_bytes", "Memory of lenses.", labels=["tier"])
        memory.add_metric(["hot"], cache.hot_bytes)
        memory.add_metric(["warm"], cache.warm_bytes)
        yield memory


def _counters(name: str, says: str, label: str, values: "dict[str, int] | Counter[str]") -> Metric:
    family = CounterMetricFamily(name, says, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
