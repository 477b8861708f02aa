"""What the dashboards ask for. Verdicts are those of the recording rules (deploy/prometheus/README.md); a Prometheus
that holds none, such as one that a replay was imported into, is asked for what the agents themselves say.

The hidden variable `fused` holds the scopes for which rules recorded anything in the time range. `scope!~"$fused"` is
in every selector of the second kind, so that it finds nothing, and costs nothing, where there are rules.
"""

from __future__ import annotations

from typing import Final

SCOPE_LABELS: Final = "scope, name, entity, country, network, site, hosted_in"
STATE: Final = "scope:prober_state:quorum"
UNRECORDED: Final = 'scope!~"$fused"'

OUTAGE, UP, PENINSULA, PARTIAL, UNSEEN, UNSEEN_OUTAGE, NEVER = range(7)
"""The values of STATE."""

STEP: Final = "$__interval"
AHEAD: Final = f"[{STEP}] offset -{STEP}"
"""What is between a point and the next one, so that a bar stands where the thing happened."""


def per_scope(expr: str, by: str = "max") -> str:
    """One series for each scope."""
    return f"{by} by ({SCOPE_LABELS}) ({expr})"


def _agents_state(selector: str, span: str) -> str:
    """STATE from the agents' verdicts within `span` (""): all down, all up, both; without votes, the held one."""
    own = f"{selector}, {UNRECORDED}"
    up, observed = f"prober_up{{{own}}}", f"prober_observed{{{own}}}"
    if span:
        up, observed = f"min_over_time({up}{span})", f"max_over_time({observed}{span})"
    votes = f"({up} and {observed} == 1)"
    return (
        f"(2 * {per_scope(votes)} - {per_scope(votes, 'min')})"
        f" or ({UNSEEN_OUTAGE} - {per_scope(up)})"
        f" or ({NEVER} * {per_scope(observed)} ^ 0)"
    )


def state_now(selector: str) -> str:
    """The state at one moment."""
    return f"{per_scope(f'{STATE}{{{selector}}}')} or {_agents_state(selector, '')}"


def state_timeline(selector: str) -> str:
    """The worst state between two points, so that a short outage is seen at every range.

    Outage first, then partial, peninsula, not observed, up. A subquery by the minute finds what is neither the least
    nor the greatest of the numbers.
    """
    recorded = f"{STATE}{{{selector}}}"
    worst = (
        f"(min_over_time({recorded}{AHEAD}) == {OUTAGE})"
        f" or max_over_time((({recorded} > {UP}) < {UNSEEN})[{STEP}:1m] offset -{STEP})"
        f" or max_over_time({recorded}{AHEAD})"
    )
    return f"{per_scope(worst)} or {_agents_state(selector, AHEAD)}"


CHOSEN_VANTAGES: Final = 'vantage=~"$vantage"'


def vantage_state_now(selector: str = CHOSEN_VANTAGES) -> str:
    """0 gone, 1 sees, 2 offline."""
    return (
        f"max by (vantage) (vantage:prober_state:current{{{selector}}})"
        f" or (2 - max by (vantage) (prober_observer_up{{{selector}}}))"
    )


def vantage_state_timeline(selector: str = CHOSEN_VANTAGES) -> str:
    """The worst between two points: gone, then offline."""
    recorded = f"vantage:prober_state:current{{{selector}}}"
    return (
        f"max by (vantage) ((min_over_time({recorded}{AHEAD}) == 0) or max_over_time({recorded}{AHEAD}))"
        f" or (2 - max by (vantage) (min_over_time(prober_observer_up{{{selector}}}{AHEAD})))"
    )


def vantages_verdict_timeline(selector: str) -> str:
    """What each vantage says of one scope: 0 down, 1 not observed (last seen up, or never), 2 up, 3 not observed (last
    seen down), 4 gone (nothing is heard of it, and it watches the scope).
    """
    up, observed = f"prober_up{{{selector}}}{AHEAD}", f"prober_observed{{{selector}}}{AHEAD}"
    return (
        "max by (vantage) ("
        f"min_over_time({up}) * (1 + min_over_time({observed}))"
        f" + 3 * (1 - max_over_time({up})) * (1 - max_over_time({observed})))"
        f" or max by (vantage) (max_over_time({observed}) ^ 0)"
        f" or 4 * max by (vantage) (max_over_time(scope_vantage:prober_watched:hold{{{selector}}}{AHEAD}))"
    )


def availability(selector: str, span: str) -> str:
    """Share of the observed time in which it was no outage."""
    return f"avg_over_time(((({state_now(selector)}) < {UNSEEN}) > bool {OUTAGE})[{span}:1m])"


def observed_seconds(selector: str, span: str) -> str:
    """Time in which anybody could see."""
    return f"60 * count_over_time((({state_now(selector)}) < {UNSEEN})[{span}:1m])"


def outage_seconds(selector: str, span: str, offset: str = "") -> str:
    """Time in which it was seen to be an outage, to the minute."""
    return f"60 * sum_over_time((({state_now(selector)}) == bool {OUTAGE})[{span}:1m]{offset})"


def running(selector: str) -> str:
    """How long ongoing outages have lasted; 0: none."""
    agents = per_scope(f"prober_outage_seconds{{{selector}, {UNRECORDED}}}", "min")
    return f"{per_scope(f'scope:prober_outage_seconds:quorum{{{selector}}}')} or {agents}"


def ongoing(series: str, selector: str) -> str:
    """`series` of the scopes that are in an outage."""
    return f"({series}) and on (scope, name, entity) (({running(selector)}) > 0)"


def started(bound: str, by: str, selector: str) -> str:
    """A bound of the start of the ongoing outage, Unix seconds; 0: none or not known."""
    metric = f"prober_outage_{bound}_timestamp_seconds"
    return (
        f"{per_scope(f'scope:{metric}:{by}{{{selector}}}')} or {per_scope(f'{metric}{{{selector}, {UNRECORDED}}}', by)}"
    )


def last_outage(bound: str, by: str, selector: str) -> str:
    """A bound of the last outage that has ended, Unix seconds; 0: none or not known."""
    newest = (
        f"max by ({SCOPE_LABELS}, vantage) (prober_past_outage_{bound}_timestamp_seconds{{{selector}, {UNRECORDED}}})"
    )
    return (
        f"{per_scope(f'scope:prober_last_outage_{bound}_timestamp_seconds:{by}{{{selector}}}')}"
        f" or {by} by ({SCOPE_LABELS}) ({newest})"
    )


BOUNDS: Final = (("started_after", "max"), ("started_by", "min"), ("ended_after", "max"), ("ended_by", "min"))
"""Fused bounds: the vantage that saw it up last, and the one that saw it down first."""


def outages_counted(selector: str, kind: str, span: str) -> str:
    """Outages that ended, as the vantage that saw most of them counts. A blip is too short to be an outage."""
    counter = f'prober_outages_total{{{selector}, class="{kind}"}}'
    return f"{per_scope(f'max by ({SCOPE_LABELS}, vantage) (increase({counter}[{span}]))')}"


def votes(kind: str, selector: str) -> str:
    """Vantages that say `up`, that say `down`, or `all` that watch the scope, the blind and the gone too."""
    up, observed = f"prober_up{{{selector}, {UNRECORDED}}}", f"prober_observed{{{selector}, {UNRECORDED}}}"
    recorded, agents = {
        "up": ("scope:prober_votes_up:count", f"sum by ({SCOPE_LABELS}) ({up} * {observed})"),
        "down": ("scope:prober_votes_down:count", f"sum by ({SCOPE_LABELS}) ((1 - {up}) * {observed})"),
        "all": ("scope:prober_vantages:count", f"count by ({SCOPE_LABELS}) ({observed})"),
    }[kind]
    return f"{per_scope(f'{recorded}{{{selector}}}')} or {agents}"


def quoted(seconds: str) -> str:
    """A duration as people quote it, from an hour on to the minute: Grafana would cut 9 h 30 min 58 s to 9 h 30 min."""
    return f"(round({seconds}, 60) >= 3600 or round({seconds}))"


def last_headline(selector: str) -> str:
    """How long the last outage was; absent: not known. Without rules: as the vantage says that saw it end last."""
    mine = f"{selector}, {UNRECORDED}"
    ended = f"prober_past_outage_ended_by_timestamp_seconds{{{mine}}}"
    newest = f"({ended} == on ({SCOPE_LABELS}) group_left () {per_scope(ended)})"
    agents = per_scope(f"prober_past_outage_seconds{{{mine}}} and on ({SCOPE_LABELS}, vantage, outage) {newest}")
    return quoted(f"({per_scope(f'scope:prober_last_outage_seconds:quorum{{{selector}}}')} or {agents}) > 0")


def last_duration(kind: str, selector: str) -> str:
    """How long the last outage was at `least` or at `most`, as its bounds say; absent: not known."""
    after, by, ended_after, ended_by = (f"(({last_outage(*bound, selector)}) > 0)" for bound in BOUNDS)
    if kind == "least":
        return f"clamp_min({ended_after} - {by}, 0)"
    return f"{ended_by} - {after}"
