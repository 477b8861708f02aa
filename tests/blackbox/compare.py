"""What two expositions of the same probe have to have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from tests.blackbox.cases import Case
from tests.blackbox.http_scripts import SLOW

Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
Samples: TypeAlias = dict[Series, float]

TIMES: Final = {
    "probe_duration_seconds",
    "probe_dns_lookup_time_seconds",
    "probe_http_duration_seconds",
    "probe_dns_duration_seconds",
    "probe_icmp_duration_seconds",
    "probe_grpc_duration_seconds",
}
"""No two probes take the same time: of these only presence, zero or not, and what must be long are compared."""

NEWER_THAN_023: Final = {"probe_tls_cipher_info", "probe_failed_due_to_bytes"}
NEWER_LABELS: Final = {"serialnumber"}
NEWER_THAN_028: Final = {"probe_timeout_seconds"}
WAIT: Final = 0.29
LATE: Final = 4.0
"""Seconds: what no machine is too busy for. Modules that wait for nothing have a timeout of 5 s and more."""

MADE_ANEW: Final = {"fingerprint_sha256"}
"""A recording's certificates had other keys."""


def parse(text: str) -> Samples:
    """The samples of an exposition. Raises AssertionError if a series comes twice."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = sample.name, tuple(sorted(sample.labels.items()))
            assert series not in samples, f"twice: {series}"
            samples[series] = sample.value
    return samples


def without(samples: Samples, names: set[str], labels: set[str]) -> Samples:
    """The samples less these metrics and less these labels."""
    return {
        (name, tuple(pair for pair in pairs if pair[0] not in labels)): value
        for (name, pairs), value in samples.items()
        if name not in names
    }


def differences(case: Case, theirs: Samples, ours: Samples, *, recorded: bool = False) -> dict[str, str]:
    """Metric -> how it differs, empty if the two agree. `recorded`: theirs was measured on an idle machine."""
    found: dict[str, list[str]] = {}
    for metric, text in (*_values(theirs, ours), *_times(case, ours), *(_waits(theirs, ours) if recorded else ())):
        found.setdefault(metric, []).append(text)
    return {metric: "; ".join(texts) for metric, texts in found.items()}


def _values(theirs: Samples, ours: Samples) -> Iterator[tuple[str, str]]:
    for series in sorted(theirs.keys() | ours.keys()):
        if series not in ours:
            yield series[0], f"only theirs: {_shown(series)} {theirs[series]:g}"
        elif series not in theirs:
            yield series[0], f"only ours: {_shown(series)} {ours[series]:g}"
        elif series[0] in TIMES:
            if (theirs[series] == 0) != (ours[series] == 0):
                yield series[0], f"{_shown(series)}: theirs {theirs[series]:g}, ours {ours[series]:g}"
        elif theirs[series] != ours[series]:
            yield series[0], f"{_shown(series)}: theirs {theirs[series]!r}, ours {ours[series]!r}"


def _waits(theirs: Samples, ours: Samples) -> Iterator[tuple[str, str]]:
    """The lab's delays and timeouts are 0.3 s and more. A busy machine can make a probe long, but never short."""
    whole: Series = ("probe_duration_seconds", ())
    took, takes = theirs[whole], ours[whole]
    if takes < WAIT <= took or (took < WAIT and takes > took + LATE):
        yield whole[0], f"theirs takes {took:.2f} s, ours {takes:.2f} s"


def _times(case: Case, ours: Samples) -> Iterator[tuple[str, str]]:
    our_duration = ours[("probe_duration_seconds", ())]
    for name in TIMES:
        phases = {dict(pairs)["phase"]: value for (metric, pairs), value in ours.items() if metric == name and pairs}
        if sum(phases.values()) > our_duration + 0.001:
            yield name, f"phases last longer than the probe: {phases}, {our_duration:g}"
        if any(value < 0 for value in phases.values()):
            yield name, f"a phase is negative: {phases}"
        # Half of it: a busy reader sees the first octet late, and the last one hardly later.
        if case.slow in phases and (phases[case.slow] < SLOW / 2 or max(phases.values()) > phases[case.slow]):
            yield name, f"{case.slow} takes {SLOW} s: {phases}"


def _shown(series: Series) -> str:
    name, pairs = series
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in pairs) + "}" if pairs else name
