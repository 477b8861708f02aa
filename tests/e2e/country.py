"""A country of several networks, a mirror abroad and references, all of them real hosts; and any number of vantages.

    vantage (agent) -- router -- world (198.18.0.0/15: every server)

Each vantage has a router of its own, on which the test cuts what it likes; the world and its servers are shared.
Addresses are those for benchmarks (RFC 2544) and for documentation (RFC 5737).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from prober.judge.records import Gap, Outage
from prober.ledger import read_gaps, read_outages
from tests.e2e.agent import Agent, Metrics
from tests.lab import Namespace, link, require_program
from tests.servers import Server, nginx, nsd

ENTITY: Final = "country"
NETWORKS: Final = {"north": "198.18.1.0/24", "south": "198.18.2.0/24"}
MIRROR: Final = "203.0.113.80"
REFERENCES: Final = ("198.19.1.1", "198.19.2.1", "198.19.3.1")
NORTH: Final = ("198.18.1.1", "198.18.1.2", "198.18.1.53")
SOUTH: Final = ("198.18.2.1", "198.18.2.2")
SILENT: Final = "198.18.9.0/24"
"""Routed, and nobody is there."""

SCOPES_OF_NORTH: Final = {
    ("check", "north-1/icmp"),
    ("check", "north-1/http"),
    ("check", "north-2/icmp"),
    ("check", "north-ns/dns"),
    ("target", "north-1"),
    ("target", "north-2"),
    ("target", "north-ns"),
    ("network", "north"),
}
SCOPES_OF_SOUTH: Final = {
    ("check", "south-1/icmp"),
    ("check", "south-1/http"),
    ("check", "south-2/icmp"),
    ("target", "south-1"),
    ("target", "south-2"),
    ("network", "south"),
}

TARGETS: Final = """\
entity: country
country: XX
defaults: {defaults}
networks:
  north: {{prefix: 198.18.1.0/24}}
  south: {{prefix: 198.18.2.0/24}}
sites:
  news: {{title: News}}
targets:
  - name: north-1
    network: north
    site: news
    checks:
      - icmp: {{address: 198.18.1.1}}
      - http: {{url: "http://198.18.1.1/", expect: {{status: [200], body: news}}}}
  - name: north-2
    network: north
    checks: [{{icmp: {{address: 198.18.1.2}}}}]
  - name: north-ns
    network: north
    checks: [{{dns: {{server: 198.18.1.53, query: news.xx, recursion: false, expect: {{min_answers: 1}}}}}}]
  - name: south-1
    network: south
    checks:
      - icmp: {{address: 198.18.2.1}}
      - http: {{url: "http://198.18.2.1/"}}
  - name: south-2
    network: south
    checks: [{{icmp: {{address: 198.18.2.2}}}}]
  - name: mirror
    site: news
    hosted_in: YY
    checks:
      - icmp: {{address: 203.0.113.80}}
      - http: {{url: "http://203.0.113.80/"}}
"""

REFERENCES_FILE: Final = """\
defaults: {defaults}
references:
  - {{name: r1, network: r1, checks: [{{icmp: {{address: 198.19.1.1}}}}]}}
  - {{name: r2, network: r2, checks: [{{icmp: {{address: 198.19.2.1}}}}]}}
  - name: r3
    network: r3
    checks: [{{dns: {{server: 198.19.3.1, query: world.test, recursion: false, expect: {{min_answers: 1}}}}}}]
"""

POLL_SECONDS: Final = 0.4
"""Many scenarios run at once: one that looked more often would take the CPU from the agents that it looks at."""

COUNTERS: Final = {
    "prober_outages_total",
    "prober_outage_seconds_total",
    "prober_state_seconds_total",
}
"""They survive a restart. The agent's own (prober_probes_total and the like) begin anew with each process."""

SOA: Final = "@ IN SOA ns1 hostmaster 7 3600 600 86400 60\n@ IN NS ns1\nns1 IN A 198.18.1.53\n"


@dataclass(frozen=True)
class Moment:
    """When something was done to the network: not before `begin`, in effect by `end` (Unix time)."""

    begin: float
    end: float


class World:
    """Every host but the vantages, and the servers on them."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.directory = directory
        self.host = stack.enter_context(Namespace("world"))
        self._vantages = 0
        for address in (*NORTH, *SOUTH, MIRROR, *REFERENCES):
            self.host.address("lo", f"{address}/32")
        self.host.route("blackhole", SILENT)
        # Servers do not limit what they answer to one pinger, and a test asks often.
        self.host.sysctl("net.ipv4.icmp_ratelimit", 0)
        stack.enter_context(
            nginx(directory / "nginx", 'return 200 "news\\n";', address="0.0.0.0", port=80, namespace=self.host)
        )
        self.name_server: Server = stack.enter_context(
            self.serve_names("xx", f"{SOA}@ IN A 198.18.1.1\nnews IN A 198.18.1.1\n", NORTH[2])
        )
        stack.enter_context(
            self.serve_names("test", f"{SOA}world IN A 198.19.3.1\nreference IN A 198.19.3.1\n", REFERENCES[2])
        )

    def serve_names(self, zone: str, text: str, address: str) -> Server:
        """An authoritative name server of one zone."""
        return nsd(self.directory / f"nsd-{zone}", {zone: text}, address=address, port=53, namespace=self.host)

    def join(self, router: Namespace) -> int:
        """A cable to the router of another vantage; its number."""
        number, self._vantages = self._vantages, self._vantages + 1
        link(router, self.host, f"100.64.{number}.1/30", f"100.64.{number}.2/30")
        self.host.route(f"192.0.2.{4 * number}/30", "via", f"100.64.{number}.1")
        router.route("default", "via", f"100.64.{number}.2")
        return number


class Vantage:
    """A host with its router, the agent's files, and the agent once it is started.

    `settings` are further lines of the settings file, `timing` the defaults of targets and references.
    """

    def __init__(
        self,
        stack: ExitStack,
        world: World,
        label: str,
        *,
        timing: str = "{interval: 2s, timeout: 500ms}",
        judgement: str = "{confirm_interval: 200ms, blip: 5s}",
        targets: str = TARGETS,
        references: str = REFERENCES_FILE,
        settings: str = "",
    ) -> None:
        self._stack = stack
        self.label = label
        self.host = stack.enter_context(Namespace(label))
        self.router = stack.enter_context(Namespace(f"{label}-r"))
        self.router.forward()
        number = world.join(self.router)
        ends = link(self.host, self.router, f"192.0.2.{4 * number + 1}/30", f"192.0.2.{4 * number + 2}/30")
        self.host.route("default", "via", f"192.0.2.{4 * number + 2}")
        self.host.allow_unprivileged_icmp()
        self._inner_end = ends[1]
        self._nft = require_program("nft")
        self.directory = world.directory / label
        self.directory.mkdir()
        self.data_dir = self.directory / "data"
        self.targets = self.directory / "targets.yml"
        self.targets.write_text(targets.format(defaults=timing))
        references_file = self.directory / "references.yml"
        references_file.write_text(references.format(defaults=timing))
        self.settings = self.directory / "settings.yml"
        self.settings.write_text(
            f"vantage: {label}\ntargets: [{self.targets}]\nreferences: {references_file}\ndata_dir: {self.data_dir}\n"
            f"judgement: {judgement}\nlimits: {{per_prefix_per_second: 1000, packets_per_second: 5000}}\n{settings}"
        )
        self._agent: Agent | None = None
        self.counters = Counters()

    # -- the agent -----------------------------------------------------------------------------------------------------

    @property
    def agent(self) -> Agent:
        """The agent that runs, or ran last."""
        assert self._agent is not None
        return self._agent

    def start(self, *, wait: bool = True, env: Mapping[str, str] | None = None) -> Agent:
        """Start the agent. It is root, so that it owns what it writes beside the test."""
        self._agent = self._stack.enter_context(
            Agent(self.host, "--config", self.settings, root=True, wait=wait, env=env)
        )
        return self._agent

    def warm_up(self, seconds: float = 26.0) -> None:
        """Let the agent see everything up until it has learned how well its targets answer."""
        self.watch(self.agent.started + seconds - time.monotonic())
        self.metrics_when(lambda m: not m.failing, 30.0, f"{self.label}: everything answers")

    def metrics(self) -> Metrics:
        """What the agent says now. No counter may have gone back."""
        metrics = self.agent.metrics()
        self.counters.see(metrics.text)
        return metrics

    def metrics_when(self, holds: Callable[[Metrics], bool], within: float, what: str) -> Metrics:
        """The first exposition of which `holds`. Fails the test after `within` seconds."""
        deadline = time.monotonic() + within
        while not holds(metrics := self.metrics()):
            if time.monotonic() >= deadline:
                pytest.fail(f"{self.label}: not within {within:g} s: {what}\n{self.agent.process.output()}")
            time.sleep(POLL_SECONDS)
        return metrics

    def verdict(self, scope: str, name: str) -> tuple[float | None, float]:
        """`prober_up` (None: never known) and `prober_observed` of a scope."""
        metrics = self.metrics()
        up = [sample.value for sample in metrics.all("prober_up", scope=scope, name=name)]
        return up[0] if up else None, metrics.value("prober_observed", scope=scope, name=name)

    def watch(self, seconds: float) -> None:
        """Let time pass, and look at the counters every second."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            self.counters.see(self.agent.ask().text)

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def outages(self) -> list[Outage]:
        """What stands in the ledger, in order of their starts."""
        return sorted(read_outages(self.data_dir), key=lambda one: (one.start, one.id))

    def gaps(self) -> list[Gap]:
        """Likewise."""
        return sorted(read_gaps(self.data_dir), key=lambda one: one.begin)

    def outages_when(self, holds: Callable[[list[Outage]], bool], within: float, what: str) -> list[Outage]:
        """The first state of the ledger of which `holds`. Fails the test after `within` seconds."""
        deadline = time.monotonic() + within
        while not holds(outages := self.outages()):
            if time.monotonic() >= deadline:
                pytest.fail(
                    f"{self.label}: not within {within:g} s: {what}\n{told(outages)}\n{self.agent.process.output()}"
                )
            time.sleep(POLL_SECONDS)
        return outages

    def settled(self, within: float = 30.0) -> list[Outage]:
        """The outages, once none is open any more."""
        return self.outages_when(lambda found: not any(one.ongoing for one in found), within, "no outage is open")

    # -- the network ---------------------------------------------------------------------------------------------------

    def cut(self, name: str, *matches: str) -> Moment:
        """Drop on the router whatever matches one of these (everything if none is given), until `mend(name)`."""
        rules = "".join(f"add rule inet {name} f {match} drop\n" for match in matches or ("",))
        return self._nft_do(
            f"add table inet {name}\n"
            f"add chain inet {name} f {{ type filter hook forward priority 0; policy accept; }}\n{rules}"
        )

    def mend(self, name: str) -> Moment:
        """Undo a cut."""
        return self._nft_do(f"delete table inet {name}\n")

    def cut_network(self, *names: str) -> Moment:
        """Drop everything to these networks' hosts."""
        return self.cut("net", *(f"ip daddr {NETWORKS[name]}" for name in names))

    def mend_network(self) -> Moment:
        """Undo `cut_network`."""
        return self.mend("net")

    def cut_uplink(self) -> Moment:
        """Drop everything: the vantage's provider is gone, without a word."""
        return self.cut("uplink")

    def mend_uplink(self) -> Moment:
        """Undo `cut_uplink`."""
        return self.mend("uplink")

    def lose(self, percent: int, destination: str = "0.0.0.0/0") -> Moment:
        """Lose this share of what is sent there, each packet by its own chance, until `mend("loss")`."""
        return self._nft_do(
            "add table inet loss\ndelete table inet loss\nadd table inet loss\n"
            "add chain inet loss f { type filter hook forward priority 0; policy accept; }\n"
            f"add rule inet loss f ip saddr 192.0.2.0/24 ip daddr {destination} "
            f"numgen random mod 100 < {percent} drop\n"
        )

    def unplug(self) -> Moment:
        """Pull the cable out of the router."""
        return self._do(lambda: self._link("down"))

    def plug(self) -> Moment:
        """Put it in again."""
        return self._do(lambda: self._link("up"))

    def _link(self, state: str) -> None:
        self.router.run("ip", "link", "set", self._inner_end, state)

    def _nft_do(self, text: str) -> Moment:
        return self._do(lambda: self.router.run(self._nft, "-f", "-", stdin=text))

    def _do(self, what: Callable[[], object]) -> Moment:
        begin = time.time()
        what()
        return Moment(begin, time.time())


# -- what must hold ----------------------------------------------------------------------------------------------------


def told(outages: Iterable[Outage]) -> str:
    """Outages for a person who looks for the cause of a failure."""
    return "\n".join(json.dumps(one.to_json()) for one in outages)


def scopes(outages: Iterable[Outage]) -> list[tuple[str, str]]:
    """Scope and name of each, sorted; several of one scope stand several times."""
    return sorted((one.scope, one.name) for one in outages)


def only(outages: Iterable[Outage], scope: str, name: str) -> Outage:
    """The one outage of a scope."""
    found = [one for one in outages if (one.scope, one.name) == (scope, name)]
    assert len(found) == 1, f"{len(found)} outages of {scope} {name}:\n{told(found)}"
    return found[0]


def assert_holds(outage: Outage, cut: Moment, mended: Moment) -> None:
    """The truth lies inside the bounds, and the duration is right within them."""
    assert outage.started_after is not None, told([outage])
    assert outage.ended_by is not None, told([outage])
    assert outage.started_after <= cut.end, f"began before {outage.started_after - cut.end:+.3f} s\n{told([outage])}"
    assert outage.started_by >= cut.begin, f"began after {outage.started_by - cut.begin:+.3f} s\n{told([outage])}"
    assert outage.ended_after <= mended.end, f"ended before {outage.ended_after - mended.end:+.3f} s\n{told([outage])}"
    assert outage.ended_by >= mended.begin, f"ended after {outage.ended_by - mended.begin:+.3f} s\n{told([outage])}"
    assert outage.started_after <= outage.started_by, told([outage])
    assert outage.ended_after <= outage.ended_by, told([outage])
    assert outage.duration_max_seconds is not None
    assert outage.duration_min_seconds <= mended.end - cut.begin, told([outage])
    assert outage.duration_max_seconds >= mended.begin - cut.end, told([outage])
    assert outage.duration_seconds is not None
    assert outage.duration_min_seconds <= outage.duration_seconds <= outage.duration_max_seconds, told([outage])


class Counters:
    """The counters of scopes, seen again and again: none may ever go back, whatever happens to the agent."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def see(self, text: str) -> None:
        """Take in an exposition."""
        for line in text.splitlines():
            name = line.partition("{")[0]
            if name in COUNTERS:
                series, _, value = line.rpartition(" ")
                before = self._seen.get(series, 0.0)
                assert float(value) >= before, f"went back: {series} from {before} to {value}"
                self._seen[series] = float(value)

    def __len__(self) -> int:
        return len(self._seen)
