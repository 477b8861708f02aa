"""The one contract of all probe kinds.

A kind is one file in this package that defines its options, its coroutine and a `Kind`, and one line in `PROBES`. The
coroutine gets its options, an `Attempt` to fill with facts, and the `Io` it may use. It returns when the target
answered as expected, and raises `ProbeFailure` when it did not. It never judges, never touches a metric, never
retries, and leaves no task, socket or descriptor behind, also when it is cancelled.
"""

from __future__ import annotations

import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple, NoReturn, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from prober.deadline import Deadline, StallMeter
from prober.failures import Failure, Operation
from prober.model import Fact

_PREPARE: Final = Operation.PREPARE  # to look up a member takes four times as long as this, and every probe does

Family: TypeAlias = Literal["any", "ipv4", "ipv6"]
"""Which address of a name is probed. `any`: an IPv4 address if the name has one, else an IPv6 address."""


class ProbeFailure(Exception):
    """The probe did not get what it wanted. `detail` is raw text for the log, never for a label."""

    def __init__(self, operation: Operation, failure: Failure, detail: str = "") -> None:
        super().__init__(operation, failure, detail)
        self.operation = operation
        self.failure = failure
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.failure} during {self.operation}" + (f": {self.detail}" if self.detail else "")


class Options(BaseModel):
    """Base of every kind's options: unknown keys are refused, values are frozen and not coerced from other types.

    Their validator is built when it is first used: most files have checks of one or two kinds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, in half the time of pydantic's own way: those of a large set are handed over at a start."""
        return _restored, (type(self), self.__dict__, tuple(self.__pydantic_fields_set__), self.__pydantic_private__)


def _restored(kind: type[Options], values: dict[str, Any], given: tuple[str, ...], private: Any) -> Options:
    """What `Options.__reduce__` takes apart."""
    made = kind.__new__(kind)
    for name, value in (
        ("__dict__", values),
        ("__pydantic_fields_set__", set(given)),
        ("__pydantic_extra__", None),
        ("__pydantic_private__", private),
    ):
        object.__setattr__(made, name, value)
    return made


class _Phase:
    """A phase being timed. A class, since a generator's context manager costs several times as much."""

    __slots__ = ("_name", "_phases", "_started")

    def __init__(self, phases: dict[str, float], name: str) -> None:
        self._phases = phases
        self._name = name
        self._started = time.perf_counter()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            seconds = time.perf_counter() - self._started
            self._phases[self._name] = self._phases.get(self._name, 0.0) + seconds


class Attempt:
    """One execution of a probe, filled in as it goes; the runner turns it into an Observation.

    `operation` always names what is being done now, so that a deadline can say what timed out.
    """

    __slots__ = (
        "address",
        "facts",
        "listened_seconds",
        "measured_seconds",
        "operation",
        "phases",
        "resume",
        "started",
        "timeout_seconds",
    )

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.operation = _PREPARE
        self.phases: dict[str, float] = {}
        self.facts: dict[str, Fact] = {}
        self.address: str | None = None
        self.started = time.perf_counter()
        self.listened_seconds = 0.0
        """Spent after the answer, waiting for a second one: no part of the probe's duration."""
        self.measured_seconds: float | None = None
        """The duration, where the kernel's stamps tell it better than our clock."""
        self.resume: Callable[[], None] | None = None
        """Goes on with a probe that is under way without a task, see `net.drive`."""

    def elapsed_seconds(self) -> float:
        """How long it has taken so far."""
        return time.perf_counter() - self.started

    def remaining_seconds(self) -> float:
        """What is left of the timeout, never less than 10 ms."""
        return max(0.01, self.timeout_seconds - (time.perf_counter() - self.started))

    def phase(self, name: str, operation: Operation) -> _Phase:
        """Time a phase, in a `with`. Only a phase that completes is recorded; several of one name add up, as over
        redirects.
        """
        self.operation = operation
        return _Phase(self.phases, name)

    def overdue(self, deadline: Deadline) -> ProbeFailure:
        """What it means that it did not end in time, by what it was doing."""
        if deadline.exhausted:
            detail = f"stalled {deadline.stalled_seconds:.3f} s"
            return ProbeFailure(self.operation, Failure.LOOP_STALLED, detail)
        if self.operation is Operation.PREPARE:
            return ProbeFailure(self.operation, Failure.LOOP_STALLED, "our own preparations took all the time")
        if self.operation is Operation.RESOLVE:
            return ProbeFailure(self.operation, Failure.RESOLVER_TIMEOUT)
        return ProbeFailure(self.operation, Failure.TIMEOUT)

    def fail(self, failure: Failure, detail: str = "", operation: Operation | None = None) -> NoReturn:
        """Raise a ProbeFailure at the current operation."""
        raise ProbeFailure(operation or self.operation, failure, detail)


class Resolver(Protocol):
    """The vantage's resolver. It never blocks the loop and never answers from a cache of its own."""

    async def resolve(self, name: str, family: Family) -> str:
        """The address to probe for `name`. Raises ProbeFailure(RESOLVE, ...) (side RESOLVER or OURS)."""
        ...

    def server(self) -> tuple[str, int]:
        """Address and port of the server that is asked first. Raises ProbeFailure(RESOLVE, RESOLVER_UNREACHABLE)."""
        ...


class EchoReply(NamedTuple):
    """What came back for one echo request. Exactly one of `rtt_seconds` and `failure` is set.

    `sent` is when it was handed to the kernel, by the clock of `time.perf_counter`: there the setup ends and the round
    trip begins. Not when the call came back, by which time the reply may be here.
    """

    sent: float
    rtt_seconds: float | None
    hop_limit: int | None = None
    failure: Failure | None = None
    operation: Operation = Operation.RECEIVE
    detail: str = ""
    reporter: str | None = None  # who sent the ICMP error


EchoDone: TypeAlias = Callable[[EchoReply | None], None]
"""Is told what became of an echo request; None: the sockets were closed meanwhile."""

SendEcho: TypeAlias = Callable[[float, EchoDone], None]
"""Send a prepared echo request now, with a timeout in seconds. Raises ProbeFailure when it could not be sent."""


class Pinger(Protocol):
    """The shared ICMP sockets, one per address family."""

    def prepare(
        self,
        address: str,
        *,
        payload_size: int,
        hop_limit: int | None,
        dont_fragment: bool,
        source: str | None,
    ) -> SendEcho:
        """What sends requests of one shape to one address, again and again."""
        ...

    def echo(
        self,
        address: str,
        *,
        timeout_seconds: float,
        payload_size: int,
        hop_limit: int | None,
        dont_fragment: bool,
        source: str | None,
    ) -> Future[EchoReply]:
        """Send one echo request now. The future gives its reply, its ICMP error, or the timeout; it may be cancelled.

        Raises ProbeFailure when the request could not be sent (our own side).
        """
        ...


@lru_cache(maxsize=65_536)  # the same hosts are asked for again and again, with every probe
def literal(host: str) -> str | None:
    """The address that `host` is, in its usual form; None for a name."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Io:
    """What probes share. Made and closed by the composition root."""

    resolver: Resolver
    pinger: Pinger
    user_agent: str
    permit: Callable[[str], bool] = lambda _address: True  # False: on the opt-out list
    meter: StallMeter = field(default_factory=StallMeter)  # the runner's, whose stalls put deadlines off

    async def locate(self, attempt: Attempt, host: str, family: Family) -> str:
        """Turn a host (a name or an address literal) into the address to probe, timing the phase `resolve`.

        Sets `attempt.address`. Raises ProbeFailure: the resolver's, or OPTED_OUT.
        """
        self.heed_opt_out(attempt, host)
        address = literal(host)
        if address is not None:
            attempt.phases.setdefault("resolve", 0.0)
        else:
            with attempt.phase("resolve", Operation.RESOLVE):
                address = await self.resolver.resolve(host, family)
        attempt.operation = Operation.PREPARE
        if address != host:
            self.heed_opt_out(attempt, address)
        attempt.address = address
        return address

    def heed_opt_out(self, attempt: Attempt, host: str) -> None:
        """Fail with OPTED_OUT if `host`, a name or an address, must not be probed."""
        if not self.permit(host):
            attempt.fail(Failure.OPTED_OUT, f"{host} is on the opt-out list", Operation.PREPARE)


Done: TypeAlias = Callable[[Exception | None], None]
"""Is told that a probe is over: None, or why it failed: a ProbeFailure, or a defect of the probe's."""

Direct: TypeAlias = Callable[[Attempt, Done], Callable[[], None] | None]
"""A probe that needs no task, since it waits in callbacks and ends in time by itself: a call begins it, one of `Done`
ends it. Returns what gives it up early, if there is anything to be left behind. Raises ProbeFailure when it fails at
once. `net.drive` makes one of a coroutine."""


@dataclass(frozen=True, slots=True)
class FactSpec:
    """How a fact of a kind is exported: under which metric, with which help text.

    A number becomes the metric's value; a text becomes the label `label` of an info metric with value 1.
    """

    key: str
    metric: str
    help: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of probe, as the table PROBES lists it."""

    name: str
    options: type[Any]  # a subclass of Options
    probe: Callable[[Any, Attempt, Io], Awaitable[None]]
    host: Callable[[Any], str]  # the host (name or address) that is probed: for budgets, the opt-out list and display
    phase_metric: str  # blackbox name, with label `phase`
    phases: tuple[str, ...]  # in order, as shown to people
    facts: tuple[FactSpec, ...]
    packets: Callable[[Any], int]  # what a probe asks of the budget: echo requests, queries, connection attempts
    holds_descriptor: bool  # counts against limits.concurrency
    times_itself: Callable[[Any], bool] = lambda _options: False  # ends in time by its own means, without a deadline
    direct: Callable[[Any, Io], Direct | None] | None = None  # the same probe without a task, if these options allow it
    least_timeout: Callable[[Any], float] | None = None  # seconds that the options alone need (several packets)
    prober: Callable[[Any], str] = lambda _options: ""  # which kind it comes to, where its own name does not say it
    from_url: Callable[[str], Mapping[str, object] | None] | None = None  # `prober probe URL`: options, or not mine
