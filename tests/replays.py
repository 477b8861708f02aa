"""Small worlds for tests of the replay."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import yaml

import prober
from prober.config import World, load_world
from prober.judge.records import Outage
from prober.replay.run import replay

START = datetime(2024, 1, 1, tzinfo=UTC).timestamp()

TARGETS = """
entity: land
networks: {north: {prefix: 192.0.2.0/24}, south: {prefix: 198.51.100.0/24}}
sites: {paper: {}}
targets:
  - {name: n1, network: north, checks: [{icmp: {address: 192.0.2.1}}]}
  - {name: n2, network: north, checks: [{icmp: {address: 192.0.2.2}}, {dns: {server: 192.0.2.2, query: a.example}}]}
  - {name: s1, network: south, checks: [{icmp: {address: 198.51.100.1}}]}
  - {name: mirror, site: paper, checks: [{http: {url: "http://203.0.113.5/"}}]}
"""


def world_of(text: str, hours: float = 24.0, targets: str = TARGETS) -> World:
    """The world with these further lines, in a file of its own. Raises ConfigError."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "targets.yml").write_text(targets)
        file = Path(directory, "world.yml")
        head = f"world: A test\nstart: {moment(0)}\nend: {moment(hours)}\ntargets: targets.yml\n"
        file.write_text(head + text)
        return load_world(file)


def moment(hours: float) -> str:
    """So many hours after the start, as a file has it."""
    return datetime.fromtimestamp(START + hours * 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def during(begin: float, end: float) -> str:
    """`from:` and `to:`, in hours."""
    return f"from: {moment(begin)}, to: {moment(end)}"


def told(outages: list[Outage], scope: str) -> list[tuple[str, float, float | None]]:
    """(name, start, end) in hours, to a tenth, of the outages of a scope."""
    return [
        (
            one.name,
            round((one.start - START) / 3600, 1),
            None if one.end is None else round((one.end - START) / 3600, 1),
        )
        for one in outages
        if one.scope == scope
    ]


WITNESSES = ("kcna.kp", "kcna.co.jp", "rodong.rep.kp", "router-178-161", "gateway-177-1", "gateway-179-1")
"""All of the networks and two of the sites: what a replay costs goes with the number of checks."""
INCIDENTS = Path(prober.__file__).parent / "shipped" / "incidents"


def replayed_2014(directory: Path) -> Path:
    """Leave the ledger of one vantage's view of the night of 22 December 2014 in `directory`; the targets file."""
    whole = yaml.safe_load((INCIDENTS / "north-korea-2014.yml").read_text())
    whole["targets"] = [target for target in whole["targets"] if target["name"] in WITNESSES]
    for target in whole["targets"]:
        target["checks"] = target["checks"][-1:]
    sites = {target.get("site") for target in whole["targets"]}
    whole["sites"] = {name: site for name, site in whole["sites"].items() if name in sites}
    targets = directory / "targets.yml"
    targets.write_text(yaml.safe_dump(whole, allow_unicode=True))
    begin, end = "2014-12-22T04:00:00Z", "2014-12-23T03:00:00Z"
    text = (INCIDENTS / "2014-12-north-korea.yml").read_text()
    for old, new in (
        ("start: 2014-12-19T00:00:00Z", f"start: {begin}"),
        ("end: 2014-12-24T00:00:00Z", f"end: {end}"),
        ("vantages: [{name: hanover}, {name: tokyo}]", "vantages: [{name: hanover}]"),
        ("targets: north-korea-2014.yml", f"targets: {targets}"),
        ("&inside ", ""),
        ("*inside", "{network: [star-kp-176, star-kp-177, star-kp-178, star-kp-179]}"),
    ):
        assert old in text
        text = text.replace(old, new)
    lines = []
    for line in text.splitlines():
        times = re.search(r"from: (\S+), to: ([^,}]+)", line)
        if times is None or (
            times[1] < end and times[2] > begin
        ):  # what happened before and after that night is left out
            lines.append(line)
    world = directory / "world.yml"
    world.write_text("\n".join(lines))
    replay(load_world(world), ledger=directory / "ledger.sqlite3")
    return targets
