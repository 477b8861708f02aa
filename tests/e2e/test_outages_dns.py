"""Names behind a real recursive resolver: whose trouble is it when they no longer resolve?"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from prober.schedule import phase_seconds
from tests.e2e.agent import open_directory
from tests.e2e.country import NORTH, REFERENCES, Moment, Vantage, World, assert_holds, scopes, told
from tests.e2e.plays import Plays, when_ready
from tests.lab import require_program
from tests.servers import Server, unbound

pytestmark = pytest.mark.timeout(300)

RESOLVER: Final = "127.0.0.1"
INTERVAL_SECONDS: Final = 2.0
"""Of a `Vantage`, unless it is told otherwise."""
TARGETS: Final = """\
entity: names
defaults: {defaults}
targets:
  - name: by-name
    checks:
      - dns: {{query: news.xx, expect: {{min_answers: 1}}}}
      - http: {{url: "http://news.xx/"}}
  - name: by-address
    checks: [{{icmp: {{address: 198.18.1.1}}}}]
"""
REFERENCES_FILE: Final = """\
defaults: {defaults}
references:
  - {{name: r1, network: r1, checks: [{{icmp: {{address: 198.19.1.1}}}}]}}
  - {{name: r2, network: r2, checks: [{{icmp: {{address: 198.19.2.1}}}}]}}
  - name: r3
    network: r3
    checks: [{{dns: {{server: 198.19.3.1, query: world.test, recursion: false, expect: {{min_answers: 1}}}}}}]
  - name: r4
    network: r4
    checks: [{{dns: {{query: reference.test, expect: {{min_answers: 1}}}}}}]
  - name: r5
    network: r5
    checks: [{{http: {{url: "http://reference.test/"}}}}]
"""
BY_NAME: Final = [("check", "by-name/dns"), ("check", "by-name/http"), ("target", "by-name")]


@dataclass
class Resolving:
    """A vantage with a recursive resolver of its own."""

    vantage: Vantage
    world: World
    resolver: Server
    stack: ExitStack
    directory: Path

    def resolve_again(self) -> None:
        """Start the resolver anew."""
        self.resolver = self.stack.enter_context(_resolver(self.directory / "again", self.vantage))


def _resolver(directory: Path, vantage: Vantage) -> Server:
    zones = {"xx": f"{NORTH[2]}@53", "test": f"{REFERENCES[2]}@53"}
    return unbound(directory, zones, address=RESOLVER, port=53, namespace=vantage.host)


def authority_cut_off(at: Resolving) -> None:
    """The resolver answers SERVFAIL, and answers for other names: the trouble is the zone's."""
    vantage = at.vantage
    vantage.warm_up(24.0)
    # Just before the dns check's round, so that it is the first to fail: its failures are known at once, and each must
    # have the references' names beside it all the same.
    phase = phase_seconds("by-name/dns", INTERVAL_SECONDS, 0.0)
    time.sleep((phase - 0.3 - time.time()) % INTERVAL_SECONDS)
    cut = vantage.cut("authority", f"ip daddr {NORTH[2]}")
    vantage.outages_when(lambda found: scopes(found) == BY_NAME, 30.0, "outages of what is asked for by name")
    vantage.watch(8.0)
    assert vantage.verdict("target", "by-name") == (0.0, 1.0)
    mended = vantage.mend("authority")
    vantage.settled()
    vantage.watch(4.0)
    outages = vantage.outages()
    assert scopes(outages) == BY_NAME, told(outages)
    # unbound goes on saying SERVFAIL for five seconds at most (RFC 2308, section 7.1): that is when names are back
    back = Moment(mended.begin, mended.end + 5.0)
    for outage in outages:
        assert_holds(outage, cut, back)
    assert {label.split("/")[0] for one in outages if one.name == "by-name/http" for label in one.failures} == {
        "resolve"
    }
    assert vantage.gaps() == []


def resolver_killed(at: Resolving) -> None:
    """Nothing resolves, the references' names included: nothing is known of what is asked for by name."""
    vantage = at.vantage
    vantage.warm_up(24.0)
    at.resolver.process.popen.kill()
    _unknown(vantage)
    at.resolve_again()
    _known_again(vantage)


def resolver_silent(at: Resolving) -> None:
    """The same of a resolver that takes questions and never answers."""
    vantage = at.vantage
    vantage.warm_up(24.0)
    at.resolver.process.popen.send_signal(signal.SIGSTOP)
    try:
        _unknown(vantage)
    finally:
        at.resolver.process.popen.send_signal(signal.SIGCONT)
    _known_again(vantage)


def _unknown(vantage: Vantage) -> None:
    vantage.watch(20.0)
    assert vantage.outages() == [], told(vantage.outages())
    assert vantage.verdict("check", "by-name/dns") == (1.0, 0.0)
    assert vantage.verdict("check", "by-name/http") == (1.0, 0.0)
    assert vantage.verdict("target", "by-name") == (1.0, 0.0)
    assert vantage.verdict("target", "by-address") == (1.0, 1.0)


def _known_again(vantage: Vantage) -> None:
    vantage.watch(6.0)
    assert vantage.verdict("target", "by-name") == (1.0, 1.0)
    assert vantage.verdict("check", "by-name/http") == (1.0, 1.0)
    assert vantage.outages() == [], told(vantage.outages())


SCENARIOS: Final[dict[str, Callable[[Resolving], None]]] = {
    scenario.__name__: scenario for scenario in (authority_cut_off, resolver_killed, resolver_silent)
}


@pytest.fixture(scope="module")
def played() -> Iterator[Plays]:
    """All scenarios, under way."""
    require_program("nft")
    require_program("unbound")
    with ExitStack() as stack:
        directory = stack.enter_context(open_directory())
        world = World(stack, directory)

        def stage(stack: ExitStack, name: str, label: str) -> Callable[[], None]:
            vantage = Vantage(stack, world, label, targets=TARGETS, references=REFERENCES_FILE)
            vantage.host.resolver(RESOLVER)
            files = directory / f"unbound-{label}"
            resolving = Resolving(vantage, world, stack.enter_context(_resolver(files, vantage)), stack, files)
            vantage.start(wait=False)
            return when_ready([vantage], partial(SCENARIOS[name], resolving))

        yield Plays(stack, SCENARIOS, stage)


@pytest.mark.parametrize("name", SCENARIOS)
def test_names(played: Plays, name: str) -> None:
    played.result(name)
