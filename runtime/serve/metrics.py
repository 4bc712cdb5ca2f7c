"""Counters for Prometheus, in a registry of their own; the only file that knows its library.

What the engine knows is read from it when somebody asks; what happens on the HTTP side is counted here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from time import monotonic

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.serve.ledger import Ledger
from runtime.serve.request import Finish, Usage
from runtime.serve.residents import Residents
from runtime.serve.scheduler import Progress

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics(Collector):
    """All counters of one server."""

    def __init__(
        self, ledger: Ledger, engines: Callable[[], Mapping[str, Progress]], residents: Residents
    ) -> None:
        """`engines` says how those stand that are in memory, by their models."""
        self._ledger, self._engines, self._residents = ledger, engines, residents
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
        yield from _of_engines(self._engines())
        yield from _of_memory(self._residents)

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


def _of_engines(engines: Mapping[str, Progress]) -> Iterator[Metric]:
    now = monotonic()
    gauges: dict[str, tuple[str, Callable[[Progress], float]]] = {
        "waiting": ("Requests that have not begun.", lambda one: one.waiting),
        "running": ("Requests that are generated.", lambda one: one.running),
        "paused": ("Of these, whose readers are too slow.", lambda one: one.paused),
        "sessions": ("Sessions.", lambda one: one.sessions),
        "kv_parked_bytes": ("Keys and values of parked sessions.", lambda one: one.parked_bytes),
        "step_seconds": ("What the last step took.", lambda one: one.step_ms / 1e3),
        "idle_seconds": ("Since the last step.", lambda one: now - one.last_step_s),
        "up": ("1 while the engine lives.", lambda one: float(one.failure is None)),
    }
    counters: dict[str, tuple[str, Callable[[Progress], float]]] = {
        "steps": ("Steps of the engine.", lambda one: one.steps),
        "drawn_tokens": ("Tokens drawn.", lambda one: one.tokens),
        "positions": ("Positions that lenses read.", lambda one: one.positions),
    }
    for name, (says, value) in gauges.items():
        gauge = GaugeMetricFamily(f"phoropter_{name}", says, labels=["model"])
        for model, one in engines.items():
            gauge.add_metric([model], value(one))
        yield gauge
    for name, (says, value) in counters.items():
        counter = CounterMetricFamily(f"phoropter_{name}", says, labels=["model"])
        for model, one in engines.items():
            counter.add_metric([model], value(one))
        yield counter
    families = CounterMetricFamily(
        "phoropter_families",
        "Families wanted at positions, by where they were.",
        labels=["model", "phase", "tier"],
    )
    memory = GaugeMetricFamily("phoropter_lens_bytes", "Memory of lenses.", labels=["model", "tier"])
    for model, one in engines.items():
        for phase, counts in (("prompt", one.cache.prompt), ("generation", one.cache.generation)):
            families.add_metric([model, phase, "hot"], counts.hot_hits)
            families.add_metric([model, phase, "warm"], counts.warm_hits)
            families.add_metric([model, phase, "cold"], counts.cold_misses)
            families.add_metric([model, phase, "failed"], counts.failed)
        memory.add_metric([model, "hot"], one.cache.hot_bytes)
        memory.add_metric([model, "warm"], one.cache.warm_bytes)
    yield families
    yield memory


def _of_memory(residents: Residents) -> Iterator[Metric]:
    """Hosts, packs and engines that are in memory."""
    size = GaugeMetricFamily("phoropter_resident_bytes", "What may be taken at the most.", labels=["name"])
    users = GaugeMetricFamily("phoropter_resident_users", "Requests and sessions of it.", labels=["name"])
    for one in residents.residences:
        size.add_metric([one.name], one.size_bytes)
        users.add_metric([one.name], one.holders + one.users)
    yield size
    yield users
    counts = residents.counts
    yield GaugeMetricFamily("phoropter_resident_budget_bytes", "For all of them.", counts.budget_bytes)
    done = {
        "hit": counts.hits,
        "load": counts.loads,
        "eviction": counts.evictions,
        "refusal": counts.refusals,
    }
    yield _counters("phoropter_resident_wishes", "What became of wishes for them.", "outcome", done)


def _counters(name: str, says: str, label: str, values: "dict[str, int] | Counter[str]") -> Metric:
    family = CounterMetricFamily(name, says, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
