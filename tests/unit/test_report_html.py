"""The report as one HTML file: whole, by itself, and inert whatever stands in the ledgers."""

from __future__ import annotations

import html.parser
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prober.judge.records import GapCause, Outage
from prober.ledger.notes import Note
from prober.report import html as module
from prober.report.html import as_html
from prober.report.report import Report, Vantage, report
from tests.ledgers import BEGIN, ended, gap, outage

HOUR = 3600.0
FIRST, LAST = BEGIN - 10 * HOUR, BEGIN + 14 * HOUR
HOSTILE = (
    "</td></title></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[2J\u202e\udc80" + "x" * 10_240
)
URLS = {"xlink:href", "src", "action", "formaction", "background", "poster", "data", "srcset"}


class Page(html.parser.HTMLParser):
    """A page taken apart. Tags that HTML closes by itself need no end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "th", "td", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"td", "th"}:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(name: str, *records: Outage, first: float = FIRST, last: float = LAST) -> Vantage:
    own = tuple(replace(one, vantage=name) for one in records)
    return Vantage(name, own, (gap(BEGIN - 5 * HOUR, BEGIN - 4 * HOUR, GapCause.OFFLINE),), first, last)


def note(text: str = "an attack", **changes: Any) -> Note:
    made = Note("id", BEGIN + 60, None, "north-korea", text, "Dyn", "https://example.org/a?b=1&c", 0.0)
    return replace(made, **changes)


def usual() -> Report:
    night, later = ended(outage(), 9.5 * HOUR), ended(outage("kcna", BEGIN + 10 * HOUR, "site"), 1_800)
    found = report([seen("hanover", night, later, outage("x", LAST - 600)), seen("tokyo", night)])
    return replace(
        found, remarks=(note(), note("a window", until=LAST, entity="", source="", link="")), notes=("clocks",)
    )


def test_what_is_in_it() -> None:
    text = as_html(usual())
    page = Page(text)
    assert page.open == []
    for words in (
        "Reachability, 22 December 2014 to 23 December 2014",
        "2014-12-22 16:15:00",
        "2014-12-22 16:14:30 to 16:15:30",
        "9 h 30 min (±60 s)",
        "goes on",
        "peninsula",
        "up from",
        "receive/timeout (6)",
        "an attack",
        "https://example.org/a?b=1&c",
        "Note: clocks",
        "Islands",
        "not observed",
    ):
        assert words in page.text, words
    drawn = [attributes["class"] for tag, attributes in page.tags if tag == "rect" and "class" in attributes]
    assert {"outage", "peninsula", "unseen", "edge", "lane"} <= set(drawn)
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["https://example.org/a?b=1&c"]


def test_it_needs_nothing_and_runs_nothing() -> None:
    page = Page(as_html(usual()))
    assert {tag for tag, _ in page.tags}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "use", "form"}
    )
    for _, attributes in page.tags:
        assert URLS.isdisjoint(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    styles = " ".join(re.findall(r"<style>(.*?)</style>", as_html(usual()), flags=re.DOTALL))
    assert "@media print" in styles
    assert "@import" not in styles
    assert set(re.findall(r"url\((.)", styles)) == {"#"}


def test_hostile_names_are_inert() -> None:
    evil = ended(
        outage(HOSTILE, entity=HOSTILE, failures={HOSTILE: 3}, note=HOSTILE, degraded_since=BEGIN - 900), 9.5 * HOUR
    )
    found = report([seen(HOSTILE, evil), seen("tokyo")])
    remarks = (note(HOSTILE, entity=HOSTILE, source=HOSTILE, link="javascript:alert(1)"), note(link="https://a/\u202e"))
    text = as_html(replace(found, remarks=remarks, notes=(HOSTILE,)))
    text.encode("utf-8")
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "a"})
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert len(text) < 60_000  # of each name only the beginning
    assert "javascript:alert(1)" in page.text


@pytest.mark.parametrize("vantages", [[], [seen("a", first=FIRST, last=FIRST)], [seen("a")]])
def test_next_to_nothing(vantages: list[Vantage]) -> None:
    page = Page(as_html(report(vantages)))
    assert page.open == []
    assert "None." in page.text


def test_many_outages_and_scopes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POINTS_MAX", 100)
    many = [ended(outage(f"n{number % 60}", FIRST + number * 60.0), 30 + number % 50) for number in range(1_200)]
    page = Page(as_html(report([seen("hanover", *many)])))
    assert "20 more scopes are in the tables only" in page.text
    assert "1100 shorter ones are in the table only" in page.text
    assert sum(tag == "circle" and attributes.get("r") == "3.5" for tag, attributes in page.tags) == 100


def test_every_thing_drawn_is_within_the_picture() -> None:
    for tag, attributes in Page(as_html(usual())).tags:
        if tag == "rect" and attributes.get("x"):
            assert float(attributes["x"] or 0) >= 0
            assert float(attributes["x"] or 0) + float(attributes["width"] or 0) <= module.WIDTH


def test_the_template_is_in_the_wheel() -> None:
    root = Path(module.__file__).parents[2]
    assert '"prober.report" = ["templates/*.html"]' in (root / "pyproject.toml").read_text()
