"""Small worlds for tests of the replay."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from prober.config import World, load_world
from prober.judge.records import Outage

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
