"""A stand-in for the agent behind the status page: facts as a test says them, and a ledger that is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from prober.judge.records import Event, Outage, Verdict
from prober.ledger.files import reading
from prober.ledger.read import Opener
from prober.model import Check, Entity, Network, Site, Target
from prober.page.rings import Course, Rings
from prober.page.source import Facts, Known, Note
from tests.ledgers import BEGIN, opened

NOW = BEGIN + 2 * 86_400.0


@dataclass
class StandIn:
    """A `Source`. Tests change its attributes."""

    file: Path
    facts_now: Facts
    version: int = 1
    rings: Rings = field(default_factory=Rings)
    noted: tuple[Note, ...] = ()
    asked: int = 0

    def facts(self) -> Facts:
        self.asked += 1
        return self.facts_now

    def place(self) -> tuple[Path, Opener]:
        return self.file, partial(reading, self.file)

    def at_most(self) -> tuple[str | None, float | None]:
        return None, None

    def course(self, keys: Sequence[str], now: float) -> Course | None:
        return self.rings.course(keys, now)

    def notes(self, since: float, until: float) -> Sequence[Note]:
        return [note for note in self.noted if since <= note.at <= until]


@dataclass(frozen=True)
class Remark:
    """A `Note`."""

    at: float
    text: str
    entity: str = ""
    source: str = ""
    link: str = ""
    added_at: float = 0.0


def check(target: str, name: str = "icmp") -> Check:
    """A check that nobody runs."""
    return Check(target, name, name, 60.0, 5.0, None)


def country(networks: int = 4, targets: int = 6, name: str = "north-korea", title: str = "North Korea") -> Entity:
    """An entity of so many networks and targets, a site with a mirror abroad among them."""
    return Entity(
        name,
        title=title,
        country="KP",
        networks=tuple(Network(f"net-{n}", name, f"10.{n // 256}.{n % 256}.0/24") for n in range(networks)),
        sites=(Site("news", name, title="The News"),),
        targets=(
            *(
                Target(f"host-{n}", name, (check(f"host-{n}"),), network=f"net-{n % networks}", hosted_in="KP")
                for n in range(targets - 2)
            ),
            Target("mirror-home", name, (check("mirror-home", "http"),), site="news", hosted_in="KP"),
            Target("mirror-abroad", name, (check("mirror-abroad", "http"),), site="news", hosted_in="JP"),
        ),
    )


def facts(*entities: Entity, now: float = NOW, **changes: object) -> Facts:
    """Everything is up, and has been watched for a year."""
    states = {}
    for entity in entities:
        states["entity", entity.name] = Known(Verdict.UP, True)
        states |= {("network", one.name): Known(Verdict.UP, True) for one in entity.networks}
        states |= {("site", one.name): Known(Verdict.UP, True) for one in entity.sites}
        states |= {("target", one.name): Known(Verdict.UP, True) for one in entity.targets}
    made = Facts(
        now=now,
        vantage="hanover",
        entities=entities,
        states=states,  # type: ignore[arg-type]
        ongoing=(),
        open_gaps=(),
        began=lambda scope, name: now - 365 * 86_400,
        observer_up=True,
        live=True,
        vantages=("hanover",),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def ledger_of(directory: Path, events: Iterable[Event]) -> Path:
    """A ledger with these events; its file."""
    async with opened(directory) as ledger:
        await ledger.append(list(events))
    return directory / "ledger.sqlite3"


def renamed(outage: Outage, name: str, **changes: object) -> Outage:
    """The same of something else."""
    return replace(outage, id=f"{outage.scope}:{name}:{outage.start}", name=name, **changes)  # type: ignore[arg-type]
