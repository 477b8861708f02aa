"""What the agent tells about itself: figures of the runner, the loop, the configuration and the process."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from prober import __version__
from prober.blackbox.endpoint import Endpoint
from prober.clock import Clock
from prober.runner import Figures
from prober.state import State

LATENESS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class ReloadFigures:
    """How loading the configuration went."""

    successful: bool = True
    success_utc: float = 0.0
    opted_out: int = 0


class AgentCollector(Collector):
    """Reads the agent's figures when asked."""

    def __init__(
        self,
        *,
        clock: Clock,
        figures: Figures,
        state: State,
        unmatched: Tally[str],
        reload: ReloadFigures,
    ) -> None:
        self._clock = clock
        self._figures = figures
        self._state = state
        self._unmatched = unmatched
        self._reload = reload

    def collect(self) -> Iterator[Metric]:
        figures, reload = self._figures, self._reload
        info = GaugeMetricFamily("prober_build_info", "The agent's version", labels=["version"])
        info.add_metric([__version__], 1.0)
        yield info
        yield _gauge("prober_clock_timestamp_seconds", "The agent's clock: shows its skew", self._clock.utc())
        yield _gauge("prober_checks", "Checks that are configured", len(self._state))
        yield _gauge("prober_checks_opted_out", "Checks left out because of the opt-out list", reload.opted_out)
        yield _gauge("prober_probes_in_flight", "Probes under way", figures.in_flight)
        yield _gauge(
            "prober_config_last_reload_successful", "Whether the last (re)load succeeded", float(reload.successful)
        )
        yield _gauge(
            "prober_config_last_reload_success_timestamp_seconds", "When a (re)load last succeeded", reload.success_utc
        )
        yield _tally(
            "prober_rounds_skipped", "Regular rounds that were not probed, by reason", "reason", figures.skipped
        )
        yield _tally(
            "prober_internal_errors", "Defects of the agent that were caught, by place", "place", figures.exceptions
        )
        yield _counter("prober_clock_steps", "Steps of the host's clock", figures.clock_steps)
        yield _tally(
            "prober_icmp_unmatched_replies",
            "Echo replies that answered no request in flight and were not accepted, by reason",
            "reason",
            self._unmatched,
        )


class EndpointCollector(Collector):
    """Reads the figures of /probe when asked. An agent without a blackbox.yml has none."""

    def __init__(self, endpoint: Endpoint, reload: ReloadFigures) -> None:
        self._endpoint = endpoint
        self._reload = reload

    def collect(self) -> Iterator[Metric]:
        endpoint, reload = self._endpoint, self._reload
        if not endpoint.has_modules:
            return
        # blackbox_exporter's own names: rules that watch its configuration go on doing so.
        yield _gauge(
            "blackbox_exporter_config_last_reload_successful",
            "Whether the last (re)load succeeded, as prober_config_last_reload_successful",
            float(reload.successful),
        )
        yield _gauge(
            "blackbox_exporter_config_last_reload_success_timestamp_seconds",
            "When a (re)load last succeeded",
            reload.success_utc,
        )
        yield _counter(
            "blackbox_module_unknown", "Requests to /probe for a module that does not exist", endpoint.unknown_modules
        )
        yield _tally(
            "prober_endpoint_requests",
            "Requests to /probe by what became of them: limited are answered 429, overloaded 503",
            "outcome",
            endpoint.outcomes,
        )
        yield _gauge("prober_endpoint_probes_in_flight", "Probes of /probe under way", endpoint.admission.in_flight)
        yield _gauge("prober_endpoint_requests_waiting", "Requests to /probe that wait", endpoint.admission.waiting)


class Distribution(Collector):
    """A histogram for what is observed with every probe: as prometheus_client's, for a sixth of the time."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[Metric]:
        buckets = zip((*map(floatToGoString, self._bounds), "+Inf"), accumulate(self._counts), strict=True)
        yield HistogramMetricFamily(self._name, self._text, buckets=list(buckets), sum_value=self._sum)


def make_registry(collector: AgentCollector, figures: Figures) -> tuple[CollectorRegistry, Callable[[float], None]]:
    """The agent's own registry, and what the stall meter must be told each stall by. Sets `figures.lateness`."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    lateness = Distribution(
        "prober_schedule_lateness_seconds",
        "How long after its due time, the beginning of a slot of 50 ms, a regular probe was started",
        LATENESS_BUCKETS,
    )
    registry.register(lateness)
    stalls = Histogram(
        "prober_loop_stall_seconds",
        "How long the agent's event loop stood still, each time it did",
        buckets=STALL_BUCKETS,
        registry=registry,
    )
    figures.lateness = lateness.observe
    return registry, stalls.observe


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _tally(name: str, text: str, key: str, tally: Tally[str]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[key])
    for value, count in tally.items():
        family.add_metric([value], count)
    return family
