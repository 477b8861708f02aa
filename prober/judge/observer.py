"""Is it us? References in distinct networks, probed beside every failure that is to count.

Two lanes of the same rules: `reach` (does this vantage reach anything) and `names` (does its resolver work). A
failure of the reference that was probed beside a failure makes that failure void: one that is lost together with a
reference's probe says nothing. Which reference that is goes round. A network counts as silent after three losses in a
row; most networks silent is an observer offline; one silent alone is ignored, and what lies between blocks every
opening.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from prober.failures import Side, side_of
from prober.judge.records import Gap, GapCause, ProbeReference
from prober.model import Check, Observation, Reference

SILENT_AFTER: Final = 3  # losses in a row
PATIENCE: Final = 20.0  # while offline: ask again after 1/20 of the time that it has lasted
SLOWEST_SECONDS: Final = 10.0
GIVEN_UP_SECONDS: Final = 60.0
RESULTS_MAX: Final = 512


@dataclass(slots=True)
class Network:
    """The references of one network, in one lane."""

    name: str
    checks: list[Check]
    losses: int = 0  # in a row
    failed_at: float = -inf  # the first of them
    lost: list[float] = field(default_factory=list)  # the first and the last of them
    last_ok: float = -inf
    last_sent: float = -inf
    asked: float | None = None
    asked_check: str = ""
    turn: int = 0


class Lane:
    """References that vouch for one thing."""

    def __init__(self, networks: dict[str, list[Check]], confirm_interval: float, names: bool) -> None:
        self.networks = [Network(name, checks) for name, checks in sorted(networks.items())]
        self.by_check = {check.key: network for network in self.networks for check in network.checks}
        self.interval = confirm_interval
        self.names = names
        self.flight: dict[str, list[float]] = {}
        self.flying: list[float] = []  # the same, of all checks
        self.results: deque[tuple[float, str, bool]] = deque()  # in the order of arrival, RESULTS_MAX at the most
        self.by_time: list[tuple[float, str, bool]] = []  # the same, in the order of sending
        self.turn = 0
        self.changed = False
        self.failing: list[Network] = []  # have lost their last
        self.silent: list[Network] = []  # have lost three in a row
        self.offline = False  # most networks are silent
        self.mixed = False  # some networks are silent, and it is neither most nor one alone of three or more
        # the last time that anything of ours was answered, and the first failure after it
        self.last_ok: float | None = None
        self.first_failure: float | None = None
        self.last_failure: float | None = None
        self.first_ok: float | None = None
        self.blind: tuple[float, float] | None = None  # when it was offline last: what was sent between says nothing

    # what arrives

    def sent(self, key: str, at: float) -> None:
        """A reference's check was sent."""
        network = self.by_check.get(key)
        if network is None:
            return
        self.flight.setdefault(key, []).append(at)
        self.flying.append(at)
        network.last_sent = max(network.last_sent, at)
        if network.asked is not None and network.asked <= at + self.interval / 2:
            network.asked = None

    def withdrawn(self, key: str, at: float) -> None:
        """It will have no result."""
        sent = self.flight.get(key)
        if sent is not None and at in sent:
            sent.remove(at)
            self.flying.remove(at)

    def observe(self, observation: Observation) -> None:
        """A reference's result."""
        key, at = observation.check.key, observation.sent_at
        network = self.by_check.get(key)
        if network is None:
            return
        self.withdrawn(key, at)
        answered = observation.success
        if not answered and self.names:
            assert observation.failure is not None
            # the name was resolved, and what failed came after: the resolver works
            answered = observation.operation != "resolve" and side_of(observation.failure) is Side.TARGET
        self._remember((at, network.name, answered))
        while self.results[0][0] < at - GIVEN_UP_SECONDS:
            self._forget_one()
        if answered:
            self.note_success(at)
            network.last_ok = max(network.last_ok, at)
        else:
            self.note_failure(at)
            if self.first_ok is not None and at > self.first_ok:
                self.first_ok = None  # it was a flicker
            network.lost.append(at)
        network.lost = [sent for sent in network.lost[:1] + network.lost[1:][-SILENT_AFTER:] if sent > network.last_ok]
        network.losses = len(network.lost)
        network.failed_at = min(network.lost, default=-inf)
        self._look_who_is_silent()
        self.changed = True

    def _remember(self, result: tuple[float, str, bool]) -> None:
        if len(self.results) == RESULTS_MAX:
            self._forget_one()
        self.results.append(result)
        insort(self.by_time, result)

    def _forget_one(self) -> None:
        del self.by_time[bisect_left(self.by_time, self.results.popleft())]

    def _look_who_is_silent(self) -> None:
        self.failing = [network for network in self.networks if network.losses]
        self.silent = [network for network in self.failing if network.losses >= SILENT_AFTER]
        silent = len(self.silent)
        before, self.offline = self.offline, 2 * silent > len(self.networks)
        if before and not self.offline:
            begin, end = self.first_failure, self.first_ok
            self.blind = None if begin is None or end is None else (begin, end)
        self.mixed = silent > 0 and not self.offline and not (silent == 1 and len(self.networks) >= 3)

    def _cut_off(self, at: float) -> bool:
        """Was `at` in the time of being offline, this one or the last: between a failure and the next sign of life?"""
        if not self.offline:
            return self.blind is not None and self.blind[0] < at < self.blind[1]
        begun = self.first_failure is not None and self.first_failure < at
        return begun and (self.first_ok is None or at < self.first_ok)

    def note_success(self, at: float) -> None:
        """Something answered a probe that was sent at `at`."""
        if self.first_failure is not None and at > self.first_failure:
            if self.first_ok is None or at < self.first_ok:
                self.first_ok = at
            if not self.offline:
                self.first_failure = self.last_failure = self.first_ok = None
        if (self.last_ok is None or at > self.last_ok) and (self.first_failure is None or at < self.first_failure):
            self.last_ok = at

    def note_failure(self, at: float) -> None:
        """Something of which nothing came back, ours or not."""
        if self.last_ok is not None and at <= self.last_ok:
            return
        if self.first_failure is None or at < self.first_failure:
            self.first_failure = at
        if (self.last_failure is None or at > self.last_failure) and (self.first_ok is None or at < self.first_ok):
            self.last_failure = at

    # what follows

    def vouch(self, at: float, beside: bool) -> bool | None:
        """Did we reach the world when a probe was sent at `at`? None: not known yet.

        `beside`: a reference was probed at that very moment. Otherwise (a regular round) the next reference tells: its
        probe follows as soon as the failure is known.
        """
        near = self.interval / 2 + 1e-9
        silent = () if self.offline else tuple(network.name for network in self.silent)
        told = self.by_time[bisect_left(self.by_time, (at - near,)) :]
        asked = at
        if not beside:
            first = next((sent for sent, name, ok in told if ok or name not in silent), inf)
            if first == inf or any(at - near <= sent < first - 1e-9 for sent in self.flying):
                return None
            asked = first
        seen = False
        for sent, name, ok in told:
            if abs(sent - asked) > near:
                if sent > asked:
                    break
            elif ok:
                seen = True
            elif name not in silent:
                return False
        if not seen:
            return None
        for sent in self.flying:
            if abs(sent - asked) <= near:
                return None
        # That a reference answers again says nothing of what was lost before it did.
        return not self._cut_off(at)

    def beside(self, at: float) -> bool:
        """Was a reference probed beside a probe that was sent at `at`, or asked for? (Half as far as `vouch` looks.)"""
        near = self.interval / 4
        around = bisect_left(self.by_time, (at - 2 * near,)), bisect_left(self.by_time, (at + 2 * near,))
        return (
            any(abs(sent - at) <= near for sent in self.flying)
            or any(abs(sent - at) <= near for sent, _, _ in self.by_time[slice(*around)])
            or any(network.asked is not None and abs(network.asked - at) <= near for network in self.networks)
        )

    def ask(self, at: float) -> list[ProbeReference]:
        """Probe the next reference in turn at `at`, unless one is already beside it."""
        if not self.networks or self.beside(at):
            return []
        for _ in self.networks:
            self.turn = (self.turn + 1) % len(self.networks)
            if self.networks[self.turn].losses < SILENT_AFTER:
                break
        return [self._ask(self.networks[self.turn], at)]

    def _ask(self, network: Network, at: float) -> ProbeReference:
        check = network.checks[network.turn % len(network.checks)]
        network.turn += 1
        network.asked, network.asked_check = at, check.key
        return ProbeReference(check, at)

    def decide(self, now: float) -> list[ProbeReference]:
        """Ask until it is clear who is silent: the doubtful again, and the others too."""
        failing = self.failing
        if not failing:
            return []
        unclear = self.mixed or self.offline
        doubtful = [network.failed_at for network in failing if network.losses < SILENT_AFTER]
        if not doubtful and not unclear:
            return []
        since = min(doubtful or [network.failed_at for network in failing])
        spacing = min(SLOWEST_SECONDS, max(self.interval, (now - since) / PATIENCE))
        requests = []
        for network in self.networks:
            if network.asked is not None:
                continue
            flying = sum(len(self.flight.get(check.key, ())) for check in network.checks)
            if network.losses == 0:
                if network.last_ok >= since or flying:
                    continue  # it answered after the trouble began
            elif network.losses >= SILENT_AFTER:
                if not unclear:
                    continue  # down alone: its own regular rounds will tell when it is back
            elif network.losses + flying >= SILENT_AFTER:
                continue
            requests.append(self._ask(network, max(now, network.last_sent + spacing)))
        return requests

    def caught_up(self) -> None:
        """The gap is closed: what was seen after it counts from now on."""
        self.last_ok = self.first_ok
        self.first_failure = self.last_failure = self.first_ok = None

    def sweep(self, now: float) -> None:
        """Give up what the runner never reported or never sent."""
        for check, sending in self.flight.items():
            self.flight[check] = [at for at in sending if at > now - GIVEN_UP_SECONDS]
        self.flying = [at for at in self.flying if at > now - GIVEN_UP_SECONDS]
        for network in self.networks:
            if network.asked is not None and network.asked < now - GIVEN_UP_SECONDS:
                network.asked = None

    def snapshot(self) -> dict[str, Any]:
        """Plain values that `restore` takes."""
        return {
            "networks": {n.name: [n.lost[:], None if n.last_ok == -inf else n.last_ok] for n in self.networks},
            "results": [list(result) for result in self.results],
            "turn": self.turn,
            "last_ok": self.last_ok,
            "first_failure": self.first_failure,
            "last_failure": self.last_failure,
            "first_ok": self.first_ok,
            "blind": None if self.blind is None else list(self.blind),
        }

    def restore(self, state: dict[str, Any], shift: float) -> None:
        """Go on from a snapshot."""

        def moved(at: float | None) -> float | None:
            return None if at is None else at + shift

        for network in self.networks:
            if network.name in state["networks"]:
                lost, last_ok = state["networks"][network.name]
                network.last_ok = -inf if last_ok is None else last_ok + shift
                network.lost = [at + shift for at in lost]
                network.losses = len(lost)
                network.failed_at = min(network.lost, default=-inf)
        self._look_who_is_silent()
        for at, name, ok in state["results"]:
            self._remember((at + shift, name, ok))
        self.turn = state["turn"] % max(1, len(self.networks))
        self.last_ok, self.first_failure = moved(state["last_ok"]), moved(state["first_failure"])
        self.last_failure, self.first_ok = moved(state["last_failure"]), moved(state["first_ok"])
        blind = state.get("blind")
        self.blind = None if blind is None else (blind[0] + shift, blind[1] + shift)


class Observer:
    """The references that one or more entities trust."""

    def __init__(self, references: list[Reference], named: frozenset[str], confirm_interval: float) -> None:
        literal: dict[str, list[Check]] = {}
        by_name: dict[str, list[Check]] = {}
        for reference in references:
            for check in reference.checks:
                (by_name if check.key in named else literal).setdefault(reference.network, []).append(check)
        # references by name alone must do for both: then a dead resolver is an observer offline
        self.reach = Lane(literal or by_name, confirm_interval, names=False)
        self.names = Lane(by_name, confirm_interval, names=True)
        self.switched_off = not references
        self.gap: Gap | None = None  # open: this vantage is offline
        self.gap_began = 0.0
        self._told = (False, False)

    def turned(self) -> bool:
        """Has it changed, since this was last asked, whether we see or whether anything may be opened?"""
        before, self._told = self._told, (self.reach.offline, self.reach.mixed)
        return before != self._told

    def vouch(self, at: float, *, beside: bool, resolver: bool) -> bool | None:
        """Was it not us, at `at`? None: not known yet. Without any reference, whatever we see counts."""
        if self.switched_off:
            return True
        lane = self.names if resolver else self.reach
        return lane.vouch(at, beside) if lane.networks else False

    @property
    def offline(self) -> bool:
        """This vantage cannot see."""
        return self.reach.offline

    @property
    def clear(self) -> bool:
        """No reference has failed lately."""
        return not self.reach.failing

    @property
    def doubtful(self) -> bool:
        """Some network has lost its last probe, or its last name."""
        return bool(self.reach.failing or self.names.failing)

    @property
    def blocked(self) -> bool:
        """Nothing may be opened now."""
        return self.reach.offline or self.reach.mixed

    def snapshot(self) -> dict[str, Any]:
        """Plain values that `restore` takes."""
        gap = self.gap
        return {
            "reach": self.reach.snapshot(),
            "names": self.names.snapshot(),
            "gap": None if gap is None else [gap.id, gap.begin, self.gap_began, list(gap.references)],
        }

    def restore(self, state: dict[str, Any], shift: float, vantage: str) -> None:
        """Go on from a snapshot."""
        self.reach.restore(state["reach"], shift)
        self.names.restore(state["names"], shift)
        self.turned()
        if state["gap"] is not None:
            name, begin, began, references = state["gap"]
            self.gap = Gap(name, vantage, begin, None, GapCause.OFFLINE, references=tuple(references))
            self.gap_began = began + shift
