"""Target: what the probes of one host or service measured, and why they failed."""

from __future__ import annotations

from typing import Final

from grafana.source.model import GREEN, ORANGE, RED, YELLOW, Dashboard, Query, Row, mapping, now, rows, thresholds
from grafana.source.panels import (
    DATE,
    MILLISECONDS,
    SPAN,
    STATES,
    VERDICTS,
    Column,
    lines,
    outage_shading,
    running_stat,
    stat,
    states,
    table,
)
from grafana.source.series import STEP, running, state_now, state_timeline, vantages_verdict_timeline
from grafana.source.variables import CHECK, ENTITY, FUSED, TARGET, TARGET_PAGE, TO_VANTAGE, VANTAGE

WHOLE: Final = 'scope="target", name="$target"'
CHECKS: Final = 'scope="check", name=~"$target/.+"'
PROBED: Final = 'target="$target", check=~"$check", vantage=~"$vantage"'
ANY_CHECK: Final = 'target="$target", vantage=~"$vantage"'
RATE: Final = "$__rate_interval"
PHASES: Final = '__name__=~"probe_(icmp|dns|http|tcp)_duration_seconds"'

NO_TARGET: Final = "Nothing is known of this target in this time range"
NO_PROBE: Final = "No probe in this time range"

STATE = stat(
    "State",
    "What the vantages that can see agree on, at the end of the time range. A target is reachable if any of its checks "
    "is (`require: all` turns that round).",
    [now(state_now(WHOLE))],
    mappings=STATES,
    background=True,
    empty=NO_TARGET,
)

RUNNING = running_stat(running(WHOLE))

INFO = table(
    "From its file",
    "What the targets file says of it.",
    [
        rows(
            "max by (entity, network, site, hosted_in, title) "
            '(last_over_time(prober_target_info{target="$target"}[$__range]))'
        )
    ],
    [
        Column("title", "Title"),
        Column("entity", "Entity"),
        Column("network", "Network"),
        Column("site", "Site"),
        Column("hosted_in", "Hosted in"),
    ],
    empty=NO_TARGET,
    sort="Entity",
)

CERTIFICATE = stat(
    "Certificate expires in",
    "The time left until the first certificate of the chain expires, the least of all checks and vantages. It is held "
    "while the probe fails.",
    [now(f"min(prober_certificate_expiry_timestamp_seconds{{{ANY_CHECK}}}) - time()")],
    unit=SPAN,
    decimals=0,
    empty="no certificate seen",
    steps=thresholds(RED, (7 * 86400, ORANGE), (21 * 86400, GREEN)),
)

TIMELINE = states(
    "The target and its checks",
    "The worst state between two points, as the vantages agreed.",
    [Query(state_timeline(WHOLE), "{{name}}"), Query(state_timeline(CHECKS), "{{name}}")],
    empty=NO_TARGET,
)

VANTAGES = states(
    "What each vantage says of it",
    "Each vantage by itself: from where is it unreachable?",
    [Query(vantages_verdict_timeline(f'{WHOLE}, vantage=~"$vantage"'), "{{vantage}}")],
    mappings=VERDICTS,
    empty=NO_TARGET,
    links=[TO_VANTAGE],
)


def latest(metric: str, function: str = "max") -> str:
    """The value of each check at each vantage."""
    return f"{function} by (check, vantage) ({metric}{{{PROBED}}})"


LATEST = table(
    "The last probe of each check",
    "As of the end of the time range. Loss is that of the last 60 regular probes. What a probe did not learn is "
    "left blank: a failed one has no status and no TTL.",
    [
        rows(latest("probe_success")),
        rows(f"{MILLISECONDS} * {latest('prober_check_last_run_timestamp_seconds')}"),
        rows(latest("probe_duration_seconds")),
        rows(latest("prober_loss_ratio")),
        rows(latest("probe_icmp_reply_hop_limit")),
        rows(latest("probe_http_status_code")),
        rows(f"{MILLISECONDS} * {latest('prober_certificate_expiry_timestamp_seconds')}"),
    ],
    [
        Column("check", "Check"),
        Column("vantage", "Vantage"),
        Column("A", "Result", mappings=mapping({0: ("failed", RED), 1: ("answered", GREEN)}), width=90),
        Column("B", "Sent", DATE, width=160),
        Column("C", "Took", "s", decimals=1),
        Column("D", "Loss", "percentunit", decimals=1, steps=thresholds("text", (0.05, YELLOW), (0.3, RED))),
        Column("E", "TTL", width=60),
        Column("F", "HTTP status", width=100),
        Column("G", "Certificate expires", DATE, width=160),
    ],
    empty=NO_PROBE,
    sort="Check",
)

# A failure of a kind that was never met before is a new series, in whose first value `increase` sees no increase. It
# counts in full where the check had been probed before: then the series is new, and not merely seen anew.
FAILURES: Final = f"prober_probe_failures_total{{{PROBED}}}"
FAILED: Final = (
    f"increase({FAILURES}[{STEP}]) > 0 or ({FAILURES} unless {FAILURES} offset {STEP})"
    f" and on (vantage, target, check) prober_probes_total{{{PROBED}}} offset {STEP}"
)

REASONS = lines(
    "Failed probes, by reason",
    "What failed and while doing what. `prober failures` explains the words. In an outage failures are confirmed "
    "quickly, so there are more of them than regular rounds.",
    [Query(f"sum by (operation, failure) ({FAILED})", "{{failure}} ({{operation}})")],
    unit="none",
    decimals=0,
    empty="No probe failed in this time range",
    bars=True,
    stacked=True,
    legend=("sum",),
    step="1m",
)

LOSS = lines(
    "Loss",
    "Share of the last 60 regular probes that failed, by check and vantage.",
    [Query(f"max by (check, vantage) (prober_loss_ratio{{{PROBED}}})", "{{check}} from {{vantage}}")],
    unit="percentunit",
    most=1,
    empty=NO_PROBE,
)

RTT = lines(
    "Round trips",
    "Pings, and handshakes of TCP as the kernel measured them; only of what was answered.",
    [
        Query(
            f'max by (check, vantage) (probe_icmp_duration_seconds{{{PROBED}, phase="rtt"}})',
            "ping {{check}} from {{vantage}}",
        ),
        Query(
            f"max by (check, vantage) (probe_tcp_handshake_rtt_seconds{{{PROBED}}})",
            "handshake {{check}} from {{vantage}}",
        ),
    ],
    unit="s",
    empty="Nothing was answered in this time range",
)

TTL = lines(
    "TTL of replies",
    "TTL or hop limit of ping replies: a step is another path, or another host that answers.",
    [Query(f"max by (check, vantage) (probe_icmp_reply_hop_limit{{{PROBED}}})", "{{check}} from {{vantage}}")],
    unit="none",
    decimals=0,
    least=None,
    stairs=True,
    empty="No ping was answered in this time range",
)

PHASES_PANEL = lines(
    "Phases of $check",
    "Where the time of a probe goes, mean over the chosen vantages. A phase that was not reached is absent.",
    [
        Query(
            f'avg by (phase) ({{{PHASES}, target="$target", check="$check", vantage=~"$vantage"}})',
            "{{phase}}",
        )
    ],
    unit="s",
    stacked=True,
    empty="No phase was reached in this time range",
    repeat="check",
)

DASHBOARD = Dashboard(
    TARGET_PAGE,
    "Target",
    "What the probes of one host or service measured, and why they failed",
    rows=[
        Row("$target now", [(4, [(STATE, 5), (RUNNING, 5), (CERTIFICATE, 5), (INFO, 9)]), (8, [(LATEST, 24)])]),
        Row("Over time", [(7, [(TIMELINE, 12), (VANTAGES, 12)]), (10, [(REASONS, 12), (LOSS, 12)])]),
        Row("Measurements", [(10, [(RTT, 12), (TTL, 12)]), (9, [(PHASES_PANEL, 24)])]),
    ],
    variables=[ENTITY, TARGET, CHECK, VANTAGE, FUSED],
    since="now-6h",
    annotations=[outage_shading("Outage of the target", WHOLE)],
)
