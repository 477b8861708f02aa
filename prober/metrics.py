"""What Prometheus is told: views of the state, rendered when asked, in slices that never hold the event loop for long.

Series per check carry the labels target, check and kind; `vantage` is on every series. Names are blackbox_exporter's
where it has one. The tables below are the whole list; a test compares it with docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain
from operator import attrgetter
from typing import Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from prober.contract import FactSpec, Kind
from prober.model import Entity, Observation, Target
from prober.schedule import phase_seconds
from prober.state import LOSS_WINDOW, CheckState, State
from prober.textformat import (
    BLOCK,
    MEASURED,
    MOMENT,
    Column,
    Family,
    Labels,
    Rows,
    Turns,
    Values,
    Writer,
    label,
    let_go,
    number,
)

CheckFamily = Family[CheckState]


def fnv1a_32(data: bytes) -> int:
    """The hash that blackbox_exporter uses for probe_ip_addr_hash (FNV-1a, 32 bits)."""
    value = 0x811C9DC5
    for octet in data:
        value = ((value ^ octet) * 0x01000193) & 0xFFFFFFFF
    return value


RESOLVE: Final = "resolve"
"""The phase that takes no time where an address is probed and not a name: it mostly stays what it was, 0."""

# -- reading the state -------------------------------------------------------------------------------------------------


def _plain(
    values: Callable[[Sequence[CheckState]], Values], form: str = "", steady: bool = True
) -> tuple[Column[CheckState], ...]:
    return (Column("", values, form, steady),)


def _of_last(
    read: Callable[[Observation], float | None], form: str = "", steady: bool = True
) -> tuple[Column[CheckState], ...]:
    return _plain(lambda states: [None if (last := s.last) is None else read(last) for s in states], form, steady)


@lru_cache(maxsize=65_536)  # addresses seldom change, and a hash in Python takes longer than all else of a line
def _hash_of(address: str) -> float:
    return float(fnv1a_32(ip_address(address.partition("%")[0]).packed))


def _ip_protocol(last: Observation) -> float | None:
    if last.address is None:
        return None
    return 6.0 if ":" in last.address else 4.0


def _ip_addr_hash(last: Observation) -> float | None:
    return None if last.address is None else _hash_of(last.address)


_fact = lru_cache(maxsize=4096)(label)  # the same few are seen with every probe


@lru_cache(maxsize=4096)  # two closed vocabularies
def _cause(operation: str, failure: str) -> Labels:
    return label("operation", operation) + label("failure", failure)


def _failures(state: CheckState) -> Iterable[tuple[Labels, float]]:
    failures = state.failures
    return [(_cause(*cause), float(count)) for cause, count in failures.items()] if failures else ()


def _target_info(state: CheckState) -> Iterable[tuple[Labels, float]]:
    return ((target_labels(state), 1.0),)


def target_labels(state: CheckState) -> Labels:
    """What is known of a target from its file, as labels; empty ones are left out."""
    target: Target = state.target
    pairs = {
        "entity": target.entity,
        "country": state.entity.country,
        "network": target.network,
        "site": target.site,
        "hosted_in": target.hosted_in,
        "title": target.title,
    }
    return "".join(label(name, value) for name, value in pairs.items() if value)


CHECK_FAMILIES: Final[tuple[CheckFamily, ...]] = (
    Family(
        "probe_success",
        "gauge",
        "Whether the last probe succeeded",
        _plain(lambda states: [None if (last := s.last) is None else 1.0 if last.success else 0.0 for s in states]),
    ),
    Family(
        "probe_duration_seconds",
        "gauge",
        "How long the last probe took",
        _of_last(attrgetter("duration_seconds"), MEASURED, steady=False),
    ),
    Family(
        "probe_timeout_seconds",
        "gauge",
        "How long a probe may take",
        _plain(lambda states: [None if s.last is None else s.check.timeout_seconds for s in states]),
    ),
    Family(
        "probe_dns_lookup_time_seconds",
        "gauge",
        "How long the last probe took to find the address",
        _of_last(lambda last: last.phases.get(RESOLVE), MEASURED),
    ),
    Family("probe_ip_protocol", "gauge", "IP version of the last probe: 4 or 6", _of_last(_ip_protocol)),
    Family(
        "probe_ip_addr_hash",
        "gauge",
        "Hash (FNV-1a) of the address that was probed last: tells changes",
        _of_last(_ip_addr_hash),
    ),
    Family(
        "prober_probes_total",
        "counter",
        "Probes that were made",
        _plain(lambda states: [s.probes for s in states], steady=False),
    ),
    Family(
        "prober_probe_failures_total",
        "counter",
        "Failed probes, by what failed (operation) and how",
        pairs=_failures,
    ),
    Family(
        "prober_check_last_run_timestamp_seconds",
        "gauge",
        "When the last probe was sent",
        _of_last(attrgetter("utc"), MOMENT, steady=False),
    ),
    Family(
        "prober_loss_ratio",
        "gauge",
        f"Share of the last {LOSS_WINDOW} regular probes that failed",
        _plain(lambda states: [s.loss_ratio for s in states]),
    ),
    Family(
        "prober_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the first certificate of the presented chain expires; held while the probe fails",
        _plain(lambda states: [s.certificate_expiry for s in states]),
    ),
)

TARGET_FAMILIES: Final[tuple[CheckFamily, ...]] = (
    Family("prober_target_info", "gauge", "What is known of a target from its file", pairs=_target_info, steady=False),
)


def kind_families(kinds: Mapping[str, Kind]) -> Iterator[tuple[str, CheckFamily]]:
    """The families that each kind brings: its phases and its facts."""
    for kind in kinds.values():
        yield kind.name, _phase_family(kind)
        for spec in kind.facts:
            yield kind.name, _fact_family(spec)


def _phase_family(kind: Kind) -> CheckFamily:
    def column(name: str) -> Column[CheckState]:
        def values(states: Sequence[CheckState]) -> Values:
            return [None if (last := s.last) is None else last.phases.get(name) for s in states]

        return Column(label("phase", name), values, MEASURED, steady=name == RESOLVE)

    text = f"How long each phase of the last {kind.name} probe took"
    return Family(kind.phase_metric, "gauge", text, tuple(map(column, kind.phases)))


def _fact_family(spec: FactSpec) -> CheckFamily:
    key, name = spec.key, spec.label
    if name is None:

        def values(states: Sequence[CheckState]) -> Values:
            # a fact without a label is a number: a probe sees to that, for this is done for every check at each scrape
            return cast(Values, [None if (last := s.last) is None else last.facts.get(key) for s in states])

        return Family(spec.metric, "gauge", spec.help, (Column("", values),))

    def read(state: CheckState) -> Iterable[tuple[Labels, float]]:
        value = None if state.last is None else state.last.facts.get(key)
        return () if value is None else ((_fact(name, str(value)), 1.0),)

    return Family(spec.metric, "gauge", spec.help, pairs=read)


# -- rendering ---------------------------------------------------------------------------------------------------------


PHASE_PARTS: Final = 32
"""Into so many the phases of checks of one kind and interval are sorted; within one they stand as in the files."""
SLICE: Final = 100
"""Checks that are laid out in one go; about 0.5 ms."""

_probes: Final[Callable[[CheckState], int]] = attrgetter("probes")
"""All that is told of a check changes with its probes alone."""


class _Layout:
    """The rows of one configuration, by what is said of them.

    Where the checks fill several blocks, each kind stands for itself, and what is probed together stands together: of
    what is probed every minute, most blocks are as they were 15 seconds before.
    """

    def __init__(self) -> None:
        self.checks: Rows[CheckState] = Rows(happened=_probes)
        self.by_kind: dict[str, Rows[CheckState]] = {}
        self.targets: Rows[CheckState] = Rows(happened=lambda _state: 0)  # they say what is in the files
        self.shared = False
        """Whether the blocks of `checks` are those of the kinds."""

    async def fill(self, states: Sequence[CheckState], vantage: Labels, turns: Turns) -> None:
        """Lay out all checks, in slices."""
        self.shared = len(states) > BLOCK
        known: set[str] = set()
        for place, state in enumerate(await _together(states, turns) if self.shared else states):
            check = state.check
            common = vantage + label("target", check.target)
            own = common + label("check", check.name) + label("kind", check.kind)
            self.by_kind.setdefault(check.kind, Rows(happened=_probes)).append(state, own)
            if not self.shared:
                self.checks.append(state, own)
            if check.target not in known:
                known.add(check.target)
                self.targets.append(state, common)
            if place % SLICE == 0:
                await turns.take()
        if self.shared:
            for rows in self.by_kind.values():
                self.checks.extend(rows)

    def parts(self) -> list[object]:
        """What it is made of, for `let_go`."""
        return [part for rows in (self.checks, self.targets, *self.by_kind.values()) for part in rows.parts()]


async def _together(states: Sequence[CheckState], turns: Turns) -> Iterator[CheckState]:
    """All checks by kind, interval and phase."""
    slots: dict[tuple[str, float, int], list[CheckState]] = {}
    for place, state in enumerate(states):
        check = state.check
        slot = int(phase_seconds(check.key, PHASE_PARTS))  # another stagger only turns the circle
        slots.setdefault((check.kind, check.interval_seconds, slot), []).append(state)
        if place % SLICE == 0:
            await turns.take()
    return chain.from_iterable(slots[slot] for slot in sorted(slots))


class Exposition:
    """Renders the text format (version 0.0.4) from the state and from the agent's own registry."""

    def __init__(
        self,
        vantage: str,
        state: State,
        kinds: Mapping[str, Kind],
        registry: CollectorRegistry,
        further: Callable[[Writer], AsyncIterator[bytes]] | None = None,
    ) -> None:
        self._vantage = label("vantage", vantage)
        self._state = state
        self._registry = registry
        self._further = further
        self._kinds: dict[str, list[CheckFamily]] = {}
        # A metric that several kinds share (a certificate's expiry) is one family.
        self._by_kind: dict[str, list[tuple[str, CheckFamily]]] = {}
        for kind, family in kind_families(kinds):
            self._kinds.setdefault(kind, []).append(family)
            self._by_kind.setdefault(family.name, []).append((kind, family))
        self._layout = _Layout()
        self._layout_of: tuple[Entity, ...] | None = None

    async def render(self, gzip: bool = False) -> AsyncGenerator[bytes, None]:
        """The whole exposition in pieces, as text or as gzip; between pieces the event loop has had its turn."""
        writer = Writer(gzip)
        yield writer.begin()
        yield writer.plain("".join(self._own()).encode())
        layout = await self._laid_out(writer)
        await writer.read(layout.targets, TARGET_FAMILIES)
        if not layout.shared:
            await writer.read(layout.checks, CHECK_FAMILIES)
        for kind, rows in layout.by_kind.items():
            of_all = CHECK_FAMILIES if layout.shared else ()
            await writer.read(rows, (*of_all, *self._kinds.get(kind, ())))
        parts: list[tuple[tuple[CheckFamily, Rows[CheckState]], ...]] = [
            *(((family, layout.checks),) for family in CHECK_FAMILIES),
            *(
                tuple((family, layout.by_kind[kind]) for kind, family in families if kind in layout.by_kind)
                for families in self._by_kind.values()
            ),
            *(((family, layout.targets),) for family in TARGET_FAMILIES),
        ]
        for part in parts:
            async for piece in writer.family(*part):
                yield piece
        if self._further is not None:
            async for piece in self._further(writer):
                yield piece
        yield writer.end()

    async def _laid_out(self, writer: Writer) -> _Layout:
        if self._layout_of is self._state.entities:
            return self._layout
        entities, layout = self._state.entities, _Layout()
        await layout.fill(list(self._state), self._vantage, writer.turns)
        await writer.turns.take()
        remains = self._layout.parts()
        self._layout, self._layout_of = layout, entities
        await let_go(remains, writer.turns)
        return layout

    def _own(self) -> Iterator[str]:
        """The agent's own metrics, from the registry, with the vantage on each."""
        for metric in self._registry.collect():
            yield from _header(metric)
            for sample in metric.samples:
                if sample.name.endswith("_created"):
                    continue  # OpenMetrics only
                labels = self._vantage + "".join(label(name, value) for name, value in sample.labels.items())
                yield f"{sample.name}{{{labels[:-1]}}} {number(sample.value)}\n"


def _header(metric: Metric) -> Sequence[str]:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    kind = {"unknown": "untyped", "info": "gauge", "stateset": "gauge"}.get(metric.type, metric.type)
    text = metric.documentation.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {text}\n", f"# TYPE {name} {kind}\n"
