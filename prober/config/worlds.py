"""World files: what is true, second by second, for `prober replay`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from prober.config.document import Document, Seq
from prober.config.load import read_all, read_sets
from prober.config.messages import suggestion, validate
from prober.config.parse import parse_document, read_document
from prober.config.problems import Code, KeyPath, Problem, listed, quoted, raise_if_any
from prober.config.settings import Judgement, Limits
from prober.config.types import FileModel, FilePath, Name, Title, refuse
from prober.contract import Kind
from prober.duration import DURATION_PATTERN, Duration, parse_duration
from prober.failures import Failure
from prober.model import Check, Entity, Reference, Target
from prober.probes import PROBES

RTT_DEFAULT_SECONDS: Final = 0.2
SPAN_MAX_SECONDS: Final = 20 * 366 * 86_400.0
VANTAGES_MAX: Final = 100
CALENDAR: Final = (
    datetime(1, 1, 1, tzinfo=UTC).timestamp(),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp(),
)
"""The first and the last second that can be written, as Unix times."""

DEFAULT_REFERENCES: Final = b"""
defaults: {interval: 60s, timeout: 3s}
references:
  - name: r1
    network: AS64496
    checks: [{icmp: {address: 192.0.2.1}}, {dns: {query: r1.example.net}, interval: 5m}]
  - name: r2
    network: AS64497
    checks: [{icmp: {address: 198.51.100.1}}, {dns: {query: r2.example.net}, interval: 5m}]
  - name: r3
    network: AS64498
    checks: [{icmp: {address: 203.0.113.1}}, {dns: {query: r3.example.net}, interval: 5m}]
"""
"""The references of a world that names no file of them: nothing of a replay is ever probed."""

MOMENT_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?Z)?$"
_MOMENT_REMEDY: Final = "write it like 2014-12-22T16:15:00Z"


def _moment(value: object) -> float:
    if not isinstance(value, str) or not re.match(MOMENT_PATTERN.removesuffix("$") + r"\Z", value):
        refuse(Code.MOMENT, f"{quoted(value)} is no time in UTC; {_MOMENT_REMEDY}")
    try:
        return datetime.fromisoformat(value.removesuffix("Z")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        refuse(Code.MOMENT, f"{quoted(value)} is in no calendar; {_MOMENT_REMEDY}")


def _step(value: object) -> float:
    backwards = isinstance(value, str) and value.startswith("-")
    try:
        seconds = parse_duration(str(value).removeprefix("-"))
    except ValueError:
        seconds = 0.0
    if not isinstance(value, str) or seconds == 0.0:
        refuse(Code.CLOCK_STEP, f"{quoted(value)} is no step of a clock; write it like 1h or -30s")
    return -seconds if backwards else seconds


def _several(value: object) -> object:
    # What a validator returns is no JSON any more: strictly, only a tuple is one.
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _ramp(value: object) -> object:
    """A value that stays, as one that goes from itself to itself."""
    if not isinstance(value, list):
        return value, value
    if len(value) < 2:  # else pydantic says that a place in it is missing, as if it were a key
        refuse(
            Code.RAMP, f"a ramp has two values, not {len(value)}; write [first, last], or one value without brackets"
        )
    return tuple(value)


Moment = Annotated[
    float,
    BeforeValidator(_moment, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "pattern": MOMENT_PATTERN, "examples": ["2014-12-22T16:15:00Z", "2014-12-22"]}),
]
Share = Annotated[float, Field(ge=0, lt=1)]
Names = Annotated[
    tuple[Name, ...], Field(min_length=1), BeforeValidator(_several, json_schema_input_type=Name | tuple[Name, ...])
]
LossRamp = Annotated[tuple[Share, Share], BeforeValidator(_ramp, json_schema_input_type=Share | tuple[Share, Share])]
RttRamp = Annotated[
    tuple[Duration, Duration], BeforeValidator(_ramp, json_schema_input_type=Duration | tuple[Duration, Duration])
]
ClockStep = Annotated[
    float,
    BeforeValidator(_step, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN.replace("^", "^-?", 1), "examples": ["1h", "-30s"]}),
]
FailureWord = Annotated[Failure, WithJsonSchema({"type": "string", "enum": [str(word) for word in Failure]})]


class VantageEntry(FileModel):
    """An agent that looks at the world. Several take turns, in the order of the list."""

    name: Name
    """On every record."""


class Burst(FileModel):
    """How losses come."""

    mean_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Above 0: in runs of total loss of this mean length, exponentially distributed; 0: each probe for itself."""


class Match(FileModel):
    """Which checks a row is about: those that every key fits. Each takes one value or a list."""

    entity: Names | None = None
    """Checks of these entities."""
    network: Names | None = None
    """Checks of targets in these networks."""
    site: Names | None = None
    """Checks of these sites' mirrors."""
    target: Names | None = None
    """Checks of these targets."""
    check: Names | None = None
    """Checks of these kinds or names."""
    reference: Names | None = None
    """Checks of these references."""
    vantage: Names | None = None
    """As seen from these vantages. Alone, or with nothing at all, a row is about the references too."""


class ConditionEntry(FileModel):
    """What holds for some checks from one moment to another. Of rows that say the same thing the last one counts."""

    match: Match = Match()
    """Which checks it is about; all unless given."""
    begin: Annotated[Moment, Field(alias="from")]
    """From when on (inclusive)."""
    end: Annotated[Moment, Field(alias="to")]
    """Until when (exclusive)."""
    down: bool | None = None
    """True: nothing is answered; this is the truth that the score compares with. False: takes an earlier row back."""
    failure: FailureWord | None = None
    """How probes fail. Beside `loss` the lost ones, else all of them (then it is down too)."""
    loss: LossRamp | None = None
    """Share of the probes that is lost; two values: a ramp from one to the other."""
    rtt: RttRamp | None = None
    """Round-trip time; two values: a ramp. Beyond a check's timeout its probes are lost, and it is down."""

    @model_validator(mode="after")
    def _is_a_time_in_which_something_holds(self) -> Self:
        if self.end <= self.begin:
            refuse(Code.WORLD_TIMES, 'ends before it begins; write a "to:" that is later than "from:"')
        if self.down is None and self.failure is None and self.loss is None and self.rtt is None:
            refuse(Code.CONDITION, "says nothing; add one of down, failure, loss, rtt")
        if self.failure is not None and self.down is False:
            refuse(Code.CONDITION, '"down: false" has no failure; remove one of the two')
        return self


class ObserverEntry(FileModel):
    """What happens to the agent itself."""

    vantage: Names | None = None
    """To the agents at these vantages; all unless given."""
    begin: Annotated[Moment | None, Field(alias="from")] = None
    """From when on."""
    end: Annotated[Moment | None, Field(alias="to")] = None
    """Until when."""
    at: Moment | None = None
    """When the clock is stepped."""
    offline: bool = False
    """Nothing reaches it: every probe is lost, those of the references too."""
    stopped: bool = False
    """It is killed at `from`, and started again on its ledger at `to`."""
    clock_step: ClockStep | None = None
    """By how much the host's clock is set forward at `at`, or back."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.offline + self.stopped + (self.clock_step is not None) != 1:
            refuse(Code.OBSERVER, 'one thing at a time; write one of "offline: true", "stopped: true", "clock_step:"')
        if self.clock_step is not None:
            if self.at is None or self.begin is not None or self.end is not None:
                refuse(Code.OBSERVER, 'a clock is stepped at one moment; write "at:", and neither "from:" nor "to:"')
        elif self.at is not None or self.begin is None or self.end is None:
            refuse(Code.OBSERVER, 'this lasts for a while; write "from:" and "to:", and no "at:"')
        elif self.end <= self.begin:
            refuse(Code.WORLD_TIMES, 'ends before it begins; write a "to:" that is later than "from:"')
        return self


def _vantages(value: object) -> object:
    if not isinstance(value, list):
        return value
    return tuple({"name": item} if isinstance(item, str) else item for item in value)


class WorldFile(FileModel):
    """A scripted world for `prober replay`: what is true, and what the agents do and suffer in it."""

    world: Title
    """Its title."""
    start: Moment
    """When the agents start, with an empty ledger."""
    end: Moment
    """When it ends."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """All chance follows from it: the same seed, the same result."""
    targets: Annotated[
        tuple[FilePath, ...],
        Field(min_length=1),
        BeforeValidator(_several, json_schema_input_type=FilePath | tuple[FilePath, ...]),
    ]
    """Targets file or files, relative to this file. Nothing in them is probed."""
    references: FilePath | None = None
    """References file; unless given, three that always answer: r1, r2 and r3."""
    vantages: Annotated[
        tuple[VantageEntry, ...],
        Field(min_length=1, max_length=VANTAGES_MAX),
        BeforeValidator(_vantages, json_schema_input_type=tuple[Name | VantageEntry, ...]),
    ] = (VantageEntry(name="local"),)
    """The agents, by name."""
    judgement: Judgement = Judgement()
    """How sure the agents must be, as in the settings."""
    limits: Limits = Limits()
    """What the agents never exceed, as in the settings."""
    loss: Share = 0.0
    """Background loss of every target's check, also where no condition says anything."""
    rtt: Duration = RTT_DEFAULT_SECONDS
    """Round-trip time where no condition says anything, give or take a tenth."""
    burst: Burst = Burst()
    """How losses come."""
    conditions: tuple[object, ...] = ()
    """What happens to the targets, the references, and the way to them."""
    observer: tuple[object, ...] = ()
    """What happens to the agents."""


@dataclass(frozen=True, slots=True)
class World:
    """A world that can be replayed. Times are Unix seconds."""

    file: str
    title: str
    start: float
    end: float
    seed: int
    entities: tuple[Entity, ...]
    references: tuple[Reference, ...]
    vantages: tuple[str, ...]
    judgement: Judgement = field(default_factory=Judgement)
    limits: Limits = field(default_factory=Limits)
    loss: float = 0.0
    rtt_seconds: float = RTT_DEFAULT_SECONDS
    burst_seconds: float = 0.0
    conditions: tuple[ConditionEntry, ...] = ()
    observer: tuple[ObserverEntry, ...] = ()

    def checks(self) -> Iterator[tuple[Target | Reference, Check]]:
        """Every check, with whose it is."""
        for entity in self.entities:
            for target in entity.targets:
                for check in target.checks:
                    yield target, check
        for reference in self.references:
            for check in reference.checks:
                yield reference, check


def concerns(match: Match, owner: Target | Reference, check: Check, vantage: str | None) -> bool:
    """Whether a row is about this check, as seen from `vantage` (None: from any)."""
    if vantage is not None and match.vantage is not None and vantage not in match.vantage:
        return False
    if match.check is not None and check.kind not in match.check and check.name not in match.check:
        return False
    if isinstance(owner, Reference):
        whose = (match.entity, match.network, match.site, match.target)
        if match.reference is None:
            return match.check is None and all(names is None for names in whose)
        return owner.name in match.reference and all(names is None for names in whose)
    return match.reference is None and all(
        names is None or value in names
        for names, value in (
            (match.entity, owner.entity),
            (match.network, owner.network),
            (match.site, owner.site),
            (match.target, owner.name),
        )
    )


def load_world(path: Path, kinds: Mapping[str, Kind] = PROBES) -> World:
    """The world in a file, with its targets and references. Raises ConfigError."""
    document = read_document(path)
    problems: list[Problem] = list(document.problems)
    world = read_world(document, kinds, problems)
    raise_if_any(problems)
    assert world is not None
    return world


def read_world(document: Document, kinds: Mapping[str, Kind], problems: list[Problem]) -> World | None:
    """The world that a document holds; None, with what is wrong added to `problems`, if it holds none."""
    before = len(problems)
    rows: dict[str, list[tuple[KeyPath, Any]]] = {"conditions": [], "observer": []}
    for key, model in (("conditions", ConditionEntry), ("observer", ObserverEntry)):
        if isinstance(items := document.root.get(key), Seq):
            for position, item in enumerate(items):
                entry = validate(model, item, document, (key, position), problems)
                if entry is not None:
                    rows[key].append(((key, position), entry))
    file = _shell(document, problems)
    if file is None:
        return None
    targets = list(read_all(file.targets, problems))
    if file.references is None:
        references = [parse_document("built-in references", DEFAULT_REFERENCES)]
    else:
        references = list(read_all([file.references], problems))
    reader, found = read_sets(targets, references, kinds, problems)
    entities = reader.entities()
    if len(targets) < len(file.targets) or not references:
        return None
    names = tuple(entry.name for entry in file.vantages)
    world = World(
        file=document.file,
        title=file.world,
        start=file.start,
        end=file.end,
        seed=file.seed,
        entities=entities,
        references=tuple(found),
        vantages=names,
        judgement=file.judgement,
        limits=file.limits,
        loss=file.loss,
        rtt_seconds=file.rtt,
        burst_seconds=file.burst.mean_seconds,
        conditions=tuple(entry for _at, entry in rows["conditions"]),
        observer=tuple(entry for _at, entry in rows["observer"]),
    )
    problems.extend(_disagreements(world, document, rows["conditions"], rows["observer"]))
    return world if len(problems) == before else None


def _shell(document: Document, problems: list[Problem]) -> WorldFile | None:
    """The file without its rows, which were validated one by one: one bad row does not hide the others."""
    root = document.root
    shell = type(root)(root.line)
    shell.update(root)
    shell.lines = root.lines
    for key in ("conditions", "observer"):
        if isinstance(items := shell.get(key), Seq):
            plain = Seq(items.line)
            plain.extend([0] * len(items))
            plain.lines = items.lines
            shell[key] = plain
    return validate(WorldFile, shell, document, (), problems, directory=Path(document.file).parent)


def _disagreements(
    world: World,
    document: Document,
    conditions: Sequence[tuple[KeyPath, ConditionEntry]],
    observer: Sequence[tuple[KeyPath, ObserverEntry]],
) -> Iterator[Problem]:
    """What is wrong between the parts of a world."""
    if world.end <= world.start:
        message = 'the world ends before it begins; write an "end:" that is later than "start:"'
        yield document.problem(("end",), Code.WORLD_TIMES, message)
        return
    if world.end - world.start > SPAN_MAX_SECONDS:
        yield document.problem(("end",), Code.WORLD_TIMES, "more than 20 years; shorten the world")
    for position, name in enumerate(world.vantages):
        if name in world.vantages[:position]:
            message = f"there is a vantage {quoted(name)} already; give one of them another name"
            yield document.problem(("vantages", position), Code.DUPLICATE_VANTAGE, message)
    known = _known(world)
    for at, entry in conditions:
        wrong = list(_unknown(entry.match, known, document, (*at, "match")))
        yield from wrong
        if not wrong and not any(concerns(entry.match, owner, check, None) for owner, check in world.checks()):
            message = "fits no check; loosen it: every key must fit the same check"
            yield document.problem((*at, "match"), Code.MATCHES_NOTHING, message)
        if entry.begin >= world.end or entry.end <= world.start:
            yield document.problem(at, Code.WORLD_TIMES, _OUTSIDE)
    yield from _off_the_calendar(world, document, observer)
    stopped: dict[str, list[tuple[float, float, KeyPath]]] = {}
    for at, row in observer:
        yield from _unknown_names("vantage", row.vantage, known["vantage"], document, at)
        begin, end = (row.at, row.at) if row.at is not None else (row.begin, row.end)
        assert begin is not None
        assert end is not None
        if begin >= world.end or end < world.start:
            yield document.problem(at, Code.WORLD_TIMES, _OUTSIDE)
        for vantage in dict.fromkeys(row.vantage or world.vantages):
            for other_begin, other_end, other in stopped.get(vantage, ()) if row.stopped else ():
                if begin <= other_end and other_begin <= end:
                    line = document.line(other)
                    message = f"the agent at {vantage} is stopped at that time by line {line} already; join the rows"
                    yield document.problem(at, Code.OBSERVER, message)
            if row.stopped:
                stopped.setdefault(vantage, []).append((begin, end, at))


def _off_the_calendar(
    world: World, document: Document, observer: Sequence[tuple[KeyPath, ObserverEntry]]
) -> Iterator[Problem]:
    """Steps after which some agent's clock would show a time that cannot be written."""
    rows = sorted((row.at, at, row) for at, row in observer if row.at is not None)
    wrong: set[KeyPath] = set()
    for vantage in world.vantages:
        mine = [
            (when, at, row.clock_step or 0.0)
            for when, at, row in rows
            if (row.vantage is None or vantage in row.vantage) and when < world.end
        ]
        ends = [*(when for when, _, _ in mine), world.end][1:]
        ahead = 0.0
        for (when, at, step), until in zip(mine, ends, strict=True):
            ahead += step
            if (when + ahead < CALENDAR[0] or until + ahead > CALENDAR[1]) and at not in wrong:
                wrong.add(at)
                message = "sets the clock beyond the years 1 to 9999; make the step smaller, or move the world"
                yield document.problem((*at, "clock_step"), Code.CLOCK_STEP, message)
                break


_OUTSIDE: Final = 'lies outside the world\'s "start:" and "end:"; correct the times or remove the row'


def _known(world: World) -> dict[str, set[str]]:
    """What the keys of a match may name."""
    checks = list(world.checks())
    return {
        "entity": {entity.name for entity in world.entities},
        "network": {network.name for entity in world.entities for network in entity.networks},
        "site": {site.name for entity in world.entities for site in entity.sites},
        "target": {target.name for entity in world.entities for target in entity.targets},
        "check": {word for _owner, check in checks for word in (check.kind, check.name)},
        "reference": {reference.name for reference in world.references},
        "vantage": set(world.vantages),
    }


def _unknown(match: Match, known: Mapping[str, set[str]], document: Document, at: KeyPath) -> Iterator[Problem]:
    for key, names in known.items():
        yield from _unknown_names(key, getattr(match, key), names, document, at)


def _unknown_names(
    key: str, given: Iterable[str] | None, known: set[str], document: Document, at: KeyPath
) -> Iterator[Problem]:
    wrong = [name for name in given or () if name not in known]
    if wrong:
        message = f"no such {key}: {listed(map(quoted, wrong), 'and')}; {suggestion(wrong[0], known)}"
        yield document.problem((*at, key), Code.UNKNOWN_NAME, message)
