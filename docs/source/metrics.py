"""docs/metrics.md, from the tables that the exposition is rendered from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from prober.blackbox.kind import KINDS
from prober.contract import Kind
from prober.failures import Failure, Operation
from prober.metrics import CHECK_FAMILIES, TARGET_FAMILIES, CheckFamily, kind_families
from prober.model import Check, Entity, Observation, Target
from prober.runner import Figures
from prober.scopes import ENTITY_NETWORKS, NOTES, SCOPE_FAMILIES, SCOPE_LABELS, VANTAGE_FAMILIES
from prober.selfmetrics import AgentCollector, EndpointCollector, ReloadFigures, make_registry
from prober.state import CERTIFICATE_EXPIRY, CheckState, State

INTRODUCTION = """\
# Metrics

Written by `make docs` from the tables in the code (`prober/metrics.py`, `prober/scopes.py`,
`prober/selfmetrics.py` and each kind of probe). Do not edit it.

`/metrics` answers in the text format, version 0.0.4. Every series has the label `vantage`: the name of the vantage in
the settings, `local` if it has none. Metrics that blackbox_exporter has too have its names. A phase that was not
reached and a fact that was not learned are absent, never zero; a check that has not been probed yet has
`prober_probes_total` 0 and nothing else.
"""

SCOPES = """\
Scopes are checks, targets, networks, sites and entities. Labels: `scope`, `name` (unique within its scope; of a check
`target/check`), `entity`, and where they apply `country`, `network`, `site` and `hosted_in`. What an outage's bounds
mean is said in ARCHITECTURE.md. `prober_up` is absent for what was never seen up.
"""

LIBRARY = ("process_", "python_")
"""Beginnings of the names that prometheus_client gives; which there are depends on its version."""


class Row(NamedTuple):
    """A metric as a line of a table."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


class _NoClock:
    def now(self) -> float:
        return 0.0

    def utc(self) -> float:
        return 0.0


def sample_state(kind: Kind) -> CheckState:
    """The state of a check of this kind after a probe that saw everything and failed in the end."""
    check = Check("target", "check", kind.name, 60.0, 5.0, None)
    target = Target("target", "entity", (check,), title="t", network="n", site="s", hosted_in="KP")
    state = CheckState(Entity("entity", country="KP", targets=(target,)), target, check)
    state.observe(
        Observation(
            check=check,
            sent_at=0.0,
            utc=0.0,
            success=False,
            duration_seconds=0.0,
            phases=dict.fromkeys(kind.phases, 0.0),
            facts={spec.key: "text" if spec.label else 0.0 for spec in kind.facts} | {CERTIFICATE_EXPIRY: 0.0},
            operation=Operation.VALIDATE,
            failure=Failure.UNEXPECTED_REPLY,
            address="192.0.2.1",
        )
    )
    return state


def further_labels(family: CheckFamily, state: CheckState) -> tuple[str, ...]:
    """The labels that a family gives its series beside those that all have."""
    names: dict[str, None] = {}
    for labels, _value in family.read(state):
        names |= dict.fromkeys(re.findall(r'(\w+)="', labels))
    return tuple(names)


def of_checks() -> Iterator[Row]:
    """What every kind has."""
    state = sample_state(next(iter(KINDS.values())))
    for family in CHECK_FAMILIES:
        yield Row(family.name, family.type, further_labels(family, state), family.help)


def of_targets() -> Iterator[Row]:
    """What every target has."""
    state = sample_state(next(iter(KINDS.values())))
    for family in TARGET_FAMILIES:
        yield Row(family.name, family.type, further_labels(family, state), family.help)


def of_scopes() -> Iterator[Row]:
    """What is said of every scope."""
    for family in SCOPE_FAMILIES:
        yield Row(family.name, family.type, SCOPE_LABELS.get(family.name, ()), family.help)
    name, text = ENTITY_NETWORKS
    yield Row(name, "gauge", ("state",), f"{text} (labels `entity` and `state` only)")
    name, text = NOTES
    yield Row(name, "gauge", ("id", "text", "source"), f"{text} (`prober note`; `entity` if it is about one)")


def of_vantage() -> Iterator[Row]:
    """What is said of the vantage."""
    for family in VANTAGE_FAMILIES:
        yield Row(family.name, family.type, (), family.help)


def of_kinds() -> Iterator[tuple[Row, list[str]]]:
    """What kinds bring, each metric once, with the kinds that have it."""
    rows: dict[str, tuple[Row, list[str]]] = {}
    for kind, family in kind_families(KINDS):
        labels = further_labels(family, sample_state(KINDS[kind]))
        row = Row(family.name, family.type, labels, family.help)
        rows.setdefault(family.name, (row, []))[1].append(kind)
    yield from rows.values()


class _Endpoint:
    """An endpoint that was never asked."""

    has_modules = True
    unknown_modules = 0
    outcomes: ClassVar = {"outcome": 0}

    class admission:
        in_flight = waiting = 0


def of_endpoint() -> Iterator[Row]:
    """What the agent tells about /probe."""
    yield from _rows(EndpointCollector(_Endpoint(), ReloadFigures()).collect())  # type: ignore[arg-type]


def of_agent() -> Iterator[Row]:
    """What the agent tells about itself."""
    figures = Figures()
    figures.exceptions["place"] += 1  # the labels of a family without series would not be seen
    collector = AgentCollector(
        clock=_NoClock(),  # type: ignore[arg-type]
        figures=figures,
        state=State(),
        unmatched=Counter({"late": 0}),
        reload=ReloadFigures(),
    )
    registry: CollectorRegistry = make_registry(collector, figures)[0]
    yield from _rows(registry.collect())


def _rows(metrics: Iterable[Metric]) -> Iterator[Row]:
    for metric in metrics:
        if metric.name.startswith(LIBRARY):
            continue
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = {label: None for sample in metric.samples for label in sample.labels if label != "le"}
        yield Row(name, metric.type, tuple(labels), metric.documentation)


def table(rows: Iterable[Row], kinds: dict[str, list[str]] | None = None) -> str:
    """A Markdown table. A metric's name is the first word in backquotes of its line."""
    head = ["metric", "type", *(["kinds"] if kinds else []), "further labels", "what it says"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        cells = [f"`{row.name}`", row.type, *([", ".join(kinds[row.name])] if kinds else []), labels, row.help]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def phases() -> str:
    """The phases of each kind, in order."""
    return "".join(f"- {kind.name}: {', '.join(f'`{name}`' for name in kind.phases)}\n" for kind in KINDS.values())


def text() -> str:
    """The whole document."""
    kinds = {row.name: names for row, names in of_kinds()}
    return "\n".join(
        (
            INTRODUCTION,
            "## Of each check\n\nLabels: `target`, `check` (its name within the target) and `kind`.\n",
            table(of_checks()),
            "`prober failures` lists what `failure` can be and whose side it is on.\n",
            "## Of kinds of probe\n\nThe same labels. Phases, in order:\n",
            phases(),
            table((row for row, _ in of_kinds()), kinds),
            "## Of each target\n\nLabels: `target`, and those of the table that the targets file gives.\n",
            table(of_targets()),
            "## Of each scope\n\n" + SCOPES,
            table(of_scopes()),
            "## Of the vantage\n",
            table(of_vantage()),
            "## Of the agent\n",
            table(of_agent()),
            "## Of /probe\n\nOf an agent with a blackbox.yml.\n",
            table(of_endpoint()),
            "What /probe itself answers has blackbox_exporter's names and no label `vantage`. One name is added: "
            "`prober_probe_refused_info`\nwith the label `reason`, where nothing was sent (docs/blackbox.md).\n",
            "And `process_*` and `python_*`, which prometheus_client exports of every Python process.\n",
        )
    )
