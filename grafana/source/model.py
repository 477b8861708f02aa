"""Grafana's dashboard model, as much of it as these dashboards use: queries, panels, layout, variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
DATASOURCE_UID: Final = "prober-prometheus"
"""That of provisioning/datasources/prometheus.yml."""

COLUMNS: Final = 24
SCHEMA_VERSION: Final = 39  # Grafana 11 and newer

GREEN, RED, ORANGE, YELLOW, PURPLE, BLUE, GREY, PALE = (
    "semi-dark-green",
    "semi-dark-red",
    "semi-dark-orange",
    "dark-yellow",
    "semi-dark-purple",
    "semi-dark-blue",
    "#7b8087",
    "#b4bac2",
)
"""Dark enough for a light theme, light enough for a dark one."""


@dataclass(frozen=True)
class Query:
    """One expression. `instant`: at the end of the time range only; `table`: labels become columns."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False
    step: str = ""  # at least so long between two points

    def to_json(self, ref: str) -> Json:
        found: Json = {
            "refId": ref,
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": self.expr,
            "instant": self.instant,
            "range": not self.instant,
        }
        if self.legend:
            found["legendFormat"] = self.legend
        if self.table:
            found["format"] = "table"
        if self.step:
            found["interval"] = self.step
        return found


def now(expr: str, legend: str = "") -> Query:
    """The value at the end of the time range."""
    return Query(expr, legend, instant=True)


def rows(expr: str) -> Query:
    """Rows of a table, at the end of the time range."""
    return Query(expr, instant=True, table=True)


def mapping(values: Mapping[float | str, tuple[str, str | None]]) -> list[Json]:
    """Value -> (text, colour). The key `null` is what is missing."""
    options: Json = {}
    special: list[Json] = []
    for index, (value, (text, color)) in enumerate(values.items()):
        result: Json = {"text": text, "index": index} | ({"color": color} if color else {})
        if value == "null":
            special.append({"type": "special", "options": {"match": "null+nan", "result": result}})
        else:
            options[f"{value:g}" if isinstance(value, float | int) else value] = result
    return [*([{"type": "value", "options": options}] if options else []), *special]


def thresholds(base: str, *steps: tuple[float, str]) -> Json:
    """`base` below the first step, then each step's colour from its value on."""
    return {
        "mode": "absolute",
        "steps": [{"color": base, "value": None}, *({"color": color, "value": value} for value, color in steps)],
    }


@dataclass(frozen=True)
class Link:
    """From a value to another dashboard; the time range goes along."""

    title: str
    dashboard: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> Json:
        further = "".join(f"&var-{name}={value}" for name, value in self.variables.items())
        return {
            "title": self.title,
            "url": f"/d/{self.dashboard}?${{__url_time_range}}&${{datasource:queryparam}}{further}",
        }


@dataclass(frozen=True)
class Override:
    """What differs for one field (by its name) or for those that match a pattern."""

    name: str
    properties: Mapping[str, Any]
    regex: bool = False

    def to_json(self) -> Json:
        return {
            "matcher": {"id": "byRegexp" if self.regex else "byName", "options": self.name},
            "properties": [{"id": key, "value": value} for key, value in self.properties.items()],
        }


@dataclass(frozen=True)
class Panel:
    """A panel without its place. `empty` is what it says when there is nothing to show."""

    kind: str
    title: str
    description: str
    queries: Sequence[Query]
    unit: str
    empty: str
    options: Json
    defaults: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)
    overrides: Sequence[Override] = ()
    transformations: Sequence[Json] = ()
    links: Sequence[Link] = ()
    step: str = ""
    points: int = 0  # at most so many, else as many as the panel is wide
    repeat: str = ""

    def to_json(self, number: int, place: Json) -> Json:
        defaults: Json = {"unit": self.unit, "noValue": self.empty, "custom": self.custom, **self.defaults}
        if self.links:
            defaults["links"] = [link.to_json() for link in self.links]
        found: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": place,
            "fieldConfig": {"defaults": defaults, "overrides": [override.to_json() for override in self.overrides]},
            "options": self.options,
            "targets": [query.to_json(chr(ord("A") + place)) for place, query in enumerate(self.queries)],
        }
        if self.transformations:
            found["transformations"] = list(self.transformations)
        if self.step:
            found["interval"] = self.step
        if self.points:
            found["maxDataPoints"] = self.points
        if self.repeat:
            found |= {"repeat": self.repeat, "repeatDirection": "h", "maxPerRow": 2}
        return found


@dataclass(frozen=True)
class Row:
    """A heading, and panels below it in lines: each line is its height and panels with their widths (24 in all)."""

    title: str
    lines: Sequence[tuple[int, Sequence[tuple[Panel, int]]]]


def layout(found: Sequence[Row]) -> list[Json]:
    """The rows one below the other, panels numbered from 1."""
    placed: list[Json] = []
    y = 0
    for row in found:
        if row.title:
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            placed.append(
                {
                    "id": len(placed) + 1,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "gridPos": place,
                    "panels": [],
                }
            )
            y += 1
        for height, panels in row.lines:
            if sum(width for _, width in panels) != COLUMNS:
                raise ValueError(f"row {row.title!r}: the widths of a line are not {COLUMNS} in all")
            x = 0
            for panel, width in panels:
                placed.append(panel.to_json(len(placed) + 1, {"x": x, "y": y, "w": width, "h": height}))
                x += width
            y += height
    return placed


@dataclass(frozen=True)
class Variable:
    """A choice filled from labels that existed anywhere in the time range, so that a vanished one can be chosen.

    `all_value` also matches series without the label.
    """

    name: str
    label: str
    metric: str
    source: str
    description: str
    multi: bool = True
    all_value: str = ".*"

    def to_json(self) -> Json:
        query = f"label_values({self.metric}, {self.source})"
        found: Json = {
            "name": self.name,
            "type": "query",
            "label": self.label,
            "description": self.description,
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": "variable"},
            "refresh": 2,  # whenever the time range changes
            "sort": 1,
            "multi": self.multi,
            "includeAll": self.multi,
            "options": [],
            "current": {"text": ["All"], "value": ["$__all"]} if self.multi else {},
        }
        if self.multi:
            found["allValue"] = self.all_value
        return found


def datasource_variable() -> Json:
    """Which Prometheus: the live one, or one that holds a replay."""
    return {
        "name": "datasource",
        "type": "datasource",
        "label": "Prometheus",
        "description": "The Prometheus that is asked: the live one, or one that holds a replayed incident",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {"text": "Prometheus", "value": DATASOURCE_UID},
    }


@dataclass(frozen=True)
class Dashboard:
    """A whole dashboard."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable]
    since: str
    refresh: str = "1m"
    annotations: Sequence[Json] = ()

    def to_json(self) -> Json:
        panels = layout(self.rows)
        # States have colours of their own, which shading would change.
        shaded = {"exclude": False, "ids": [panel["id"] for panel in panels if panel["type"] == "timeseries"]}
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["prober"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": True,
            "graphTooltip": 1,  # one crosshair in all panels
            "timezone": "utc",
            "time": {"from": self.since, "to": "now"},
            "refresh": self.refresh,
            "timepicker": {"quick_ranges": QUICK_RANGES},
            "templating": {"list": [datasource_variable(), *(variable.to_json() for variable in self.variables)]},
            "annotations": {"list": [annotation | {"filter": shaded} for annotation in self.annotations]},
            "links": [
                {
                    "type": "dashboards",
                    "title": "prober",
                    "tags": ["prober"],
                    "asDropdown": False,
                    "keepTime": True,
                    "includeVars": True,
                    "icon": "external link",
                    "targetBlank": False,
                    "tooltip": "",
                    "url": "",
                }
            ],
            "panels": panels,
        }


QUICK_RANGES: Final = [
    {"from": f"now-{span}", "to": "now", "display": f"Last {words}"}
    for span, words in (
        ("1h", "hour"),
        ("6h", "6 hours"),
        ("24h", "24 hours"),
        ("7d", "7 days"),
        ("30d", "30 days"),
        ("90d", "90 days"),
        ("1y", "year"),
    )
]
