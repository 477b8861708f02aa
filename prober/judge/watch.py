"""What is watched: the detectors, the scopes above them, and the references that vouch for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

from prober.judge.detector import Detector
from prober.judge.observer import Observer
from prober.judge.records import Settings, Verdict
from prober.judge.rollup import Node, build
from prober.model import Entity, Reference

T = TypeVar("T")


class Part(NamedTuple):
    """What is watched of one entity."""

    entity: Entity
    observer: Observer
    detectors: dict[str, Detector]
    nodes: list[Node]


class Regrouped(NamedTuple):
    """A scope that stays, with other members than before, or judged by them in another way."""

    node: Node
    like: Node
    """A draft of it as it is to be."""
    added: list[Node]
    removed: list[Node]


@dataclass(slots=True)
class Change:
    """What makes the watch of one configuration that of another. See `Watch.prepared`."""

    references: list[Reference]
    named: frozenset[str]
    observers: dict[tuple[str, ...] | None, Observer] = field(default_factory=dict)
    before: dict[str, Part] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    observer_of: dict[str, Observer] = field(default_factory=dict)  # of checks that may have had another one
    fresh: list[Node] = field(default_factory=list)
    regrouped: list[Regrouped] = field(default_factory=list)
    gone: list[Node] = field(default_factory=list)

    def touched(self) -> list[Node]:
        """Of the nodes that are there, what goes or gets other members, and all that stands on it."""
        return _with_all_above([*self.gone, *(one.node for one in self.regrouped)])

    def rebuilt(self) -> list[Node]:
        """Afterwards, what has to be evaluated, since it is new or stands on something else than before. Whether it
        counts is found out anew.
        """
        nodes = _with_all_above([*self.fresh, *(one.node for one in self.regrouped)])
        for node in nodes:
            node.counted = False
        return nodes

    def checks_gone(self) -> set[Detector]:
        """Checks that nobody watches any more; one that only moves to another entity is not among them."""
        fresh = {node.leaf for node in self.fresh}
        return {node.leaf for node in self.gone if node.leaf is not None and node.leaf not in fresh}

    def graft(self, drafts: list[Node], before: Iterable[Node]) -> list[Node]:
        """The nodes that are to be, of `drafts`, but for those that were there `before`: these stay. Only checks that
        ask something else, and what was not there, are fresh.
        """
        known = {(node.scope, node.name): node for node in before}
        stays: dict[Node, Node] = {}
        nodes, fresh = [], []
        for draft in drafts:  # members first
            draft.children = [stays.get(child, child) for child in draft.children]
            node = known.get((draft.scope, draft.name))
            if node is None or node.leaf is not draft.leaf:
                fresh.append(draft)
                nodes.append(draft)
                continue
            stays[draft] = node
            nodes.append(node)
            if draft.children != node.children or _kind(draft) != _kind(node):
                now, then = set(draft.children), set(node.children)
                added = [child for child in draft.children if child not in then]
                self.regrouped.append(Regrouped(node, draft, added, [child for child in then if child not in now]))
        for draft in fresh:
            draft.parents = [stays.get(parent, parent) for parent in draft.parents]
        self.fresh += fresh
        kept = set(stays.values())
        self.gone += [node for node in known.values() if node not in kept]
        return nodes


def _kind(node: Node) -> tuple[object, ...]:
    return node.rule, node.quorum, node.level


class Sliced:
    """A snapshot that is made bit by bit, for thousands of checks at once would hold the event loop for too long.

    Of calm checks and of scopes it is as good if each was looked at at another moment. Checks that were not calm then,
    or are not at the end, and scopes that have changed since are said once more at the end (`Watch.snapshot`).
    """

    def __init__(self, watch: Watch, size: int, *, history: bool, encode: Callable[[object], Any]) -> None:
        """`size` checks at a time; `encode` turns each part into what is to be kept of it."""
        self.checks: list[Any] = []
        self.scopes: list[Any] = []
        self.left_out: set[str] = set()
        self.changed: set[tuple[str, str]] = set()
        """Places of scopes; whoever changes one puts it down here."""
        self._history = history
        self._encode = encode
        parts = list(watch.parts.values())
        self._detectors = _slices(chain.from_iterable(part.detectors.items() for part in parts), size)
        self._nodes = _slices(chain.from_iterable(part.nodes for part in parts), 8 * size)  # which cost less

    def step(self) -> bool:
        """Say the next part. False: all is said."""
        if (some := next(self._detectors, None)) is not None:
            calm = {key: detector.snapshot(self._history) for key, detector in some if detector.is_calm()}
            self.left_out.update(key for key, _ in some if key not in calm)
            self.checks.append(self._encode(calm))
            return True
        if (nodes := next(self._nodes, None)) is not None:
            self.scopes.append(self._encode(_said(nodes)))
            return True
        return False


def _slices(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while some := list(islice(items, size)):
        yield some


def _said(nodes: Iterable[Node]) -> list[Any]:
    """What a snapshot says of scopes: of what is alike together, for nearly all are."""
    alike: dict[tuple[bool | None, bool | None, Verdict], dict[str, list[str]]] = {}
    for node in nodes:
        if node.scope is not None:
            alike.setdefault((node.value, node.held, node.shown), {}).setdefault(node.scope, []).append(node.name)
    return [[value, held, str(shown), names] for (value, held, shown), names in alike.items()]


class Watch:
    """What is watched of a configuration, and of the next ones: what stays the same goes on as it is."""

    def __init__(
        self, entities: Iterable[Entity], references: Iterable[Reference], settings: Settings, named: frozenset[str]
    ) -> None:
        self._settings = settings
        self.references: list[Reference] = []
        self.named: frozenset[str] = frozenset()
        self.parts: dict[str, Part] = {}
        self.detectors: dict[str, Detector] = {}
        self.observers: dict[tuple[str, ...] | None, Observer] = {}
        self.observer_of: dict[str, Observer] = {}  # by check
        self.scopes: dict[tuple[str, str], Node] = {}
        self.fresh: list[Node] = []
        """What the last change brought."""
        self.gone: list[tuple[str, str]] = []
        """What the last change took away, and nothing else has the place of."""
        self.change(self.prepared(entities, references, named))

    def leaf(self, key: str) -> Node:
        """The scope of a check."""
        return self.scopes["check", key]

    def prepared(
        self, entities: Iterable[Entity], references: Iterable[Reference], named: frozenset[str] | None = None
    ) -> Change:
        """What `change` is to be given. With thousands of checks it takes long, and may be made in a thread: nothing
        changes by it but the pace, and the options' other form, of checks that ask the same as before.
        """
        change = Change(list(references), self.named if named is None else named, before=self.parts)
        same_references = change.references == self.references
        for entity in entities:
            trusted = None if entity.references == "default" else tuple(sorted(entity.references))
            if trusted not in change.observers:
                chosen = [one for one in change.references if trusted is None or one.name in trusted]
                kept = self.observers.get(trusted) if same_references else None
                interval = self._settings.confirm_interval_seconds
                change.observers[trusted] = kept or Observer(chosen, change.named, interval)
            observer = change.observers[trusted]
            part = self.parts.get(entity.name)
            if part is None or part.entity is not entity or part.observer is not observer:
                detectors = self._detectors_of(entity)
                nodes = build(entity, detectors)
                if part is None:
                    change.fresh += nodes
                else:
                    nodes = change.graft(nodes, part.nodes)
                part = Part(entity, observer, detectors, nodes)
                change.observer_of |= dict.fromkeys(detectors, observer)
            change.parts[entity.name] = part
        for name, part in self.parts.items():
            if name not in change.parts:
                change.gone += part.nodes
        return change

    def _detectors_of(self, entity: Entity) -> dict[str, Detector]:
        found = {}
        for target in entity.targets:
            for check in target.checks:
                detector = self.detectors.get(check.key)
                if detector is not None and detector.asks_the_same(check):
                    detector.reconfigure(check, self._settings)
                else:
                    detector = Detector(check, self._settings)
                found[check.key] = detector
        return found

    def change(self, change: Change) -> None:
        """Be what was prepared, of what is watched now."""
        assert change.before is self.parts
        self.references, self.named = change.references, change.named
        self.parts, self.observers = change.parts, change.observers
        for node in change.fresh:
            for child in node.children:
                _adopt(node, child)
            # What was there under another entity goes on with the values that it has at this moment.
            old = self.scopes.get((node.scope, node.name)) if node.scope is not None else None
            if old is not None and (node.leaf is None or node.leaf is old.leaf):
                node.value, node.held, node.shown = old.value, old.held, old.shown
        for node, like, added, removed in change.regrouped:
            node.children, node.rule, node.quorum, node.level = like.children, like.rule, like.quorum, like.level
            for child in added:
                _adopt(node, child)
            for child in removed:
                child.parents.remove(node)
                node.downs -= child.value is False
        self._forget(change.gone)
        for node in change.fresh:
            if node.scope is not None:
                self.scopes[node.scope, node.name] = node
            if node.leaf is not None:
                self.detectors[node.leaf.key] = node.leaf
        self.observer_of |= change.observer_of
        self.fresh = change.fresh
        self.gone = [(node.scope, node.name) for node in change.gone if node.scope is not None]
        self.gone = [place for place in self.gone if place not in self.scopes]

    def _forget(self, gone: Iterable[Node]) -> None:
        for node in gone:
            if node.scope is not None:
                del self.scopes[node.scope, node.name]
            if node.leaf is not None:
                del self.detectors[node.leaf.key], self.observer_of[node.leaf.key]
            for child in node.children:
                # Also of those that are gone: what knows of each other would be left to the garbage collector.
                if node in child.parents:
                    child.parents.remove(node)

    def snapshot(self, history: bool, sliced: Sliced | None, troubled: Iterable[str]) -> dict[str, Any]:
        """Plain values that `restore` takes, where the last word counts. What is `sliced` is taken from there, but for
        `troubled` checks and what has changed since.
        """
        checks = self.detectors.keys() if sliced is None else sliced.left_out.union(troubled)
        places = self.scopes.keys() if sliced is None else sliced.changed
        found = ((key, self.detectors.get(key)) for key in checks)
        nodes = (self.scopes.get(place) for place in places)
        return {
            "checks": [
                *(() if sliced is None else sliced.checks),
                {key: detector.snapshot(history) for key, detector in found if detector is not None},
            ],
            "observers": [
                [None if trusted is None else list(trusted), observer.snapshot()]
                for trusted, observer in self.observers.items()
            ],
            "scopes": [*(() if sliced is None else sliced.scopes), _said(node for node in nodes if node is not None)],
        }

    def restore(self, state: dict[str, Any], shift: float, vantage: str) -> None:
        """Go on from a snapshot, as far as it speaks of what is watched now."""
        for key, kept in (item for part in state["checks"] for item in part.items()):
            detector = self.detectors.get(key)
            if detector is not None and kept["asks"] == detector.asks:
                detector.restore(kept, shift)
        for trusted, kept in state["observers"]:
            observer = self.observers.get(None if trusted is None else tuple(trusted))
            if observer is not None:
                observer.restore(kept, shift, vantage)
        for value, held, shown, names in (item for part in state["scopes"] for item in part):
            for place in ((scope, name) for scope, some in names.items() for name in some):
                node = self.scopes.get(place)
                if node is not None and (node.leaf is None or node.leaf.ever_up):
                    node.value, node.held, node.shown = value, held, Verdict(shown)


def _adopt(node: Node, child: Node) -> None:
    """Let a node have a child that may have been there before."""
    if node not in child.parents:
        child.parents.append(node)
        node.downs += child.value is False


def _with_all_above(nodes: Iterable[Node]) -> list[Node]:
    found = dict.fromkeys(nodes)
    todo = list(found)
    while todo:
        above = [parent for parent in todo.pop().parents if parent not in found]
        found.update(dict.fromkeys(above))
        todo += above
    return list(found)
