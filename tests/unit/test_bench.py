"""The bench's arithmetic, and that docs/performance.md is of its making. What it measures is asserted nowhere."""

from __future__ import annotations

import math
import re
import struct
from xml.etree import ElementTree

import pytest

from tests.bench import calm
from tests.bench.__main__ import PAGE
from tests.bench.accuracy import errors, far
from tests.bench.figures import Cost, Results, middle, per_probe, quantile, ratios, within
from tests.bench.lab import Scraped, address
from tests.bench.page import PLOT, goals, page
from tests.bench.plot import svg
from tests.bench.wire import _reply

INF = math.inf


def results() -> Results:
    """Two rounds of two programs, and a little of all else."""
    late = {f"{name}_{what}": 0.01 for name in ("late", "late_scraping") for what in _LATE}
    return Results(
        machine={"machine": "a test"},
        skipped={"smokeping_prober": "not installed"},
        rounds=[
            {"icmp": {"prober": Cost(1000, 0.02, 1e6), "fping": Cost(1000, 0.04, 1e6)}, "dns": {}},
            {"icmp": {"prober": Cost(1000, 0.04, 1e6), "fping": Cost(1000, 0.05, 1e6)}, "dns": {}},
        ],
        accuracy={"prober": [0.00001] * 99 + [-0.0002], "fping": []},
        in_flight=4900,
        scale=late
        | {
            "targets": 10_000,
            "cpu_share": 0.25,
            "memory_bytes": 500e6,
            "probes_per_second": 1333,
            "series": 980_000,
            "scrape_cpu_seconds": 0.7,
            "scrape_bytes": 5e6,
            "stalls_over_25_ms": 0.0,
            "seconds_between_scrapes": 15.0,
        },
        outage=late
        | {
            "targets": 10_000,
            "recorded": 10_000,
            "packets_per_second_allowed": 5000,
            "seconds_until_all_recorded": 60.0,
            "seconds_from_certain_to_recorded": 2.0,
            "probes_per_second": 4000,
            "cpu_share": 0.9,
        },
        curve={100: Cost(100, 0.01), 100_000: Cost(1000, 0.12)},
        start={
            "checks": 100_000,
            "first_probe_seconds": 12.0,
            "reload_seconds": 9.0,
            "reload_late_p99": INF,
            "reload_late_p99_over": 30.0,
        },
    )


_LATE = ("p50", "p50_over", "p99", "p99_over", "share_over_20_ms")


def test_ratios_are_of_pairs() -> None:
    rounds = results().rounds
    assert ratios(rounds, "icmp", "prober", "fping") == pytest.approx([0.5, 0.8])
    assert middle(ratios(rounds, "icmp", "prober", "fping")) == pytest.approx(0.65)
    assert ratios(rounds, "icmp", "prober", "smokeping_prober") == ratios(rounds, "tcp", "prober", "fping") == []
    assert middle([]) is None
    assert per_probe(rounds, "icmp", "prober") == pytest.approx([2e-5, 4e-5])
    assert math.isnan(Cost(0, 1.0).per_probe)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.99, 4), (0.01, 1), (1.0, 4), (0.75, 3)])
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile([4, 2, 1, 3], share) == value


def test_a_quantile_of_a_histogram_lies_between_bounds() -> None:
    before = {0.001: 10.0, 0.02: 10.0, INF: 10.0}
    after = {0.001: 59.0, 0.02: 109.0, INF: 110.0}
    assert within(before, after, 0.5) == (0.001, 0.02)
    assert within(before, after, 0.49) == (0.0, 0.001)
    assert within(before, after, 0.999) == (0.02, INF)
    assert within(after, after, 0.5) == (0.0, 0.0)


def test_what_is_read_of_an_exposition() -> None:
    scraped = Scraped(
        'a_total{x="1"} 2\na_total{x="2"} 3\nab_total{} 9\n'
        'h_bucket{vantage="v",le="0.1"} 4\nh_bucket{vantage="v",le="+Inf"} 5\nb 7\n'
    )
    assert scraped.value("a_total") == 5
    assert scraped.value("b") == 7
    assert scraped.histogram("h") == {0.1: 4, INF: 5}


def test_addresses_differ_and_stay_within_their_networks() -> None:
    for make, first in ((address, "127."), (far, "198.18.")):
        found = [make(number) for number in range(5_000)]
        assert len(set(found)) == len(found)
        assert all(one.startswith((first, "198.19.")) for one in found)
    assert len({address(number) for number in range(100_000)}) == 100_000
    assert not any(address(number).startswith("127.200.") for number in range(100_000)), "the references'"


def test_an_error_is_of_the_packet_that_the_report_is_of() -> None:
    trips = {"a": [(10.0, 1.9), (12.0, 1.8)], "b": [(10.0, 1.9)]}
    reported = {"a": (12.001, 1.85), "b": (14.0, 1.9), "c": (1.0, 1.0)}
    assert errors(reported, trips) == pytest.approx([0.05])


def test_the_far_ends_reply_is_right() -> None:
    def checksum(octets: bytes) -> int:
        total: int = sum(struct.unpack(f">{len(octets) // 2}H", octets))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return total ^ 0xFFFF

    for payload in (b"\0\0\0\0", b"\xf7\xff\0\0", b"abcd"):  # the second: a checksum that carries over
        request = b"\x08\0\0\0\x12\x34\0\x01" + payload
        request = request[:2] + checksum(request).to_bytes(2, "big") + request[4:]
        packet = b"\x45" + bytes(11) + b"\x0a\0\0\x01" + b"\x0a\0\0\x02" + request
        reply = _reply(packet, 20)
        assert reply[12:16] == b"\x0a\0\0\x02"
        assert reply[16:20] == b"\x0a\0\0\x01"
        assert reply[20:22] == b"\0\0"
        assert reply[24:] == request[4:]
        assert checksum(reply[20:]) == 0


def test_goals_are_said_to_be_met_or_not() -> None:
    said = {goal.what: goal.verdict for goal in goals(results())}
    assert said["ICMP: CPU per probe by fping's"] == "met"
    assert said["ICMP: round-trip error, p99"] == "met"
    assert said["Memory (PSS)"] == "not met"
    assert said["TCP: CPU per probe by blackbox_exporter's"] == "not measured"
    assert said["Reload of them: lateness p99 meanwhile"] == "not met"
    assert said["Cost per check, most checks by the cheapest"] == "met"
    assert {goal.verdict for goal in goals(Results())} == {"not measured"}
    few = results()
    few.start["checks"], few.scale["targets"], few.outage["targets"] = 1_000, 500, 500
    del few.curve[100_000]
    assert {goal.verdict for goal in goals(few) if not goal.what.startswith("ICMP")} == {"not measured"}


def test_the_plot_is_a_picture() -> None:
    root = ElementTree.fromstring(svg({100: 80.0, 1_000: 40.0, 100_000: 45.0}, "title", "us"))
    assert len([one for one in root if one.tag.endswith("circle")]) == 3
    text = [one.text for one in root if one.tag.endswith("text")]
    assert "100,000" in text
    ElementTree.fromstring(svg({10: 1.0}, "one point", "us"))


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ .*$|^\|(?! *---)[^|]*\|", text, re.MULTILINE)


def test_the_page_is_of_the_generators_making() -> None:
    """The figures are the machine's; headings and the rows of the goals are the code's."""
    text = PAGE.read_text()
    made = page(results(), "3 minutes")
    assert re.findall(r"^## .*$", text, re.MULTILINE) == re.findall(r"^## .*$", made, re.MULTILINE)
    goals_of = [re.findall(r"## The goals\n\n(.*?)\n\n", one, re.DOTALL)[0] for one in (text, made)]
    rows = [[line.split("|")[1] for line in one.splitlines()] for one in goals_of]
    assert rows[0] == rows[1]
    if f"({PLOT})" in text:
        ElementTree.fromstring(PAGE.with_name(PLOT).read_text())
    assert len(text.splitlines()) < 150


@pytest.mark.parametrize(
    ("slower", "waits"),
    [
        ([1.0, 1.1], 0),
        ([1.9], 0),
        ([1.0, 6.0, 5.0, 1.2], 2),
        ([1.0, 6.0, 6.0, 0.2, 0.2], 2),
        ([1.0] + [9.0] * 100, calm.PATIENCE_SECONDS / calm.PAUSE_SECONDS),
    ],
    ids=["calm", "always slow", "rationed for a while", "quicker than ever", "rationed for good"],
)
def test_it_waits_for_a_machine_as_quick_as_before_and_not_for_ever(slower: list[float], waits: float) -> None:
    speeds = iter([one for one in slower for _ in range(calm.SAMPLES)])
    slept: list[float] = []
    waiting = calm.Calm(lambda _text: None, lambda: next(speeds), slept.append)
    for _ in range(2 if len(slower) > 1 else 1):
        waiting.wait()
    assert len(slept) == waits
    assert waiting.waited_seconds == sum(slept)
