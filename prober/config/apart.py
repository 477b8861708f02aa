"""Loads a large set of targets without disturbing the agent that runs on another one.

Reading 100,000 checks takes ten seconds of Python, and a thread would have the event loop wait for the interpreter's
lock each time that a probe is sent. So a child process reads, and hands over what it read in small pieces.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import is_
from typing import IO, Final

from prober.blackbox.kind import KINDS
from prober.config.load import Config, load
from prober.config.problems import ConfigError
from prober.config.settings import Settings
from prober.model import Entity, Target

log = logging.getLogger(__name__)

CHECKS_MIN: Final = 2_000
"""Fewer are read within a fifth of a second: a child takes longer to start."""
PIECE: Final = 50
"""Targets that are handed over at one go: less than a millisecond."""
PAUSE_SECONDS: Final = 0.001
"""Between two pieces, so that the event loop has the interpreter's lock when it wants it."""
NICE: Final = 10
_CHILD: Final = "import sys; sys.path[:] = {path!r}; from prober.config.apart import serve; serve()"


def load_beside(before: Config, settings: Settings) -> Config:
    """As `load`, with all that is equal in `before` taken from there, so that who compares sees at once what is new.

    To be called in a thread. Raises ConfigError.
    """
    checks = sum(len(target.checks) for entity in before.entities for target in entity.targets)
    if checks >= CHECKS_MIN:
        try:
            return _from_child(before, settings)
        except (OSError, EOFError, pickle.PickleError) as error:
            log.warning("targets are read in the agent's own process: probes may be late", extra={"reason": str(error)})
    config = load(settings)
    return replace(config, entities=_same(before.entities, _shared(before.entities, config.entities)))


def _shared(before: Iterable[Entity], entities: Iterable[Entity]) -> Iterator[Entity]:
    known = {entity.name: entity for entity in before}
    for entity in entities:
        yield _Sharing(known.get(entity.name)).entity(entity, entity.targets)


def _same(before: tuple[Entity, ...], entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """`before` itself if it holds the very same."""
    found = tuple(entities)
    same = len(found) == len(before) and all(map(is_, found, before))
    return before if same else found


class _Sharing:
    """Takes from an entity as it was whatever is equal in the one that was read."""

    def __init__(self, before: Entity | None) -> None:
        self._before = before
        self._targets = {} if before is None else {target.name: target for target in before.targets}

    def target(self, target: Target) -> Target:
        known = self._targets.get(target.name)
        if known is None:
            return target
        if known == target:
            return known
        checks = {check.key: check for check in known.checks}
        shared = (one if (old := checks.get(one.key)) is None or old != one else old for one in target.checks)
        return replace(target, checks=tuple(shared))

    def entity(self, entity: Entity, targets: Iterable[Target]) -> Entity:
        """The entity with these targets."""
        found = tuple(map(self.target, targets))
        old = self._before
        if old is None or replace(entity, targets=()) != replace(old, targets=()):
            return replace(entity, targets=found)
        same = len(found) == len(old.targets) and all(map(is_, found, old.targets))
        return old if same else replace(entity, targets=found)


# -- the two ends ------------------------------------------------------------------------------------------------------


def _from_child(before: Config, settings: Settings) -> Config:
    command = [sys.executable, "-c", _CHILD.format(path=sys.path)]
    known = {entity.name: entity for entity in before.entities}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            pickle.dump(settings, child.stdin)
            child.stdin.close()
            kind, value = pickle.load(child.stdout)
            if kind == "problems":
                raise ConfigError(value)
            if kind == "defect":
                raise pickle.PickleError(value)
            config: Config = value
            entities = tuple(_received(child.stdout, known))
        except BaseException:
            child.kill()
            raise
    return replace(config, settings=settings, entities=_same(before.entities, entities))


def _received(stream: IO[bytes], known: dict[str, Entity]) -> Iterator[Entity]:
    """The entities, made of pieces. Ends at the end mark; raises EOFError if the stream ends before."""
    while (shell := pickle.load(stream)) is not None:
        sharing = _Sharing(known.get(shell.name))
        targets: list[Target] = []
        while piece := pickle.load(stream):
            targets += map(sharing.target, piece)
            time.sleep(PAUSE_SECONDS)
        yield sharing.entity(shell, targets)


def serve() -> None:
    """The child: settings come in, what they lead to goes out."""
    os.nice(NICE)
    out = sys.stdout.buffer
    try:
        config = load(pickle.load(sys.stdin.buffer), KINDS)
        _send(out, config)
    except ConfigError as error:
        pickle.dump(("problems", tuple(error.problems)), out)
    except Exception as error:  # what cannot be handed over (a module's compiled program): the agent reads by itself
        pickle.dump(("defect", f"{type(error).__name__}: {error}"), out)
    out.flush()


def _send(out: IO[bytes], config: Config) -> None:
    pieces = [pickle.dumps(("config", replace(config, entities=())))]
    for entity in config.entities:
        pieces.append(pickle.dumps(replace(entity, targets=())))
        targets = entity.targets
        pieces += [pickle.dumps(targets[first : first + PIECE]) for first in range(0, len(targets), PIECE)]
        pieces.append(pickle.dumps(()))
    out.writelines((*pieces, pickle.dumps(None)))  # only now: what cannot be handed over has shown by itself
