"""What Prometheus is told: views of the state, rendered when asked, in slices that never hold the event loop for long.

Series per check carry the labels target, check and kind; `vantage` is on every series. Names are blackbox_exporter's
where it has one. The tables below are the whole list; a test compares it with docs/metrics.md.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from prober.contract import FactSpec, Kind
from prober.model import Target
from prober.printable import printable
from prober.state import LOSS_WINDOW, CheckState, State

SLICE: Final = 250
"""Checks that are rendered before the loop gets its turn again; about 2 ms."""

Labels: TypeAlias = str  # rendered and escaped, each with a comma behind it
Row: TypeAlias = tuple[CheckState, Labels]
Type: TypeAlias = Literal["gauge", "counter"]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with series per check (or target). `read` gives further labels and values, or nothing."""

    name: str
    type: Type
    help: str
    read: Callable[[CheckState], Iterable[tuple[Labels, float]]]


def label(name: str, value: str) -> Labels:
    """A rendered label. Control characters are made visible, so that hostile text stays on its line."""
    escaped = printable(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}",'


def number(value: float) -> str:
    """A value as the text format wants it: the shortest form that reads back the same (also NaN, +Inf and -Inf)."""
    if value == math.inf:
        return "+Inf"
    if value == -math.inf:
        return "-Inf"
    if value != value:
        return "NaN"
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def fnv1a_32(data: bytes) -> int:
    """The hash that blackbox_exporter uses for probe_ip_addr_hash (FNV-1a, 32 bits)."""
    value = 0x811C9DC5
    for octet in data:
        value = ((value ^ octet) * 0x01000193) & 0xFFFFFFFF
    return value


# -- reading the state -------------------------------------------------------------------------------------------------


def _success(state: CheckState) -> Iterable[tuple[Labels, float]]:
    return () if state.last is None else (("", 1.0 if state.last.success else 0.0),)


def _duration(state: CheckState) -> Iterable[tuple[Labels, float]]:
    return () if state.last is None else (("", state.last.duration_seconds),)


def _timeout(state: CheckState) -> Iterable[tuple[Labels, float]]:
    return () if state.last is None else (("", state.check.timeout_seconds),)


def _last_run(state: CheckState) -> Iterable[tuple[Labels, float]]:
    return () if state.last is None else (("", state.last.utc),)


def _lookup(state: CheckState) -> Iterable[tuple[Labels, float]]:
    seconds = None if state.last is None else state.last.phases.get("resolve")
    return () if seconds is None else (("", seconds),)


def _ip_protocol(state: CheckState) -> Iterable[tuple[Labels, float]]:
    if state.last is None or state.last.address is None:
        return ()
    return (("", 6.0 if ":" in state.last.address else 4.0),)


def _ip_addr_hash(state: CheckState) -> Iterable[tuple[Labels, float]]:
    if state.last is None or state.last.address is None:
        return ()
    return (("", float(fnv1a_32(ip_address(state.last.address.partition("%")[0]).packed))),)


def _probes(state: CheckState) -> Iterable[tuple[Labels, float]]:
    return (("", float(state.probes)),)


def _failures(state: CheckState) -> Iterable[tuple[Labels, float]]:
    return [
        (label("operation", operation) + label("failure", failure), float(count))
        for (operation, failure), count in state.failures.items()
    ]


def _loss(state: CheckState) -> Iterable[tuple[Labels, float]]:
    ratio = state.loss_ratio
    return () if ratio is None else (("", ratio),)


def _certificate(state: CheckState) -> Iterable[tuple[Labels, float]]:
    return () if state.certificate_expiry is None else (("", state.certificate_expiry),)


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


CHECK_FAMILIES: Final[tuple[Family, ...]] = (
    Family("probe_success", "gauge", "Whether the last probe succeeded", _success),
    Family("probe_duration_seconds", "gauge", "How long the last probe took", _duration),
    Family("probe_timeout_seconds", "gauge", "How long a probe may take", _timeout),
    Family("probe_dns_lookup_time_seconds", "gauge", "How long the last probe took to find the address", _lookup),
    Family("probe_ip_protocol", "gauge", "IP version of the last probe: 4 or 6", _ip_protocol),
    Family(
        "probe_ip_addr_hash", "gauge", "Hash (FNV-1a) of the address that was probed last: tells changes", _ip_addr_hash
    ),
    Family("prober_probes_total", "counter", "Probes that were made", _probes),
    Family("prober_probe_failures_total", "counter", "Failed probes, by what failed (operation) and how", _failures),
    Family("prober_check_last_run_timestamp_seconds", "gauge", "When the last probe was sent", _last_run),
    Family("prober_loss_ratio", "gauge", f"Share of the last {LOSS_WINDOW} regular probes that failed", _loss),
    Family(
        "prober_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the first certificate of the presented chain expires; held while the probe fails",
        _certificate,
    ),
)

TARGET_FAMILIES: Final[tuple[Family, ...]] = (
    Family("prober_target_info", "gauge", "What is known of a target from its file", _target_info),
)


def kind_families(kinds: Mapping[str, Kind]) -> Iterator[tuple[str, Family]]:
    """The families that each kind brings: its phases and its facts."""
    for kind in kinds.values():
        yield kind.name, _phase_family(kind)
        for spec in kind.facts:
            yield kind.name, _fact_family(spec)


def _phase_family(kind: Kind) -> Family:
    rendered = {name: label("phase", name) for name in kind.phases}

    def read(state: CheckState) -> Iterable[tuple[Labels, float]]:
        if state.last is None:
            return ()
        return [(rendered[name], seconds) for name, seconds in state.last.phases.items() if name in rendered]

    return Family(kind.phase_metric, "gauge", f"How long each phase of the last {kind.name} probe took", read)


def _fact_family(spec: FactSpec) -> Family:
    def read(state: CheckState) -> Iterable[tuple[Labels, float]]:
        value = None if state.last is None else state.last.facts.get(spec.key)
        if value is None:
            return ()
        if spec.label is not None:
            return ((label(spec.label, str(value)), 1.0),)
        return (("", float(value)),)

    return Family(spec.metric, "gauge", spec.help, read)


# -- rendering ---------------------------------------------------------------------------------------------------------


class Exposition:
    """Renders the text format (version 0.0.4) from the state and from the agent's own registry."""

    def __init__(
        self,
        vantage: str,
        state: State,
        kinds: Mapping[str, Kind],
        registry: CollectorRegistry,
        further: Callable[[], AsyncIterator[bytes]] | None = None,
    ) -> None:
        self._vantage = label("vantage", vantage)
        self._state = state
        self._registry = registry
        self._further = further
        # A metric that several kinds share (a certificate's expiry) is one family.
        families: dict[str, tuple[Family, dict[str, Family]]] = {}
        for kind, family in kind_families(kinds):
            families.setdefault(family.name, (family, {}))[1][kind] = family
        self._by_kind = [(_joined(first, readers), tuple(readers)) for first, readers in families.values()]

    async def render(self) -> AsyncIterator[bytes]:
        """The whole exposition in pieces; between two pieces the event loop has had its turn."""
        yield "".join(self._own()).encode()
        rows: list[Row] = []
        rows_by_kind: dict[str, list[Row]] = {}
        rows_by_target: dict[str, Row] = {}
        states = list(self._state)
        for start in range(0, len(states), SLICE):
            for state in states[start : start + SLICE]:
                check = state.check
                common = self._vantage + label("target", check.target)
                row = state, common + label("check", check.name) + label("kind", check.kind)
                rows.append(row)
                rows_by_kind.setdefault(check.kind, []).append(row)
                rows_by_target.setdefault(check.target, (state, common))
            await asyncio.sleep(0)
        for family in CHECK_FAMILIES:
            async for piece in _slices(family, rows):
                yield piece
        for family, kinds in self._by_kind:
            async for piece in _slices(family, [row for kind in kinds for row in rows_by_kind.get(kind, ())]):
                yield piece
        for family in TARGET_FAMILIES:
            async for piece in _slices(family, list(rows_by_target.values())):
                yield piece
        if self._further is not None:
            async for piece in self._further():
                yield piece

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


def _joined(first: Family, readers: Mapping[str, Family]) -> Family:
    if len(readers) == 1:
        return first

    def read(state: CheckState) -> Iterable[tuple[Labels, float]]:
        return readers[state.check.kind].read(state)

    return Family(first.name, first.type, first.help, read)


async def _slices(family: Family, rows: Sequence[Row]) -> AsyncIterator[bytes]:
    lines = [f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n"]
    name, read = family.name, family.read
    found = False
    for start in range(0, len(rows), SLICE):
        for state, own in rows[start : start + SLICE]:
            for further, value in read(state):
                lines.append(f"{name}{{{(own + further)[:-1]}}} {number(value)}\n")
                found = True
        if found:
            yield "".join(lines).encode()
            lines.clear()
        await asyncio.sleep(0)
