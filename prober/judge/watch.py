"""What is watched: the detectors, the scopes above them, and the references that vouch for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from prober.judge.detector import Detector
from prober.judge.observer import Observer
from prober.judge.records import Settings, Verdict
from prober.judge.rollup import Node, build
from prober.model import Entity, Reference

T = TypeVar("T")


class Part:
    """What is watched of one entity."""

    def __init__(self, entity: Entity, observer: Observer, settings: Settings, before: Watch | None) -> None:
        """What stays the same in `before` is taken over with its state."""
        self.entity = entity
        self.observer = observer
        self.detectors: dict[str, Detector] = {}
        for target in entity.targets:
            for check in target.checks:
                key = check.key
                detector = before.detectors.get(key) if before is not None else None
                if detector is not None and detector.asks_the_same(check):
                    detector.reconfigure(check, settings)
                else:
                    detector = Detector(check, settings)
                self.detectors[key] = detector
        self.nodes = build(entity, self.detectors)
        self.leaves: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.leaf is not None:
                self.leaves.setdefault(node.leaf.key, []).append(node)
        self.scopes: dict[tuple[str, str], Node] = {(node.scope, node.name): node for node in self.nodes if node.scope}


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
        self._detectors = _slices(list(watch.detectors.items()), size)
        self._nodes = _slices(watch.nodes, 8 * size)  # which cost less

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


def _slices(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _said(nodes: Iterable[Node]) -> list[Any]:
    """What a snapshot says of scopes."""
    return [[node.scope, node.name, node.value, node.held, str(node.shown)] for node in nodes if node.scope is not None]


class Watch:
    """Built from the configuration; what stays the same in `before` is taken over with its state.

    Building changes nothing in `before`, which may be in use meanwhile, but the pace and the options' other form of
    checks that ask the same as before. `take_over` completes it.
    """

    def __init__(
        self,
        entities: Iterable[Entity],
        references: Iterable[Reference],
        settings: Settings,
        named: frozenset[str],
        before: Watch | None = None,
    ) -> None:
        self.references = list(references)
        self.named = named
        self.parts: dict[str, Part] = {}
        self.fresh: list[Part] = []
        """The parts that are not as they were in `before`."""
        self.detectors: dict[str, Detector] = {}
        self.observers: dict[tuple[str, ...] | None, Observer] = {}
        self.observer_of: dict[str, Observer] = {}  # by check
        self.nodes: list[Node] = []
        self.leaves: dict[str, list[Node]] = {}
        self.scopes: dict[tuple[str, str], Node] = {}
        same_references = before is not None and before.references == self.references
        for entity in entities:
            trusted = None if entity.references == "default" else tuple(sorted(entity.references))
            if trusted not in self.observers:
                chosen = [one for one in self.references if trusted is None or one.name in trusted]
                kept = before.observers.get(trusted) if before is not None and same_references else None
                self.observers[trusted] = kept or Observer(chosen, named, settings.confirm_interval_seconds)
            observer = self.observers[trusted]
            part = before.parts.get(entity.name) if before is not None else None
            if part is None or part.entity is not entity or part.observer is not observer:
                part = Part(entity, observer, settings, before)
                self.fresh.append(part)
            self.parts[entity.name] = part
            self.detectors |= part.detectors
            self.observer_of |= dict.fromkeys(part.detectors, observer)
            self.nodes += part.nodes
            self.leaves |= part.leaves
            self.scopes |= part.scopes

    def take_over(self, before: Watch) -> None:
        """Let the fresh scopes go on with the values that they have in `before` at this moment."""
        for part in self.fresh:
            for place, node in part.scopes.items():
                old_node = before.scopes.get(place)
                if old_node is not None and (node.leaf is None or node.leaf is old_node.leaf):
                    node.value, node.held, node.shown = old_node.value, old_node.held, old_node.shown

    def without(self, after: Watch) -> set[tuple[str, str]]:
        """The scopes that `after` has no more."""
        changed = (part for name, part in self.parts.items() if after.parts.get(name) is not part)
        return {place for part in changed for place in part.scopes if place not in after.scopes}

    def release(self, after: Watch) -> None:
        """Nobody asks this one any more, but what `after` has taken over. What knows of each other is parted, or it
        would be left to the garbage collector, by the hundred thousand.
        """
        for name, part in self.parts.items():
            if after.parts.get(name) is not part:
                for node in part.nodes:
                    node.parents.clear()

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
        for scope, name, value, held, shown in (item for part in state["scopes"] for item in part):
            node = self.scopes.get((scope, name))
            if node is not None and (node.leaf is None or node.leaf.ever_up):
                node.value, node.held, node.shown = value, held, Verdict(shown)
