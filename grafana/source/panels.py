"""The kinds of panel that the dashboards are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana.source.model import (
    BLUE,
    DATASOURCE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    YELLOW,
    Json,
    Link,
    Override,
    Panel,
    Query,
    mapping,
    now,
    thresholds,
)
from grafana.source.series import NEVER, OUTAGE, PARTIAL, PENINSULA, UNSEEN, UNSEEN_OUTAGE, UP, state_timeline

STATES: Final = mapping(
    {
        OUTAGE: ("outage", RED),
        UP: ("up", GREEN),
        PENINSULA: ("peninsula", PURPLE),
        PARTIAL: ("partial", ORANGE),
        UNSEEN: ("not observed", GREY),
        UNSEEN_OUTAGE: ("outage, not observed since", YELLOW),
        NEVER: ("never seen up", PALE),
    }
)
"""Of fused verdicts; the words are explained in docs/dashboards.md."""

VANTAGE_STATES: Final = mapping({0: ("gone", BLUE), 1: ("sees", GREEN), 2: ("offline", ORANGE)})
VERDICTS: Final = mapping(
    {
        0: ("down", RED),
        1: ("not observed", GREY),
        2: ("up", GREEN),
        3: ("down, not observed since", YELLOW),
        4: ("gone", BLUE),
    }
)
"""Of one vantage."""

MILLISECONDS: Final = 1000
"""Grafana's dates are milliseconds, Prometheus' are seconds."""
DATE: Final = "dateTimeAsIso"
SPAN: Final = "dtdurations"
PLAIN: Final = thresholds("text")

_TABLE_DASH: Final = mapping({"null": ("–", None)})


def states(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    mappings: Sequence[Json] = STATES,
    empty: str,
    links: Sequence[Link] = (),
) -> Panel:
    """A line for each series, coloured by state. Points are a minute apart at least, so that there is a scrape between
    two of them, and few enough that the shortest outage is some pixels wide.
    """
    return Panel(
        "state-timeline",
        title,
        description,
        queries,
        unit="none",
        empty=empty,
        options={
            "mergeValues": True,
            "showValue": "never",
            "alignValue": "left",
            "rowHeight": 0.82,
            "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        defaults={
            "mappings": list(mappings),
            # By thresholds Grafana would draw those as the states, and not the mappings' words.
            "color": {"mode": "fixed", "fixedColor": GREY},
            "thresholds": thresholds(GREY),
        },
        custom={"lineWidth": 0, "fillOpacity": 85, "spanNulls": False},
        links=links,
        step="1m",
        points=400,
    )


def stat(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str = "none",
    empty: str = "none",
    mappings: Sequence[Json] = (),
    steps: Json = PLAIN,
    background: bool = False,
    decimals: int | None = None,
    named: bool = False,
    size: int = 0,
    overrides: Sequence[Override] = (),
    links: Sequence[Link] = (),
) -> Panel:
    """One value in large letters, or one for each series (`named`). `size`: of letters that must not shrink."""
    defaults: Json = {"mappings": list(mappings), "thresholds": steps, "color": {"mode": "thresholds"}}
    if decimals is not None:
        defaults["decimals"] = decimals
    return Panel(
        "stat",
        title,
        description,
        queries,
        unit=unit,
        empty=empty,
        options={
            "colorMode": "background_solid" if background else "value",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "textMode": "value_and_name" if named else "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "wideLayout": False,
            **({"text": {"valueSize": size, "titleSize": 14}} if size else {}),
        },
        defaults=defaults,
        overrides=overrides,
        links=links,
    )


def running_stat(seconds: str) -> Panel:
    """How long an outage has lasted; `seconds`: the expression for it, 0 where there is none."""
    return stat(
        "Ongoing outage",
        "How long it has lasted, from its likeliest start.",
        [now(seconds)],
        unit=SPAN,
        decimals=1,
        mappings=mapping({0: ("none", GREEN)}),
        steps=thresholds(GREEN, (1, RED)),
    )


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    empty: str = "Nothing measured in this time range",
    stacked: bool = False,
    bars: bool = False,
    least: float | None = 0,
    most: float | None = None,
    decimals: int | None = None,
    steps: Json | None = None,
    overrides: Sequence[Override] = (),
    legend: Sequence[str] = ("lastNotNull", "max"),
    stairs: bool = False,
    step: str = "",
    repeat: str = "",
) -> Panel:
    """Values over time. `stairs`: they are counts or words that hold until the next point."""
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 0 if bars else 1,
        "fillOpacity": 80 if bars else (50 if stacked else 0),
        "showPoints": "never" if bars else "auto",
        "pointSize": 4,
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "axisSoftMin": 0,
    }
    if stairs:
        custom |= {"lineInterpolation": "stepAfter", "showPoints": "never", "lineWidth": 2}
    if bars:
        custom["barAlignment"] = 1
    if steps is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
    defaults: Json = {"color": {"mode": "palette-classic"}, "thresholds": steps or thresholds("green")}
    if least is not None:
        defaults["min"] = least
    if most is not None:
        defaults["max"] = most
    if decimals is not None:
        defaults["decimals"] = decimals
    return Panel(
        "timeseries",
        title,
        description,
        queries,
        unit=unit,
        empty=empty,
        options={
            "legend": {
                "showLegend": True,
                "displayMode": "table" if legend else "list",
                "placement": "bottom",
                "calcs": list(legend),
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        defaults=defaults,
        custom=custom,
        overrides=overrides,
        step=step,
        repeat=repeat,
    )


def days(title: str, description: str, queries: Sequence[Query], *, unit: str, empty: str) -> Panel:
    """A bar for each day. The days are words and no axis of time, so the day is there also in a range of an hour."""
    return Panel(
        "barchart",
        title,
        description,
        queries,
        unit=unit,
        empty=empty,
        options={
            "xField": "Time",
            "orientation": "auto",
            "stacking": "normal",
            "barWidth": 0.8,
            "groupWidth": 0.7,
            "fullHighlight": False,
            "showValue": "never",
            "xTickLabelRotation": 0,
            "xTickLabelSpacing": 100,
            "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        defaults={"color": {"mode": "palette-classic"}, "thresholds": thresholds("green"), "min": 0},
        custom={"fillOpacity": 80, "lineWidth": 0, "axisSoftMin": 0},
        overrides=[Override("Time", {"unit": "time:MMM D"})],
        transformations=[{"id": "joinByField", "options": {"byField": "Time", "mode": "outer"}}],
        step="1d",
    )


@dataclass(frozen=True)
class Column:
    """A column of a table: of a label (`source` its name) or of a query (`source` its letter)."""

    source: str
    title: str
    unit: str = ""
    width: int = 0
    decimals: int | None = None
    zero: str = ""  # what 0 means, where it is no number
    null: str = ""  # what it means that there is nothing
    mappings: Sequence[Json] = ()
    steps: Json | None = None
    link: Link | None = None

    @property
    def field(self) -> str:
        return f"Value #{self.source}" if len(self.source) == 1 else self.source

    def override(self) -> Override | None:
        found: dict[str, Any] = {}
        if self.unit:
            found["unit"] = self.unit
        if self.width:
            found["custom.width"] = self.width
        if self.decimals is not None:
            found["decimals"] = self.decimals
        mapped = [*self.mappings]
        if self.zero or self.null:
            words: dict[float | str, tuple[str, str | None]] = {}
            if self.zero:
                words[0] = (self.zero, None)
            words["null"] = (self.null or "–", None)
            mapped += mapping(words)
        if mapped:
            found["mappings"] = mapped
        if self.mappings:
            found["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        if self.steps is not None:
            found |= {"thresholds": self.steps, "custom.cellOptions": {"type": "color-text"}}
        if self.link is not None:
            found["links"] = [self.link.to_json()]
        return Override(self.title, found) if found else None


def table(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    empty: str,
    sort: str,
    descending: bool = False,
    pages: bool = False,
) -> Panel:
    """A row for each set of labels; what is not a column is left out."""
    names = {column.field: column.title for column in columns}
    return Panel(
        "table",
        title,
        description,
        queries,
        unit="none",
        empty=empty,
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort, "desc": descending}],
            "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": "", "enablePagination": pages},
        },
        defaults={"mappings": _TABLE_DASH, "thresholds": PLAIN, "color": {"mode": "thresholds"}},
        custom={"align": "left", "filterable": False, "inspect": False, "cellOptions": {"type": "auto"}},
        overrides=[override for column in columns if (override := column.override()) is not None],
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": list(names)}}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {},
                    "indexByName": {column.field: place for place, column in enumerate(columns)},
                    "renameByName": names,
                },
            },
        ],
    )


def fixed(colors: Mapping[str, str]) -> list[Override]:
    """Series that always have the same colour."""
    return [Override(name, {"color": {"mode": "fixed", "fixedColor": color}}) for name, color in colors.items()]


def notes(selector: str) -> Json:
    """Marks the notes that people have made (`prober note`), each at its own time, in charts over time.

    The same note made at several vantages is one.
    """
    return {
        "name": "Notes",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": BLUE,
        "expr": f"{MILLISECONDS} * max by (entity, text, source) (prober_note_timestamp_seconds{{{selector}}})",
        "titleFormat": "{{source}}",
        "textFormat": "{{text}}",
        "useValueForTime": "on",
        "step": "60s",
    }


def outage_shading(name: str, selector: str) -> Json:
    """Marks the outages of a scope in charts over time."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": RED,
        "expr": f"({state_timeline(selector)}) == bool {OUTAGE}",  # Grafana marks where it is not 0
        "titleFormat": name,
        "textFormat": "{{name}}",
        "step": "60s",
    }
