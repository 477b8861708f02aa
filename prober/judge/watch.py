"""What is watched: the detectors, the scopes above them, and the references that vouch for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prober.judge.detector import Detector
from prober.judge.observer import Observer
from prober.judge.records import Settings, Verdict
from prober.judge.rollup import Node, build
from prober.model import Entity, Reference


class Watch:
    """Built from the configuration; what stays the same in `before` is taken over with its state."""

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
        self.detectors: dict[str, Detector] = {}
        self.observers: dict[tuple[str, ...] | None, Observer] = {}
        self.observer_of: dict[str, Observer] = {}  # by check
        self.nodes: list[Node] = []
        self.leaves: dict[str, list[Node]] = {}
        same_references = before is not None and before.references == self.references
        for entity in entities:
            trusted = None if entity.references == "default" else tuple(sorted(entity.references))
            if trusted not in self.observers:
                chosen = [one for one in self.references if trusted is None or one.name in trusted]
                kept = before.observers.get(trusted) if before is not None and same_references else None
                self.observers[trusted] = kept or Observer(chosen, named, settings.confirm_interval_seconds)
            for target in entity.targets:
                for check in target.checks:
                    detector = Detector(check, settings)
                    old = before.detectors.get(check.key) if before is not None else None
                    if old is not None and old.asks == detector.asks:
                        old.reconfigure(check, settings)
                        detector = old
                    self.detectors[check.key] = detector
                    self.observer_of[check.key] = self.observers[trusted]
            for node in build(entity, self.detectors):
                self.nodes.append(node)
                if node.leaf is not None:
                    self.leaves.setdefault(node.leaf.key, []).append(node)
        self.scopes: dict[tuple[str, str], Node] = {(node.scope, node.name): node for node in self.nodes if node.scope}
        if before is not None:
            for place, node in self.scopes.items():
                old_node = before.scopes.get(place)
                if old_node is not None and (node.leaf is None or node.leaf is old_node.leaf):
                    node.value, node.held, node.shown = old_node.value, old_node.held, old_node.shown

    def snapshot(self, history: bool, prepared: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values that `restore` takes. What is `prepared` is taken from there."""
        return {
            "checks": {
                key: prepared.get(key) or detector.snapshot(history) for key, detector in self.detectors.items()
            },
            "observers": [
                [None if trusted is None else list(trusted), observer.snapshot()]
                for trusted, observer in self.observers.items()
            ],
            "scopes": [[*place, node.value, node.held, str(node.shown)] for place, node in self.scopes.items()],
        }

    def restore(self, state: dict[str, Any], shift: float, vantage: str) -> None:
        """Go on from a snapshot, as far as it speaks of what is watched now."""
        for key, kept in state["checks"].items():
            detector = self.detectors.get(key)
            if detector is not None and kept["asks"] == detector.asks:
                detector.restore(kept, shift)
        for trusted, kept in state["observers"]:
            observer = self.observers.get(None if trusted is None else tuple(trusted))
            if observer is not None:
                observer.restore(kept, shift, vantage)
        for scope, name, value, held, shown in state["scopes"]:
            node = self.scopes.get((scope, name))
            if node is not None and (node.leaf is None or node.leaf.ever_up):
                node.value, node.held, node.shown = value, held, Verdict(shown)
