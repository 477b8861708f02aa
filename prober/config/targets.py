"""Targets files: entities with their networks, sites and targets, merged over all files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal, NamedTuple

from prober.config.checks import CheckReader, Timing, timing_of_file
from prober.config.document import Document, Map, Seq, Value
from prober.config.files import (
    Defaults,
    NetworkEntry,
    SiteEntry,
    TargetEntry,
    TargetsFile,
)
from prober.config.messages import Context, suggestion, validate
from prober.config.problems import Code, KeyPath, Problem, quoted
from prober.contract import Kind
from prober.model import Check, Entity, Network, Site, Target
from prober.net.names import address_of


class Place(NamedTuple):
    """Where something was defined. A tuple, which is made in a fifth of a dataclass's time: each target has two."""

    document: Document
    path: KeyPath

    def __str__(self) -> str:
        return f"{self.document.file}:{self.document.line(self.path)}"

    def problem(self, code: Code, message: str, *more: str | int) -> Problem:
        """A problem here, or at what `more` leads to from here."""
        return self.document.problem((*self.path, *more), code, message)


@dataclass(slots=True)
class _Draft:
    """An entity as far as it was read."""

    name: str
    place: Place
    title: str | None = None
    country: str | None = None
    references: tuple[str, ...] | None = None
    references_place: Place | None = None
    networks: dict[str, Network | None] = field(default_factory=dict)  # None: not well defined
    sites: dict[str, Site] = field(default_factory=dict)
    targets: list[tuple[Target, Place]] = field(default_factory=list)


class Contribution(NamedTuple):
    """What a reader knows of one entity, less where it stands: light enough to be handed to another process."""

    name: str
    title: str | None
    country: str | None
    references: tuple[str, ...] | None
    networks: dict[str, Network]
    sites: dict[str, Site]
    targets: list[Target]


_ELSEWHERE: Final = Document("", Map(0), [])
"""Where another reader's findings stand."""


class TargetsReader:
    """Reads any number of targets files; `entities` then has the whole."""

    def __init__(self, kinds: Mapping[str, Kind], problems: list[Problem], context: Context | None = None) -> None:
        self.targets: dict[str, Place] = {}
        self._kinds = kinds
        self._problems = problems
        self._checks = CheckReader(kinds, problems, context)
        self._drafts: dict[str, _Draft] = {}
        self._networks: dict[str, Place] = {}
        self._sites: dict[str, Place] = {}

    def read(self, document: Document) -> None:
        """Take one file in. Whatever is wrong goes to the problems; the rest is still looked at."""
        root = document.root
        shell = validate(TargetsFile, root, document, (), self._problems, apart="targets")
        name = shell.entity if shell is not None else _text(root.get("entity"))
        draft = self._drafts.setdefault(name, _Draft(name, Place(document, ("entity",))))
        if shell is not None:
            self._merge(draft, shell, document)
        self._define(draft, shell, document)
        timing = timing_of_file(shell.defaults if shell is not None else Defaults())
        targets = root.get("targets")
        for position, item in enumerate(targets if isinstance(targets, Seq) else ()):
            self._target(draft, item, Place(document, ("targets", position)), timing)

    def contributions(self) -> list[Contribution]:
        """What was read, for another reader to `join`. To be used only if there are no problems."""
        return [
            Contribution(
                draft.name,
                draft.title,
                draft.country,
                draft.references,
                {name: network for name, network in draft.networks.items() if network is not None},
                draft.sites,
                [target for target, _place in draft.targets],
            )
            for draft in self._drafts.values()
        ]

    def join(self, found: Iterable[Contribution]) -> None:
        """Take in what another reader has read. What is wrong then has no place; only that it is counts."""
        for one in found:
            place = Place(_ELSEWHERE, ())
            draft = self._drafts.setdefault(one.name, _Draft(one.name, place))
            self._merge(draft, one, _ELSEWHERE)
            for known, names, what in (
                (self._networks, one.networks, "network"),
                (self._sites, one.sites, "site"),
                (self.targets, (target.name for target in one.targets), "target"),
            ):
                mine = dict.fromkeys(names, place)
                for name in known.keys() & mine.keys():
                    self._new(name, place, known, Code.DUPLICATE_TARGET, what)
                known.update(mine)
            draft.networks |= one.networks
            draft.sites |= one.sites
            draft.targets += [(target, place) for target in one.targets]

    def entities(self) -> tuple[Entity, ...]:
        """What was read. To be used only if there are no problems; looks for dangling names first."""
        for draft in self._drafts.values():
            self._problems.extend(_dangling(draft))
            self._problems.extend(self._outside(draft))
        return tuple(map(_entity, self._drafts.values()))

    def of_file(self, file: str) -> tuple[list[str], list[Target]]:
        """The entities and targets that one file contributes, for its summary."""
        targets = [(target, place) for draft in self._drafts.values() for target, place in draft.targets]
        mine = [target for target, place in targets if place.document.file == file]
        return sorted({target.entity for target in mine}), mine

    def unknown_references(self, known: Iterable[str]) -> Iterator[Problem]:
        """A problem for each name under an entity's `references` that is none of `known`."""
        names = set(known)
        for draft in self._drafts.values():
            for position, name in enumerate(draft.references or ()):
                if name not in names and draft.references_place is not None:
                    message = f"no such reference; {suggestion(name, names)}"
                    yield draft.references_place.problem(Code.UNKNOWN_REFERENCE, message, position)

    def _merge(self, draft: _Draft, shell: TargetsFile | Contribution, document: Document) -> None:
        """Files of one entity may each leave things out, but not contradict each other."""
        for key in ("title", "country", "references"):
            new = getattr(shell, key)
            old = getattr(draft, key)
            if new is None:
                continue
            if old is not None and old != new:
                message = f"{draft.name} has another {key} in {draft.place.document.file}; make the two equal"
                self._problems.append(document.problem((key,), Code.ENTITIES_DISAGREE, message))
            setattr(draft, key, new)
        if shell.references is not None:
            draft.references_place = Place(document, ("references",))

    def _define(self, draft: _Draft, shell: TargetsFile | None, document: Document) -> None:
        """Take in networks and sites, also of a file with mistakes, lest their names seem to be missing."""
        for name in _keys(document.root.get("networks")):
            place = Place(document, ("networks", name))
            if self._new(name, place, self._networks, Code.DUPLICATE_NETWORK, "network"):
                entry = shell.networks[name] if shell is not None else None
                draft.networks[name] = _network(name, draft.name, entry) if entry is not None else None
        for name in _keys(document.root.get("sites")):
            place = Place(document, ("sites", name))
            if self._new(name, place, self._sites, Code.DUPLICATE_SITE, "site"):
                site = shell.sites[name] if shell is not None else SiteEntry()
                draft.sites[name] = Site(name, draft.name, site.title or "")

    def _new(self, name: str, place: Place, known: dict[str, Place], code: Code, what: str) -> bool:
        """Whether a name is not taken; if it is, that is a problem."""
        first = known.setdefault(name, place)
        if first is not place:
            message = f"a {what} of this name is defined at {first}; names are unique per agent: rename one"
            self._problems.append(place.problem(code, message))
        return first is place

    def _target(self, draft: _Draft, item: Value, place: Place, timing: Timing) -> None:
        document, at = place.document, place.path
        entry = validate(TargetEntry, item, document, at, self._problems, apart="checks")
        if entry is not None:
            timing = timing.refined(entry.interval, entry.timeout, at)
        checks = self._checks.read(entry.name if entry is not None else "", item, document, at, timing)
        if entry is None:
            return
        named = Place(document, (*at, "name"))
        self._new(entry.name, named, self.targets, Code.DUPLICATE_TARGET, "target")
        target = Target(
            name=entry.name,
            entity=draft.name,
            checks=checks,
            title=entry.title or "",
            network=entry.network,
            site=entry.site,
            hosted_in=entry.hosted_in,
            require=entry.require,
        )
        draft.targets.append((target, place))

    def _outside(self, draft: _Draft) -> Iterator[Problem]:
        """Checks of addresses outside the network that their target is said to stand in: they would keep it up."""
        prefixes = {name: ip_network(network.prefix) for name, network in draft.networks.items() if network is not None}
        for target, place in draft.targets:
            if target.network not in prefixes:
                continue
            prefix = prefixes[target.network]
            for check in target.checks:
                host = self._kinds[check.kind].host(check.options)
                if _is_outside(host, prefix):
                    yield _outside_problem(host, f"{target.network} ({prefix})", check, place)


def _is_outside(host: str, prefix: IPv4Network | IPv6Network) -> bool:
    address = address_of(host)
    if address is None:
        return False  # a name: only its resolution will tell
    return address not in prefix  # of the other family: outside as well


def _outside_problem(host: str, network: str, check: Check, place: Place) -> Problem:
    """The problem, at the option that names the host."""
    path: KeyPath = ()
    checks = place.document.at((*place.path, "checks"))
    for position, item in enumerate(checks if isinstance(checks, Seq) else ()):
        if isinstance(item, Map) and check.kind in item and item.get("name", check.kind) == check.name:
            options = item[check.kind]
            texts = (
                {key: text for key, text in options.items() if isinstance(text, str)}
                if isinstance(options, Map)
                else {}
            )
            found = [key for key, text in texts.items() if text == host] or [k for k, t in texts.items() if host in t]
            path = ("checks", position, check.kind, *found[:1])
            break
    message = f"the address {host} is outside network {network}; correct it, or move the check to a target elsewhere"
    return place.problem(Code.OUTSIDE_NETWORK, message, *path)


def _dangling(draft: _Draft) -> Iterator[Problem]:
    for target, place in draft.targets:
        if target.network is not None and target.network not in draft.networks:
            yield place.problem(Code.UNKNOWN_NETWORK, _no_such("networks", target.network, draft), "network")
        if target.site is not None and target.site not in draft.sites:
            yield place.problem(Code.UNKNOWN_SITE, _no_such("sites", target.site, draft), "site")


def _no_such(key: Literal["networks", "sites"], name: str, draft: _Draft) -> str:
    known = draft.networks if key == "networks" else draft.sites
    remedy = suggestion(name, known) if known else f'define it under "{key}:"'
    return f"{draft.name} has no {key.removesuffix('s')} {quoted(name)}; {remedy}"


def _entity(draft: _Draft) -> Entity:
    return Entity(
        name=draft.name,
        title=draft.title or "",
        country=draft.country,
        networks=tuple(network for network in draft.networks.values() if network is not None),
        sites=tuple(draft.sites.values()),
        targets=tuple(target for target, _place in draft.targets),
        references="default" if draft.references is None else draft.references,
    )


def _network(name: str, entity: str, entry: NetworkEntry) -> Network:
    return Network(name, entity, entry.prefix, entry.title or "", entry.origin_asn, entry.transit)


def _keys(value: Value) -> list[str]:
    return list(value) if isinstance(value, Map) else []


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""
