"""Vantages: can the observers be believed, when could they not see, and what do they cost?"""

from __future__ import annotations

from typing import Final

from grafana.source.model import GREEN, RED, Dashboard, Query, Row, mapping, rows, thresholds
from grafana.source.panels import DATE, MILLISECONDS, SPAN, VANTAGE_STATES, Column, lines, states, table
from grafana.source.series import CHOSEN_VANTAGES, STEP, vantage_state_now, vantage_state_timeline
from grafana.source.variables import VANTAGE, VANTAGES_PAGE

RATE: Final = "$__rate_interval"
NO_AGENT: Final = "No agent has reported in this time range"
NO_FIGURES: Final = "No figures of agents in this time range (a replay has none)"
OF: Final = f"{{{CHOSEN_VANTAGES}}}"


def each(expr: str, function: str = "max") -> str:
    """One value for each vantage."""
    return f"{function} by (vantage) ({expr})"


def quantile(share: float, metric: str) -> Query:
    """A quantile of a histogram, by vantage."""
    expr = f"histogram_quantile({share}, sum by (vantage, le) (rate({metric}_bucket{OF}[{RATE}])))"
    return Query(expr, f"p{share * 100:g} {{{{vantage}}}}")


NOW = table(
    "Agents now",
    "Sees: its references answer. Offline: they are silent too, so it has no vote. Gone: the agent is not heard. Clock "
    "error: its clock against Prometheus' (a scrape's length is within it). References 0: nothing vouches for it.",
    [
        rows(vantage_state_now()),
        rows(
            f"{MILLISECONDS} * "
            + each(f"vantage:prober_seen_timestamp_seconds:max{OF} or timestamp(prober_build_info{OF})")
        ),
        rows(each(f"prober_references{OF}")),
        rows(each(f"prober_ledger_writable{OF}", "min")),
        rows(each(f"prober_checks{OF}")),
        rows(each(f"prober_config_last_reload_successful{OF}", "min")),
        rows(each(f"prober_clock_timestamp_seconds{OF} - timestamp(prober_clock_timestamp_seconds{OF})")),
        rows(f"time() - {each(f'process_start_time_seconds{OF}')}"),
        rows(f"max by (vantage, version) (prober_build_info{OF})"),
    ],
    [
        Column("vantage", "Vantage"),
        Column("A", "State", mappings=VANTAGE_STATES, width=90),
        Column("B", "Heard last", DATE, width=160),
        Column("C", "References", steps=thresholds(RED, (1, "text"))),
        Column("D", "Ledger", mappings=mapping({0: ("not writable", RED), 1: ("writable", GREEN)}), width=110),
        Column("E", "Checks"),
        Column("F", "Configuration", mappings=mapping({0: ("refused", RED), 1: ("loaded", GREEN)}), width=110),
        Column("G", "Clock error", "s", decimals=2, steps=thresholds(RED, (-2, "text"), (2, RED))),
        Column("H", "Runs for", SPAN, decimals=0),
        Column("version", "Version"),
    ],
    empty=NO_AGENT,
    sort="Vantage",
)

TIMELINE = states(
    "When each could see",
    "The worst between two points: gone (the agent is not heard), then offline (its references are silent).",
    [Query(vantage_state_timeline(), "{{vantage}}")],
    mappings=VANTAGE_STATES,
    empty=NO_AGENT,
)

SCOPES: Final = f'scope="entity", {CHOSEN_VANTAGES}'

UNSEEN = lines(
    "Gaps: share of time in which entities were not observed",
    "Of each vantage, mean over its entities, from the ledger's own count: time offline, not running (also a stopped "
    "agent, once it is back), overloaded, and just after a start.",
    [
        Query(
            f'avg by (vantage) (clamp_max(rate(prober_state_seconds_total{{{SCOPES}, state="unknown"}}[{RATE}]), 1))',
            "{{vantage}}",
        )
    ],
    unit="percentunit",
    most=1,
    empty=NO_FIGURES,
)

SCHEDULE = lines(
    "Lateness of probes",
    "How long after its due time a regular probe was started: the median and the slowest in a hundred.",
    [quantile(0.5, "prober_schedule_lateness_seconds"), quantile(0.99, "prober_schedule_lateness_seconds")],
    unit="s",
    empty=NO_FIGURES,
)

STALLS = lines(
    "Stalls of the agent's loop",
    "Time in which the agent stood still, as a share of all time. A probe that it spoils is void, not a failure.",
    [Query(each(f"rate(prober_loop_stall_seconds_sum{OF}[{RATE}])", "sum"), "{{vantage}}")],
    unit="percentunit",
    empty=NO_FIGURES,
)

SKIPPED = lines(
    "Trouble of the agent's own",
    "Regular rounds that were not probed, defects that were caught, clock steps, and replies that answered no request "
    "(late, duplicate, or forged), in each interval.",
    [
        Query(
            f"sum by (vantage, reason) (increase(prober_rounds_skipped_total{OF}[{STEP}])) > 0",
            "round skipped, {{reason}}: {{vantage}}",
        ),
        Query(
            f"sum by (vantage, place) (increase(prober_internal_errors_total{OF}[{STEP}])) > 0",
            "defect, {{place}}: {{vantage}}",
        ),
        Query(f"sum by (vantage) (increase(prober_clock_steps_total{OF}[{STEP}])) > 0", "clock step: {{vantage}}"),
        Query(
            f"sum by (vantage, reason) (increase(prober_icmp_unmatched_replies_total{OF}[{STEP}])) > 0",
            "reply {{reason}}: {{vantage}}",
        ),
    ],
    unit="none",
    decimals=0,
    bars=True,
    stacked=True,
    legend=("sum",),
    step="1m",
    empty="No trouble in this time range",
)

LEDGER = lines(
    "Events that wait for the disk",
    "Outages and gaps that are not in the ledger yet, and those that could not be kept. Both should be 0.",
    [
        Query(each(f"max_over_time(prober_ledger_unwritten_events{OF}[{STEP}])"), "waiting: {{vantage}}"),
        Query(each(f"prober_ledger_lost_events_total{OF}"), "lost: {{vantage}}"),
    ],
    unit="none",
    decimals=0,
    stairs=True,
    step="1m",
    empty=NO_FIGURES,
)

CPU = lines(
    "CPU",
    "Share of one core.",
    [Query(each(f"rate(process_cpu_seconds_total{OF}[{RATE}])", "sum"), "{{vantage}}")],
    unit="percentunit",
    empty=NO_FIGURES,
)

MEMORY = lines(
    "Memory",
    "Resident memory.",
    [Query(each(f"process_resident_memory_bytes{OF}", "sum"), "{{vantage}}")],
    unit="bytes",
    empty=NO_FIGURES,
)

PROBES = lines(
    "Probes",
    "Probes a second, confirmations and references' included only where they are checks of targets.",
    [Query(each(f"rate(prober_probes_total{OF}[{RATE}])", "sum"), "{{vantage}}")],
    unit="ops",
    empty=NO_FIGURES,
)

COST = lines(
    "CPU for each probe",
    "What a probe costs, all of the agent's work counted in.",
    [
        Query(
            f"{each(f'rate(process_cpu_seconds_total{OF}[{RATE}])', 'sum')}"
            f" / ({each(f'rate(prober_probes_total{OF}[{RATE}])', 'sum')} > 0)",
            "{{vantage}}",
        )
    ],
    unit="s",
    empty=NO_FIGURES,
)

DESCRIPTORS = lines(
    "Open files and sockets",
    "File descriptors in use, as a share of what the process may open.",
    [Query(each(f"process_open_fds{OF} / process_max_fds{OF}"), "{{vantage}}")],
    unit="percentunit",
    empty=NO_FIGURES,
)

IN_FLIGHT = lines(
    "Probes under way",
    "The most in each interval.",
    [Query(each(f"max_over_time(prober_probes_in_flight{OF}[{STEP}])"), "{{vantage}}")],
    unit="none",
    decimals=0,
    step="1m",
    empty=NO_FIGURES,
)

DASHBOARD = Dashboard(
    VANTAGES_PAGE,
    "Vantages",
    "Can the observers be believed, when could they not see, and what do they cost?",
    rows=[
        Row("Now", [(7, [(NOW, 24)])]),
        Row("Could they see?", [(8, [(TIMELINE, 12), (UNSEEN, 12)])]),
        Row(
            "Were they in time?",
            [(9, [(SCHEDULE, 12), (STALLS, 12)]), (9, [(SKIPPED, 12), (LEDGER, 12)])],
        ),
        Row(
            "What they cost",
            [(9, [(CPU, 8), (MEMORY, 8), (DESCRIPTORS, 8)]), (9, [(PROBES, 8), (COST, 8), (IN_FLIGHT, 8)])],
        ),
    ],
    variables=[VANTAGE],
    since="now-24h",
)
