"""The status page in a real browser: of an agent whose country goes and comes back, and of the replay of 2014."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest

from prober.judge.records import Outage, OutageClosed, Scope, Verdict
from prober.page.site import Site as Pages
from prober.page.source import Facts, Known
from prober.web import PageOnly, WebFace
from tests.e2e.agent import CODE, PORT, open_directory
from tests.e2e.browser import Browser
from tests.e2e.country import NETWORKS, TARGETS, Vantage, World
from tests.lab import Process, free_port, require_program
from tests.ledgers import BEGIN, ended, outage
from tests.replays import replayed_2014
from tests.sites import StandIn, country, facts, ledger_of

pytestmark = pytest.mark.timeout(300)

QUICK: Final = "{interval: 1s, timeout: 300ms}"
JUDGEMENT: Final = "{confirm_interval: 100ms, blip: 3s, false_outages_per_year: 1000}"
"""About six failures in a row."""
TITLED: Final = TARGETS.replace("entity: country\n", "entity: country\ntitle: The Country\n")
SOON: Final = 60.0
"""More than anything takes on a busy machine."""

SENTENCE: Final = "document.querySelector('.verdict .head')?.textContent.trim()"
PHONE: Final = (390, 844)
DESK: Final = (1440, 900)
LOOKED_INTO: Final = ((DESK, False, "/outages"), (DESK, True, "/entities/north-korea"), (PHONE, True, "/"))


@cache
def axe() -> str:
    """axe-core, which knows what people with a screen reader, a keyboard or weak eyes run into."""
    return files("axe_core_python").joinpath("axe.min.js").read_text()


def findings(browser: Browser) -> list[dict[str, Any]]:
    """What axe-core finds serious or critical on the page as it is."""
    browser.run(f"{axe()}; undefined")
    found = json.loads(str(browser.run("axe.run(document).then((found) => JSON.stringify(found.violations))")))
    assert browser.run("axe.run(document).then((found) => found.passes.length)") > 10  # it did look
    return [
        {"rule": one["id"], "help": one["help"], "where": [node["html"][:200] for node in one["nodes"][:3]]}
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def assert_at_home(browser: Browser, origin: str) -> None:
    """No error on the console, and nobody else was asked for anything."""
    assert browser.console == []
    assert {url for url in browser.requests if not url.startswith(f"{origin}/")} <= {"about:blank"}
    assert any(url.startswith(f"{origin}/static/") for url in browser.requests)


def assert_fits(browser: Browser) -> None:
    """Nothing has to be scrolled sideways but the tables that say so."""
    # Not innerWidth: on a phone it grows with what does not fit.
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert browser.run(fits), browser.run(
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 "
        "&& !e.closest('.wide')).map(e => e.outerHTML.slice(0, 200)).slice(0, 5).join('\\n')"
    )


def lasting(found: list[Outage]) -> bool:
    """Whether the country is certain to have been dark for longer than a blip."""
    return any(one.scope == "entity" and one.duration_min_seconds > 3.5 for one in found)


@pytest.fixture
def vantage() -> Iterator[Vantage]:
    require_program("chromium")
    with ExitStack() as stack:
        world = World(stack, stack.enter_context(open_directory()))
        yield Vantage(stack, world, "page", timing=QUICK, judgement=JUDGEMENT, targets=TITLED)


def test_an_outage_begins_and_ends_while_the_page_is_open(vantage: Vantage) -> None:
    vantage.start()
    origin = f"http://127.0.0.1:{PORT}"
    with Browser(vantage.host) as browser:
        browser.look(*DESK)
        browser.open(f"{origin}/")
        browser.when(f"{SENTENCE} === 'The Country: reachable.'", SOON)
        browser.when("document.querySelector('#live').textContent === 'live'", SOON)
        vantage.warm_up(14.0)
        assert "2 of 2 networks up. No outage on record." in browser.text(".verdict .rest")
        assert browser.run("document.querySelectorAll('.clock').length") == 0
        assert findings(browser) == []
        browser.run("window.sameDocument = true; undefined")

        vantage.cut_network(*NETWORKS)
        browser.when(f"{SENTENCE} === 'The Country: not reachable'", SOON)
        assert browser.run("document.querySelector('#announce').textContent") == "The Country: not reachable"
        rest = browser.text(".verdict .rest")
        assert re.match(r"since \d+ \w+ \d{4}, \d\d:\d\d UTC \(\d+(\.\d)? s so far\)\. 0 of 2 networks up\.", rest), (
            rest
        )
        assert browser.run("document.title").startswith("The Country: not reachable")
        assert browser.run("document.querySelector('#icon').href").endswith("/static/icon-down.svg")
        first = browser.text(".now .clock")
        assert re.fullmatch(r"0:0\d:\d\d", first)
        browser.when(f"document.querySelector('.now .clock').textContent > {json.dumps(first)}", SOON, "the clock runs")
        browser.when("document.querySelectorAll('.whole .strip rect.outage').length", SOON, "the timeline shows it")
        assert findings(browser) == []
        browser.look(*PHONE, dark=True)
        assert_fits(browser)
        assert findings(browser) == []

        vantage.outages_when(lasting, SOON, "it has lasted longer than a blip")
        vantage.mend_network()
        browser.when(f"{SENTENCE} === 'The Country: reachable.'", SOON)
        assert re.search(r"Last outage \d+.* \(±.+\), \d+ \w+ \d{4}\.", browser.text(".verdict .rest"))
        browser.when("document.querySelectorAll('.now').length === 0", SOON, "its last part is back, too")
        assert browser.run("document.querySelectorAll('.whole .strip rect.outage').length") == 1
        assert "The Country" in browser.text("#record tbody")
        assert browser.run("window.sameDocument"), "the page was loaded anew"
        browser.look(*DESK)
        browser.open(str(browser.run("document.querySelector('#record tbody a').href")))
        assert browser.text("h1").startswith("The Country: dark for")
        assert "north-1/icmp" in browser.text(".members")
        assert findings(browser) == []
        assert_at_home(browser, origin)

        vantage.agent.process.stop()
        browser.when("document.querySelector('#live').textContent === 'connection lost; as of'", SOON)
        vantage.start()
        browser.when("document.querySelector('#live').textContent === 'live'", SOON)


@pytest.fixture(scope="module")
def shown() -> Iterator[str]:
    """The page of the ledger that a replay of the night of December 2014 has left; its address."""
    require_program("chromium")
    with open_directory() as directory:
        targets = replayed_2014(directory)
        port = free_port()
        command = (
            "-m",
            "prober",
            "page",
            "--data-dir",
            directory,
            "--targets",
            targets,
            "--listen",
            f"127.0.0.1:{port}",
        )
        with Process(sys.executable, *map(str, command), port=port, cwd=CODE):
            yield f"http://127.0.0.1:{port}"


def test_the_night_of_december_2014(shown: str) -> None:
    with Browser() as browser:
        for size, dark in ((DESK, False), (DESK, True), (PHONE, False), (PHONE, True)):
            browser.look(*size, dark=dark)
            for path in ("/", "/?range=90d", "/entities/north-korea", "/outages"):
                browser.open(shown + path)
                assert_fits(browser)
                if (size, dark, path) in LOOKED_INTO:
                    assert findings(browser) == [], (path, size, dark)
        browser.open(f"{shown}/?range=7d")
        assert browser.run(SENTENCE) == "North Korea: reachable."
        rest = browser.text(".verdict .rest")
        assert re.search(r"^4 of 4 networks up\. Last outage 9 h 31 min \(±\d+ (s|min)\), 22 December 2014\.$", rest), (
            rest
        )
        assert re.search(r"1 outage, 9 h 31 min in all; degraded", browser.text(".whole"))
        mirrors = browser.run("[...document.querySelectorAll('.rows tr.inner')].map(e => e.innerText).join(' ')")
        assert "hosted in KP" in mirrors
        assert "hosted in JP" in mirrors
        browser.open(str(browser.run("document.querySelector('#record tbody a').href")))
        assert re.search(r"North Korea: dark for 9 h 31 min \(±.+\)\.", browser.text("h1"))
        assert "connect/timeout" in browser.text(".plain")
        assert findings(browser) == []
        browser.look(*PHONE)
        assert_fits(browser)
        assert_at_home(browser, shown)
        browser.open(f"{shown}/outages")
        assert "onset" in browser.run("getComputedStyle(document.querySelector('.onset'), '::before').content")
        assert browser.run("document.querySelector('.onset').getClientRects().length")


async def test_what_is_said_beside_a_clock_keeps_up_with_it(tmp_path: Path) -> None:
    """Nothing happens, no version changes; the clock runs on, and what is certain so far grows with it."""
    require_program("chromium")
    begin = time.time()

    @dataclass
    class Running(StandIn):
        def facts(self) -> Facts:
            now = time.time()
            dark = outage("north-korea", begin, scope="entity", started_by=begin, ended_after=now)
            states = {("entity", "north-korea"): Known(Verdict.DARK, False)}
            return facts(country(), now=now, ongoing=(dark,), states=states)

    def look(origin: str) -> None:
        with Browser() as browser:
            browser.look(*DESK)
            browser.open(f"{origin}/")
            said = "document.querySelector('.verdict .rest').textContent"
            first = browser.run(said)
            browser.when(f"{said} !== {json.dumps(first)}", 20.0, "sooner than the stream's 25 s")
            assert browser.run("document.querySelector('#announce').textContent") == ""
            assert_at_home(browser, origin)

    source = Running(await ledger_of(tmp_path, ()), facts(country()))
    async with WebFace(PageOnly(Pages(source))) as face:
        await face.start("127.0.0.1", 0)
        await asyncio.to_thread(look, face.urls[0])


def test_without_a_script_and_by_keyboard_alone(shown: str) -> None:
    with Browser() as browser:
        browser.script(False)
        browser.look(*DESK)
        browser.open(f"{shown}/")
        assert "North Korea: reachable." in browser.text(".verdict .head")
        browser.script(True)
        browser.open(f"{shown}/")
        reached = []
        for _ in range(8):
            browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
            browser.call("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
            reached.append(browser.run("document.activeElement.textContent.trim()"))
        # No mark of a timeline is a stop: there may be hundreds.
        assert reached == [
            "Skip to content",
            "prober",
            "Outages",
            "North Korea",
            "24 hours",
            "7 days",
            "30 days",
            "90 days",
        ]


SCOPES: Final[tuple[Scope, ...]] = ("entity", "network")
NASTY: Final = (
    "<script>pwned = 1</script>",
    '"><img src=x onerror="pwned = 1">',
    "<svg onload=pwned=1>",
    "javascript:pwned=1",
    "\u202eabc\x1b[31m\x00",
    "y" * 10_000,
)


async def test_names_from_outside_do_nothing(tmp_path: Path) -> None:
    """In a ledger that was tampered with; a targets file allows no such name."""
    records = []
    for number, text in enumerate(NASTY):
        begin = BEGIN + 3_600 * number
        records += [
            ended(outage(text, begin, scope=scope, entity=text, note=text, vantage="v"), 900) for scope in SCOPES
        ]
    await ledger_of(tmp_path, map(OutageClosed, records))
    port = free_port()
    command = ("-m", "prober", "page", "--data-dir", tmp_path, "--listen", f"127.0.0.1:{port}", "--at", "2014-12-23")
    origin = f"http://127.0.0.1:{port}"
    with Process(sys.executable, *map(str, command), port=port, cwd=CODE), Browser() as browser:
        browser.look(*PHONE)
        for path in ("/?range=7d", "/outages"):
            browser.open(origin + path)
            assert_fits(browser)
            assert "<script>pwned = 1</script>" in browser.run("document.body.innerText")
        links = browser.run(
            "[...document.querySelectorAll('.outages a')].map(e => e.href).filter(h => h.length < 2000)"
        )
        assert len(links) == 10
        for link in links[:5]:
            browser.open(link)
        assert browser.run("typeof pwned") == "undefined"
        assert_at_home(browser, origin)
