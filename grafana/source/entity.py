"""Entity: one country or other entity, its parts over time, who saw what, and each outage with its bounds."""

from __future__ import annotations

from typing import Final

from grafana.source.model import (
    GREEN,
    GREY,
    PURPLE,
    RED,
    Dashboard,
    Override,
    Panel,
    Query,
    Row,
    mapping,
    now,
    rows,
    thresholds,
)
from grafana.source.panels import (
    DATE,
    MILLISECONDS,
    SPAN,
    STATES,
    VERDICTS,
    Column,
    fixed,
    lines,
    notes,
    outage_shading,
    running_stat,
    stat,
    states,
    table,
)
from grafana.source.series import (
    BOUNDS,
    SCOPE_LABELS,
    STEP,
    last_duration,
    last_headline,
    quoted,
    running,
    started,
    state_now,
    state_timeline,
    vantages_verdict_timeline,
    votes,
)
from grafana.source.variables import ENTITY_PAGE, FUSED, ONE_ENTITY, TO_NAMED_TARGET, TO_VANTAGE

WHOLE: Final = 'scope="entity", entity="$entity"'
PARTS: Final = 'scope="network", entity="$entity"'
SITES: Final = 'scope="site", entity="$entity"'
MIRRORS: Final = 'scope="target", site!="", entity="$entity"'
OTHERS: Final = 'scope="target", site="", entity="$entity"'
LISTED: Final = 'scope=~"network|site", entity="$entity"'

NO_ENTITY: Final = "Nothing is known of this entity in this time range"

STATE = stat(
    "State",
    "What the vantages that can see agree on, at the end of the time range. Outage: all networks are down.",
    [now(state_now(WHOLE))],
    mappings=STATES,
    background=True,
    empty=NO_ENTITY,
)

RUNNING = running_stat(running(WHOLE))

BEGAN = stat(
    "It began between",
    "The bounds of the start of the ongoing outage: it was up at the first, and down by the second.",
    [
        now(f"{MILLISECONDS} * ({started('started_after', 'max', WHOLE)})", "after"),
        now(f"{MILLISECONDS} * ({started('started_by', 'min', WHOLE)})", "by"),
    ],
    unit=DATE,
    mappings=mapping({0: ("none", GREY)}),
    named=True,
    size=22,
)

ONSET = stat(
    "Onset: worse since",
    "Of the ongoing outage: since when loss or round trips had risen above the usual before it (progressive), or "
    "abrupt. The median of the vantages that see it.",
    [
        now(
            f"{MILLISECONDS} * (quantile(0.5, prober_outage_degraded_since_timestamp_seconds{{{WHOLE}}} > 0)"
            f" or 0 * max(prober_outage_seconds{{{WHOLE}}} > 0) or -1 + 0 * max(prober_outage_seconds{{{WHOLE}}}))"
        )
    ],
    unit=DATE,
    mappings=mapping({0: ("abrupt", None), -1000: ("none", GREY)}),
    size=26,
)

SEEN_BY = stat(
    "Votes",
    "Vantages that reach it, that do not, and that cannot see now (offline, gone or just started).",
    [
        now(f"sum({votes('up', WHOLE)}) or vector(0)", "up"),
        now(f"sum({votes('down', WHOLE)}) or vector(0)", "down"),
        now(
            f"sum({votes('all', WHOLE)}) - sum({votes('up', WHOLE)}) - sum({votes('down', WHOLE)}) or vector(0)",
            "blind",
        ),
    ],
    steps=thresholds(GREY, (1, RED)),
    overrides=[
        Override("up", {"thresholds": thresholds(GREY, (1, GREEN))}),
        Override("blind", {"thresholds": thresholds(GREY, (1, PURPLE))}),
    ],
    named=True,
)

LAST = stat(
    "Last outage that ended",
    "How long it lasted, as the vantages' ledgers say (the mean of their headlines); beside it, the least and the most "
    "that the bounds allow.",
    [
        now(last_headline(WHOLE), "lasted"),
        now(last_duration("least", WHOLE), "at least"),
        now(last_duration("most", WHOLE), "at most"),
    ],
    unit=SPAN,
    decimals=1,
    named=True,
    size=26,
)

NETWORKS = states(
    "Networks",
    "The entity, then its networks: the worst state between two points, as the vantages agreed.",
    [Query(state_timeline(WHOLE), "{{name}} (all)"), Query(state_timeline(PARTS), "{{name}}")],
    empty=NO_ENTITY,
)

SITES_PANEL = states(
    "Sites",
    "A site is up as long as any of its mirrors serves it, wherever that stands.",
    [Query(state_timeline(SITES), "{{name}}")],
    empty="No site of this entity is known in this time range",
)

MIRRORS_PANEL = states(
    "Mirrors, by the country that hosts them",
    "Each target that serves a site, in order of the country where it stands. One abroad says nothing of the entity's "
    "networks. A target is reachable if any of its checks is; its site looks at the http checks. Click for the target.",
    [Query(state_timeline(MIRRORS), "{{hosted_in}} · {{site}} · {{name}}")],
    empty="No target that serves a site is known in this time range",
    links=[TO_NAMED_TARGET],
)

OTHER_TARGETS = states(
    "Other targets",
    "Name servers, routers and whatever else serves no site.",
    [Query(state_timeline(OTHERS), "{{hosted_in}} · {{name}}")],
    empty="No other target is known in this time range",
    links=[TO_NAMED_TARGET],
)

VANTAGES = states(
    "What each vantage says of the entity",
    "Each vantage by itself. Not observed: it is offline, or has just started; it has no vote then.",
    [Query(vantages_verdict_timeline(WHOLE), "{{vantage}}")],
    mappings=VERDICTS,
    empty=NO_ENTITY,
    links=[TO_VANTAGE],
)

AGREEMENT = lines(
    "Agreement of the vantages",
    "How many vantages say up, say down, or cannot see. Up and down at once is a peninsula.",
    [
        Query(f"min_over_time((sum({votes('up', WHOLE)}))[{STEP}:1m])", "up"),
        Query(f"max_over_time((sum({votes('down', WHOLE)}))[{STEP}:1m])", "down"),
        Query(
            f"max_over_time((sum({votes('all', WHOLE)}) - sum({votes('up', WHOLE)}) - sum({votes('down', WHOLE)}))"
            f"[{STEP}:1m])",
            "cannot see",
        ),
    ],
    unit="none",
    decimals=0,
    overrides=fixed({"up": GREEN, "down": RED, "cannot see": GREY}),
    legend=(),
    stairs=True,
    step="1m",
)

BY_NETWORK: Final = (
    "on (vantage, target) group_left (network) "
    'max by (vantage, target, network) (prober_target_info{entity="$entity", network!=""})'
)

LOSS = lines(
    "Loss, by network",
    "Share of the last 60 regular probes that failed, mean over targets and vantages: a ramp before an outage is a "
    "progressive onset, a step is an abrupt one. It takes 60 rounds to forget an outage.",
    [
        Query(f"avg by (network) (max by (vantage, target, check) (prober_loss_ratio) * {BY_NETWORK})", "{{network}}"),
    ],
    unit="percentunit",
    most=1,
    empty="No target in a network was probed in this time range",
)

RTT = lines(
    "Round trips, by network",
    "Median of the pings that were answered, over targets and vantages.",
    [
        Query(
            'quantile by (network) (0.5, max by (vantage, target, check) (probe_icmp_duration_seconds{phase="rtt"})'
            f" * {BY_NETWORK})",
            "{{network}}",
        )
    ],
    unit="s",
    empty="No ping was answered in this time range",
)


def past(what: str, selector: str) -> str:
    """A figure of the outages that vantages remember, also if they have been gone for a day; seconds, 0: not known.

    The whole time range would be hundreds of millions of samples.
    """
    series = f"prober_past_outage_{what}{{{selector}}}"
    return f"max by (vantage, outage, {SCOPE_LABELS}) (last_over_time({series}[1d]))"


def recorded(title: str, selector: str, *columns: Column) -> Panel:
    """A table of outages with their bounds."""
    after, by, ended_after, ended_by = (f"({past(f'{bound}_timestamp_seconds', selector)} > 0)" for bound, _ in BOUNDS)
    return table(
        title,
        "From each vantage's ledger, the newest 20 of each scope that have ended. The truth lies between `after` and "
        "`by`, the duration between `at least` and `at most`; `Duration` is the ledger's headline. Worse since: loss "
        "or round trips had risen before (progressive), else the onset was abrupt. Times are UTC.",
        [
            *(rows(f"{MILLISECONDS} * {bound}") for bound in (after, by, ended_after, ended_by)),
            rows(quoted(f"{past('seconds', selector)} > 0")),
            rows(f"clamp_min({ended_after} - {by}, 0)"),
            rows(f"{ended_by} - {after}"),
            rows(f"{MILLISECONDS} * {past('degraded_since_timestamp_seconds', selector)}"),
        ],
        [
            *columns,
            Column("vantage", "Vantage"),
            Column("E", "Duration", SPAN, decimals=1, null="not known", width=165),
            Column("F", "At least", SPAN, decimals=1, null="not known", width=165),
            Column("G", "At most", SPAN, decimals=1, null="not known", width=165),
            Column("A", "Began after", DATE, null="not known", width=155),
            Column("B", "Began by", DATE, width=155),
            Column("C", "Ended after", DATE, null="not known", width=155),
            Column("D", "Ended by", DATE, null="not known", width=155),
            Column("H", "Worse since", DATE, zero="abrupt", null="abrupt", width=155),
        ],
        empty="No outage has ended yet",
        sort="Began by",
        descending=True,
        pages=True,
    )


OUTAGES = recorded("Outages of the entity, as each vantage recorded them", WHOLE)
PARTS_OUTAGES = recorded(
    "Outages of its networks and sites, as each vantage recorded them",
    LISTED,
    Column("scope", "Scope", width=80),
    Column("name", "Name"),
)

DASHBOARD = Dashboard(
    ENTITY_PAGE,
    "Entity",
    "One country or other entity: its parts over time, who saw what, and each outage with its bounds",
    rows=[
        Row("$entity now", [(4, [(STATE, 5), (RUNNING, 5), (BEGAN, 9), (SEEN_BY, 5)]), (4, [(ONSET, 8), (LAST, 16)])]),
        Row("Over time", [(8, [(NETWORKS, 12), (SITES_PANEL, 12)]), (9, [(MIRRORS_PANEL, 12), (OTHER_TARGETS, 12)])]),
        Row("Who sees it", [(7, [(VANTAGES, 12), (AGREEMENT, 12)])]),
        Row("How it began", [(9, [(LOSS, 12), (RTT, 12)])]),
        Row("Outages", [(9, [(OUTAGES, 24)]), (11, [(PARTS_OUTAGES, 24)])]),
    ],
    variables=[ONE_ENTITY, FUSED],
    since="now-24h",
    annotations=[outage_shading("Outage of the entity", WHOLE), notes('entity=~"|$entity"')],
)
