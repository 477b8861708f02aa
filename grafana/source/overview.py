"""Overview: is anything down, since when, and how was it over the last weeks?"""

from __future__ import annotations

from typing import Final

from grafana.source.model import (
    GREEN,
    GREY,
    ORANGE,
    RED,
    Dashboard,
    Override,
    Query,
    Row,
    mapping,
    now,
    rows,
    thresholds,
)
from grafana.source.panels import DATE, MILLISECONDS, SPAN, STATES, Column, days, stat, states, table
from grafana.source.series import (
    BOUNDS,
    availability,
    last_duration,
    last_headline,
    last_outage,
    observed_seconds,
    ongoing,
    outage_seconds,
    outages_counted,
    per_scope,
    running,
    started,
    state_now,
    state_timeline,
    vantage_state_now,
    votes,
)
from grafana.source.variables import ENTITY, FUSED, OVERVIEW, SCOPES, TO_ENTITY, TO_NAMED_ENTITY

ENTITIES: Final = 'scope="entity", entity=~"$entity"'
NETWORKS: Final = 'scope="network", entity=~"$entity"'
CHOSEN: Final = 'scope=~"$scope", entity=~"$entity"'
COUNTED: Final = 'scope=~"entity|network|site", entity=~"$entity"'
ANY_VANTAGE: Final = 'vantage!=""'

NO_AGENT: Final = "No agent has reported in this time range"
GOOD_SHARE: Final = thresholds(RED, (0.95, ORANGE), (0.999, GREEN))

SCOPE_COLUMNS: Final = (
    Column("scope", "Scope", width=90),
    Column("name", "Name"),
    Column("entity", "Entity", link=TO_ENTITY),
)

STATE_OF_EACH = stat(
    "State of each entity",
    "What the vantages that can see agree on, at the end of the time range. Outage: all its networks are down (dark). "
    "Partial: some are. Peninsula: some vantages reach it, some do not. Not observed: nobody can see; the last verdict "
    "is held. Click for the entity.",
    [now(state_now(ENTITIES), "{{entity}}")],
    mappings=STATES,
    background=True,
    named=True,
    empty=NO_AGENT,
    links=[TO_NAMED_ENTITY],
)

ONGOING_COUNT = stat(
    "Down now",
    "Entities, networks and sites that are in an outage at the end of the time range.",
    [now(f"count(({running(COUNTED)}) > 0) or vector(0)")],
    mappings=mapping({0: ("none", GREEN)}),
    steps=thresholds(GREEN, (1, RED)),
)

VANTAGES = stat(
    "Vantages",
    "How many vantages see, are offline (their references are silent too) or gone (the agent is not heard). Who does "
    "not see has no vote.",
    [
        now(f"count(({vantage_state_now(ANY_VANTAGE)}) == {value}) or vector(0)", word)
        for value, word in ((1, "see"), (2, "offline"), (0, "gone"))
    ],
    steps=thresholds(GREY, (1, RED)),
    overrides=[Override("see", {"thresholds": thresholds(RED, (1, GREEN))})],
    named=True,
)

ONGOING = table(
    "Ongoing outages",
    "What is down at the end of the time range, for how long (from its likeliest start) and between "
    "which times it began. Down at: vantages that say so now; 0 while nobody can see, then the verdict is held. Worse "
    "since: loss or round trips had risen before (a progressive onset).",
    [
        rows(ongoing(running(CHOSEN), CHOSEN)),
        rows(f"{MILLISECONDS} * ({ongoing(started('started_after', 'max', CHOSEN), CHOSEN)})"),
        rows(f"{MILLISECONDS} * ({ongoing(started('started_by', 'min', CHOSEN), CHOSEN)})"),
        rows(ongoing(votes("down", CHOSEN), CHOSEN)),
        rows(ongoing(votes("all", CHOSEN), CHOSEN)),
        rows(
            f"{MILLISECONDS} * ("
            + ongoing(per_scope(f"prober_outage_degraded_since_timestamp_seconds{{{CHOSEN}}}"), CHOSEN)
            + ")"
        ),
    ],
    [
        *SCOPE_COLUMNS,
        Column("A", "Running for", SPAN, decimals=1),
        Column("B", "Began after", DATE, zero="not known", null="not known"),
        Column("C", "Began by", DATE, zero="not known"),
        Column("D", "Down at", width=80),
        Column("E", "of vantages", width=95),
        Column("F", "Worse since", DATE, zero="abrupt"),
    ],
    empty="Nothing is down",
    sort="Scope",
)

TIMELINE = states(
    "Entities and their networks",
    "The worst state between two points of the chart, so that an outage of minutes is seen at every range.",
    [Query(state_timeline(ENTITIES), "{{entity}}"), Query(state_timeline(NETWORKS), "{{entity}} · {{name}}")],
    empty=NO_AGENT,
)

LAST = table(
    "Last outage of each",
    "The newest outage that has ended, with the bounds between which it began and ended: the truth lies inside them. "
    "Duration: the headline of the vantages' ledgers, their mean.",
    [
        *(rows(f"{MILLISECONDS} * (({last_outage(bound, by, CHOSEN)}) > 0)") for bound, by in BOUNDS),
        rows(last_headline(CHOSEN)),
        rows(last_duration("least", CHOSEN)),
        rows(last_duration("most", CHOSEN)),
    ],
    [
        *SCOPE_COLUMNS,
        Column("E", "Duration", SPAN, decimals=1, null="not known", width=170),
        Column("F", "At least", SPAN, decimals=1, null="not known", width=170),
        Column("G", "At most", SPAN, decimals=1, null="not known", width=170),
        Column("A", "Began after", DATE, null="not known"),
        Column("B", "Began by", DATE),
        Column("C", "Ended after", DATE, null="not known"),
        Column("D", "Ended by", DATE, null="not known"),
    ],
    empty="No outage has ended yet",
    sort="Scope",
)

PER_DAY = days(
    "Outage time per day (UTC)",
    "How long each entity was seen to be in an outage on each day, to the minute. Time in which nobody could see is "
    "not counted. A day is counted whole, also if the time range begins or ends in it; today is not over yet.",
    [Query(outage_seconds(ENTITIES, "1d", " offset -1d"), "{{entity}}", step="1d")],
    unit="s",
    empty=NO_AGENT,
)

AVAILABILITY = table(
    "The 90 days before the end of the time range",
    "Availability: share of the observed time that was no outage, as the vantages agreed. Observed: time for which "
    "there is anything to say, which is less than 90 days while the agents are young. Outages and blips have ended, as "
    "counted by the vantage that saw most; a blip is too short to be an outage for certain (setting judgement.blip).",
    [
        rows(availability(ENTITIES, "90d")),
        rows(observed_seconds(ENTITIES, "90d")),
        rows(outage_seconds(ENTITIES, "90d")),
        rows(outages_counted(ENTITIES, "outage", "90d")),
        rows(outages_counted(ENTITIES, "blip", "90d")),
    ],
    [
        Column("entity", "Entity", link=TO_ENTITY),
        Column("A", "Availability", "percentunit", decimals=3, steps=GOOD_SHARE, width=105),
        Column("B", "Observed", SPAN, decimals=0, width=95),
        Column("C", "In outage", SPAN, decimals=1, zero="none", width=170),
        Column("D", "Outages", decimals=0, zero="none", null="none", width=75),
        Column("E", "Blips", decimals=0, zero="none", null="none", width=75),
    ],
    empty=NO_AGENT,
    sort="Entity",
)

DASHBOARD = Dashboard(
    OVERVIEW,
    "Overview",
    "Is anything down, since when, and how was it over the last weeks?",
    rows=[
        Row("Now", [(5, [(STATE_OF_EACH, 12), (ONGOING_COUNT, 4), (VANTAGES, 8)]), (6, [(ONGOING, 24)])]),
        Row("Over time", [(9, [(TIMELINE, 24)])]),
        Row("Past outages", [(8, [(LAST, 24)]), (7, [(PER_DAY, 24)]), (6, [(AVAILABILITY, 24)])]),
    ],
    variables=[ENTITY, SCOPES, FUSED],
    since="now-7d",
)
