"""One check: the run of failures that may be an outage, when it is one, and between which probes it began and ended.

The sequential test adds a failure's log-likelihood ratio to S, and a success sets S back to 0; what is needed to
reach the threshold is fixed when a run begins, so S is kept as the number of failures that count. A success that was
sent later than a failure takes that failure away: the order of arrival does not matter, the order of sending does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from hashlib import blake2b
from math import ceil, floor, inf
from typing import Any, Final

from prober.failures import Side, side_of
from prober.judge.onset import History
from prober.judge.records import Settings
from prober.judge.responsiveness import Responsiveness, threshold
from prober.model import Check, Observation

KEPT: Final = 48  # failures kept at either end of a run: more than k can be, with room for those of other members
PATIENCE: Final = 20.0  # probes are spaced by 1/20 of the time that a run has lasted, between their limits


class Evidence:
    """A failure that the references have not settled yet."""

    __slots__ = ("label", "late", "regular", "resolver", "sent_at")

    def __init__(self, sent_at: float, label: str, regular: bool, resolver: bool) -> None:
        self.sent_at = sent_at
        self.label = label
        self.regular = regular
        self.resolver = resolver  # only references' names can tell whose fault it was
        self.late = False  # known only after a success that was sent later: nothing was probed beside it


class Run:
    """Failures since the last success, by send time."""

    __slots__ = (
        "failures",
        "first_at",
        "head",
        "horizon",
        "k",
        "needed",
        "pending",
        "tail",
        "taught",
        "total",
        "voids",
    )

    def __init__(self, first_at: float, needed: int, k: int) -> None:
        self.first_at = first_at
        self.needed = needed  # failures that make an outage
        self.k = k  # failures that one true cause must be among
        self.pending: list[Evidence] = []
        self.head: list[float] = []  # the first failures that count
        self.tail: list[float] = []  # the last ones
        self.total = 0
        self.taught = 0  # regular probes among those that count: learned if the run was loss
        self.horizon = inf  # when there were enough: what was in flight then is awaited, later probes are not
        self.voids = 0  # how many in a row the references have just made void
        self.failures: dict[str, int] = {}

    def count(self, evidence: Evidence) -> None:
        """The references vouch for the observer at that moment: this failure counts."""
        if len(self.head) < KEPT:
            insort(self.head, evidence.sent_at)
        insort(self.tail, evidence.sent_at)
        del self.tail[:-KEPT]
        self.total += 1
        self.taught += evidence.regular
        self.voids = 0
        self.failures[evidence.label] = self.failures.get(evidence.label, 0) + 1


_NO_START: Final = (None, 0.0, 0.0)
_USUAL: Final[Mapping[str, Any]] = {
    "ever_up": True,
    "down": False,
    "observed": True,
    "ours": "",
    "lessons": (),
    "start": _NO_START,
    "end": None,
    "ended_tail": (),
    "ended_failures": {},
}
"""What a check is where its snapshot says nothing else. Its times are that of the last success then."""


class Detector:
    """The state of one check."""

    __slots__ = (
        "_asks",
        "asked",
        "check",
        "confirm_interval",
        "down",
        "end",
        "ended_failures",
        "ended_tail",
        "ever_up",
        "flight",
        "history",
        "key",
        "last_ok",
        "last_sent",
        "learned",
        "learned_at",
        "lessons",
        "member_asked",
        "observed",
        "ours",
        "regular_at",
        "run",
        "start",
        "threshold",
    )

    def __init__(self, check: Check, settings: Settings) -> None:
        self.check = check
        self.key = check.key
        self._asks: str | None = None
        self.confirm_interval = settings.confirm_interval_seconds
        self.threshold = threshold(check.interval_seconds, settings.false_outages_per_year)
        self.learned = Responsiveness(check.interval_seconds)
        self.history = History(settings.onset_look_back_seconds)
        self.lessons: list[Evidence] = []  # regular probes that were lost while up, as soon as the references vouch
        self.learned_at = -inf  # the newest regular probe that was learned
        self.ever_up = False
        self.down = False
        self.observed = False
        self.ours = ""  # the failure of our own side that made it unknown
        self.last_ok: float | None = None
        self.last_sent = -inf
        self.regular_at: float | None = None
        self.flight: list[float] = []
        self.run: Run | None = None
        self.asked: float | None = None  # when the confirmation that was asked for is due
        self.member_asked: float | None = None
        self.start: tuple[float | None, float, float] = _NO_START  # of the open outage: after, by, first failure
        self.end: tuple[float, float] = (-inf, -inf)  # of the last outage that closed: after, by
        self.ended_tail: list[float] = []  # its last failures
        self.ended_failures: dict[str, int] = {}

    @property
    def asks(self) -> str:
        """What is asked of whom, as a hash: a check that asks something else under the same name is another check."""
        if self._asks is None:  # once: every snapshot has it, and to write the options out takes longer than the rest
            text = f"{self.check.kind} {self.check.options!r}"
            self._asks = blake2b(text.encode(), digest_size=12).hexdigest()
        return self._asks

    def asks_the_same(self, other: Check) -> bool:
        """Whether `other` asks what this check asks."""
        mine = self.check
        return mine.kind == other.kind and (mine.options is other.options or repr(mine.options) == repr(other.options))

    def reconfigure(self, check: Check, settings: Settings) -> None:
        """The same question, perhaps at another pace: what was learned stays."""
        self._asks = None
        self.check = check
        self.confirm_interval = settings.confirm_interval_seconds
        self.threshold = threshold(check.interval_seconds, settings.false_outages_per_year)

    # what arrives

    def succeeded_calmly(self, sent_at: float, regular: bool, duration_seconds: float) -> None:
        """Fold a success in while up, seen, and with nothing under way: what `succeeded` comes to then."""
        if self.last_ok is None or sent_at > self.last_ok:
            self.last_ok = sent_at
        self.ever_up = True
        self.ours = ""
        self.asked = None
        if regular:
            self.learned.learn(False, self._position(sent_at))
            self.history.add(sent_at, False, duration_seconds)

    def succeeded(self, observation: Observation) -> bool:
        """Fold a success in. True: it was the first of a check that was down."""
        sent_at = observation.sent_at
        if self.last_ok is None or sent_at > self.last_ok:
            self.last_ok = sent_at
        self.ever_up = self.observed = True
        self.ours = ""
        run = self.run
        restored = False
        if run is not None:
            if self.down:
                if sent_at <= self.start[2]:
                    return False  # sent before the outage began: says nothing about its end
                self.end = (self._certain(run, sent_at), sent_at)
                self.ended_tail = run.tail[: bisect_left(run.tail, sent_at)]
                self.ended_failures = run.failures
                self.down, restored = False, True
            else:
                for _ in range(run.taught):
                    self.lost(run.first_at)
                run.taught = 0
                self.lessons += [one for one in run.pending if one.regular and one.sent_at <= sent_at]
            self._cut(run, sent_at)
        if self.run is None:
            self.asked = None
        if observation.reason == "regular" and not restored:
            self.learned.learn(False, self._position(sent_at))
            self.history.add(sent_at, False, observation.duration_seconds)
        return restored

    def failed(self, observation: Observation) -> None:
        """Fold a failure in. One of our own side says nothing about the target."""
        failure = observation.failure
        assert failure is not None
        assert observation.operation is not None
        side = side_of(failure)
        if side is Side.OURS:
            self.observed = False
            self.ours = str(failure)
            return
        if not self.ever_up:
            return  # nothing to lose
        regular = observation.reason == "regular"
        evidence = Evidence(observation.sent_at, f"{observation.operation}/{failure}", regular, side is Side.RESOLVER)
        if self.last_ok is not None and observation.sent_at <= self.last_ok:
            # a later one was answered first (the timeout is longer than the interval): loss, and no part of a run
            if regular and not self.down and observation.sent_at > self.end[1]:
                evidence.late = True
                self.lessons.append(evidence)
            return
        self.ours = ""
        run = self.run
        if run is None:
            needed, k = self.learned.needed(self.threshold)
            run = self.run = Run(observation.sent_at, needed, k)
        elif observation.sent_at < run.first_at:
            run.first_at = observation.sent_at
        run.pending.append(evidence)

    def lost(self, sent_at: float) -> None:
        """A regular probe was lost while the check was up, and it was not us: learn it."""
        self.learned.learn(True, self._position(sent_at))
        self.history.add(sent_at, True, 0.0)

    def _position(self, sent_at: float) -> int:
        """How many regular probes that were sent after `sent_at` have been learned, for one that came late."""
        if sent_at >= self.learned_at:
            self.learned_at = sent_at
            return 0
        return ceil((self.learned_at - sent_at) / self.check.interval_seconds - 0.5)

    def _cut(self, run: Run, sent_at: float) -> None:
        """Forget the failures that were sent before a success. Those sent after it begin a new run."""
        pending = [evidence for evidence in run.pending if evidence.sent_at > sent_at]
        later = run.tail[bisect_left(run.tail, sent_at) :]
        if not pending and not later:
            self.run = None
            return
        needed, k = self.learned.needed(self.threshold)
        first_at = min([*later[:1], *(evidence.sent_at for evidence in pending)])
        label = next(iter(run.failures), "receive/timeout")
        self.run = Run(first_at, needed, k)
        for at in later:
            self.run.count(Evidence(at, label, False, False))
        self.run.pending = pending

    # what follows

    def potential(self) -> int:
        """Failures that count, if everything that is still open turns out to be one."""
        run = self.run
        return 0 if run is None else run.total + len(run.pending) + len(self.flight)

    def suspicious(self) -> bool:
        """It will be suspect, if everything that is still open turns out to be a failure."""
        return self.run is not None and self.potential() >= self.run.k

    def unsettled(self) -> bool:
        """Something here waits for what the references say."""
        return bool(self.lessons) or (self.run is not None and bool(self.run.pending))

    def awaited(self, enough: int) -> bool:
        """The failures that count are `enough`: is a probe in flight that may still prove them wrong?"""
        run = self.run
        assert run is not None
        if run.horizon == inf and run.total >= enough:
            run.horizon = self.last_sent
        return any(at <= run.horizon for at in self.flight)

    def open(self) -> None:
        """It is an outage."""
        run = self.run
        assert run is not None
        self.down = self.observed = True
        self.start = (self.last_ok, run.head[min(run.k, run.total) - 1], run.head[0])

    def suspect(self) -> bool:
        """Down, or so many failures that chance is a poor explanation."""
        return self.down or (self.run is not None and self.run.total >= self.run.k)

    def _certain(self, run: Run, before: float) -> float:
        """The k-th-last failure before `before`: it was still down then."""
        earlier = run.tail[: bisect_left(run.tail, before)]
        return earlier[-run.k] if len(earlier) >= run.k else self.start[1]

    def certain_until(self) -> float:
        """Of the open outage: still down then."""
        assert self.run is not None
        return self._certain(self.run, inf)

    def first_failures(self) -> list[float]:
        """The first failures of the run that counted, in order of sending."""
        return self.run.head if self.run is not None else []

    def next_probe(self, now: float) -> float:
        """When the next probe beside the regular ones is due: every `confirm_interval` at first, ever slower later.

        A relative error of 1/20 in the end of a long outage is fine; a short one deserves every probe it can get, and
        what may be an outage is not asked more slowly before it can be known. At the slowest, the probes divide the
        regular rounds evenly.
        """
        run = self.run
        assert run is not None
        interval = self.check.interval_seconds
        slowest = max(self.confirm_interval, interval / max(3, run.k))
        last = max(self.last_sent, run.first_at)
        lasted = last - run.first_at
        if not self.down:
            lasted -= run.needed * self.confirm_interval
        spacing = min(slowest, max(self.confirm_interval, lasted / PATIENCE))
        if spacing < slowest or self.regular_at is None:
            return max(now, last + spacing)
        step = floor((last - self.regular_at) / slowest + 1.5)
        rounds = max(1, ceil(interval / slowest - 1e-9))
        if step % rounds == 0:
            return inf  # the regular round is that probe
        return max(now, self.regular_at + step * slowest)

    # snapshots

    def is_calm(self) -> bool:
        """Neither down, nor in trouble, nor with something left to learn."""
        return not (self.down or self.run is not None or self.lessons)

    def snapshot(self, history: bool) -> dict[str, Any]:
        """Plain values that `restore` takes; the history of loss is the bulk, and changes slowly.

        What is so of nearly all checks, of which there may be a hundred thousand, is left out: see _USUAL.
        """
        last_ok = self.last_ok
        state: dict[str, Any] = {"asks": self.asks, "last_ok": last_ok, "learned": self.learned.snapshot()}
        if not (self.ever_up and self.observed) or self.down or self.ours:
            state |= {"ever_up": self.ever_up, "down": self.down, "observed": self.observed, "ours": self.ours}
        if self.last_sent != last_ok:
            state["last_sent"] = None if self.last_sent == -inf else self.last_sent
        if self.regular_at != last_ok:
            state["regular_at"] = self.regular_at
        if self.learned_at != last_ok:
            state["learned_at"] = None if self.learned_at == -inf else self.learned_at
        if self.lessons:
            state["lessons"] = [[one.sent_at, one.label, one.resolver] for one in self.lessons]
        if self.start != _NO_START:
            state["start"] = list(self.start)
        if self.end[1] != -inf:
            state |= {"end": list(self.end), "ended_tail": self.ended_tail[:]}
            state["ended_failures"] = dict(self.ended_failures)
        if self.run is not None:
            run = self.run
            state["run"] = {
                "first_at": run.first_at,
                "needed": run.needed,
                "k": run.k,
                "head": run.head[:],
                "tail": run.tail[:],
                "total": run.total,
                "taught": run.taught,
                "voids": run.voids,
                "failures": dict(run.failures),
                "pending": [[e.sent_at, e.label, e.regular, e.resolver] for e in run.pending],
            }
        if history:
            state["history"] = self.history.snapshot()
        return state

    def restore(self, state: dict[str, Any], shift: float) -> None:
        """Go on from a snapshot; `shift` is added to every time. What was in flight is lost."""

        def moved(at: float | None) -> float | None:
            return None if at is None else at + shift

        state = {**_USUAL, **dict.fromkeys(("last_sent", "regular_at", "learned_at"), state["last_ok"]), **state}
        self.ever_up, self.down, self.observed, self.ours = (
            state["ever_up"],
            state["down"],
            state["observed"],
            state["ours"],
        )
        self.last_ok, self.regular_at = moved(state["last_ok"]), moved(state["regular_at"])
        self.last_sent = -inf if state["last_sent"] is None else state["last_sent"] + shift
        self.learned.restore(state["learned"])
        self.learned_at = -inf if state["learned_at"] is None else state["learned_at"] + shift
        self.lessons = [Evidence(at + shift, label, True, resolver) for at, label, resolver in state["lessons"]]
        if state["start"] is not _NO_START:
            after, by, first = state["start"]
            self.start = (moved(after), by + shift, first + shift)
        if state["end"] is not None:
            self.end = (state["end"][0] + shift, state["end"][1] + shift)
        self.ended_tail = [at + shift for at in state["ended_tail"]]
        self.ended_failures = dict(state["ended_failures"])
        self.run = None
        if "run" in state:
            kept = state["run"]
            run = self.run = Run(kept["first_at"] + shift, kept["needed"], kept["k"])
            run.head = [at + shift for at in kept["head"]]
            run.tail = [at + shift for at in kept["tail"]]
            run.total, run.taught, run.voids = kept["total"], kept["taught"], kept["voids"]
            run.failures = dict(kept["failures"])
            run.pending = [Evidence(at + shift, label, regular, res) for at, label, regular, res in kept["pending"]]
        if "history" in state:
            self.history.restore(state["history"], shift)
