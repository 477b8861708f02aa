"""/probe, /config and /logs: what blackbox_exporter answers over HTTP, for those whom the policy and the gate let in.

A target that must not be probed is answered 200 with `probe_success 0` and the reason, so that alerts see it. What is
our own trouble (too many requests, no budget, no place) is answered 429 or 503: the scrape fails, no target is blamed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from prober.blackbox.admission import Admission, Overloaded
from prober.blackbox.exposition import Metrics
from prober.blackbox.guard import Destination
from prober.blackbox.history import History, Past, Report, bounded
from prober.blackbox.log import ProbeLog
from prober.blackbox.modules import Module, Modules, with_hostname
from prober.blackbox.policy import OPTED_OUT, Policy, PolicyGuard, Refusal
from prober.blackbox.probe import Result, probe
from prober.blackbox.request import (
    ANSWER_SECONDS,
    host_of,
    malformed,
    patience_of,
    timeout_of,
    without_password,
)
from prober.clock import Clock
from prober.config.settings import ProbeEndpoint
from prober.contract import Family, Io, ProbeFailure, Resolver
from prober.deadline import StallMeter
from prober.failures import Failure, Operation
from prober.net.names import check_host, is_address
from prober.printable import printable
from prober.schedule import Bucket, Budgets, budget_key

DEFAULT_MODULE: Final = "http_2xx"
GRACE_SECONDS: Final = 0.25
"""Of ANSWER_SECONDS, for a short wait: a probe is not to be given less time for a millisecond in the queue."""
LOCATED_MAX: Final = 10_000
SHORT_OF_TIME_SECONDS: Final = 0.05
REFUSALS_LOGGED_PER_SECOND: Final = 1.0
REFUSALS_LOGGED_AT_ONCE: Final = 20.0

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
TEXT_TYPE: Final = "text/plain; charset=utf-8"
TEXT_MAX: Final = 1_000
"""Characters of a message about what somebody else sent."""

REFUSED: Final = ("prober_probe_refused_info", "Why nothing was sent: the target is not one that /probe may probe")
OUTCOMES: Final = ("succeeded", "failed", "refused", "bad_request", "limited", "overloaded", "abandoned")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    text: str
    content_type: str = TEXT_TYPE


class Endpoint:
    """Serves probes with the modules of a blackbox.yml. `change` comes first, and with each reload."""

    def __init__(self, *, io: Io, budgets: Budgets, clock: Clock, meter: StallMeter) -> None:
        self._io = io
        self._clock = clock
        self._meter = meter
        self._settings = ProbeEndpoint()
        self._modules: Modules | None = None
        self._policy = Policy((), io.permit)
        self._located: OrderedDict[str, Hashable] = OrderedDict()  # host -> the prefix that its packets are charged to
        self._log_budget = Bucket(REFUSALS_LOGGED_PER_SECOND, REFUSALS_LOGGED_AT_ONCE)
        self.admission = Admission(budgets, clock.now, self._settings)
        self.history = History()
        self.outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.unknown_modules = 0

    @property
    def why_off(self) -> str | None:
        """None if it is served; else one line that says what to do."""
        if not self._settings.enabled:
            return "off: set probe_endpoint: {enabled: true, allow: [...]} in the settings, or run with --allow"
        if self._modules is None:
            return "off: there are no modules; set blackbox: in the settings, or run with --blackbox"
        return None

    @property
    def has_modules(self) -> bool:
        """Whether there is a blackbox.yml."""
        return self._modules is not None

    def change(self, settings: ProbeEndpoint, modules: Modules | None) -> None:
        """Go on with these settings and modules. Probes under way end as they began."""
        self._settings, self._modules = settings, modules
        self._policy = Policy.of(settings.allow, self._io.permit)
        self.admission.change(settings)
        if settings.enabled and not settings.allow:
            log.warning("probe_endpoint.allow is missing: /probe refuses every target; name what may be probed")

    # -- what is answered ----------------------------------------------------------------------------------------------

    async def probe(self, query: Mapping[str, str], scrape_timeout: str | None, client: str) -> Answer:
        """Probe what the query says. Cancelling it cancels the probe."""
        try:
            self.admission.heed_rate(client)
            return await self._asked(query, scrape_timeout)
        except Overloaded as error:
            self.outcomes["limited" if error.status == 429 else "overloaded"] += 1
            return Answer(error.status, f"{error}\n")
        except asyncio.CancelledError:
            self.outcomes["abandoned"] += 1
            raise

    def config(self) -> Answer:
        """The modules, secrets hidden."""
        return Answer(200, self._modules.redacted() if self._modules is not None else "modules: {}\n")

    def log_of(self, query: Mapping[str, str]) -> Answer:
        """The log of the probe `id`, or of the last one of `target`."""
        number, target = query.get("id"), query.get("target")
        if number is not None and target is not None:
            return Answer(400, "id and target exclude each other\n")
        if target is not None:
            past = self.history.by_target(without_password(target))
            return _report(past, "Probe target not found\n")
        if number is None or not number.isascii() or not number.isdigit() or len(number) > 18:
            return Answer(500, "Invalid probe id\n")  # the original's status
        return _report(self.history.by_number(int(number)), "Probe id not found\n")

    # -- one probe -----------------------------------------------------------------------------------------------------

    async def _asked(self, query: Mapping[str, str], scrape_timeout: str | None) -> Answer:
        arrived = self._clock.now()
        name = query.get("module") or DEFAULT_MODULE
        module = self._modules.get(name) if self._modules is not None else None
        if module is None:
            self.unknown_modules += 1
            return self._bad_request(400, f"Unknown module {json.dumps(name[:100], ensure_ascii=False)}")
        try:
            patience = patience_of(scrape_timeout)
        except ValueError as error:
            return self._bad_request(500, f"Failed to parse timeout from Prometheus header: {error}")
        target, hostname = query.get("target", ""), query.get("hostname", "")
        if not target:
            return self._bad_request(400, "Target parameter is missing")
        timeout = timeout_of(patience, module.timeout_seconds)
        debug = query.get("debug") == "true"
        refusal = malformed(target, hostname)
        if refusal is not None:
            return self._refused(module, target, timeout, refusal, debug)
        try:
            module = with_hostname(module, hostname)
        except ValueError as error:
            return self._bad_request(400, printable(str(error), TEXT_MAX))
        guard = PolicyGuard(self._policy, lambda destination: self._heard(destination, host, key))
        host = host_of(module, target)
        if host is not None and not is_address(host) and (refusal := guard.name(host)) is not None:
            return self._refused(module, target, timeout, refusal, debug)
        until = arrived + max(timeout, patience - ANSWER_SECONDS)  # then an answer comes too late
        async with self.admission.waiting_room():
            key = await self._prefix_of(host, until)
            await self.admission.budget(key, 1.0, until)
            await self.admission.take_place(until)
        try:
            left = timeout if scrape_timeout is None else min(timeout, until + GRACE_SECONDS - self._clock.now())
            result, probe_log = await self._made(module, target, left, guard)
        finally:
            self.admission.leave_place()
        if not result.success and timeout - left > SHORT_OF_TIME_SECONDS and result.failure in _LATE:
            raise Overloaded(503, f"{timeout - left:.1f} s of the probe's time went by in the queue")
        return self._answer(module, target, result, probe_log, guard, debug)

    async def _made(self, module: Module, target: str, timeout: float, guard: PolicyGuard) -> tuple[Result, ProbeLog]:
        probe_log = ProbeLog(module.name, without_password(target))
        io = replace(self._io, resolver=_AskedFirst(self._io.resolver, guard))
        result = await probe(
            module,
            # Only http takes credentials. To the others it is no target, and they say so by quoting it.
            target if module.prober in ("http", "unix") else without_password(target),
            timeout_seconds=max(0.0, timeout),
            io=io,
            log=probe_log,
            guard=guard,
            meter=self._meter,
        )
        return result, probe_log

    async def _prefix_of(self, host: str | None, until: float) -> Hashable:
        """Whose packet budget a probe of `host` is charged to. A name is looked up once, and remembered."""
        if host is None:
            return "unix"
        if is_address(host):
            return budget_key(host)
        name = host.lower()
        if name in self._located:
            self._located.move_to_end(name)
            return self._located[name]
        try:
            async with asyncio.timeout(min(ANSWER_SECONDS, until - self._clock.now())):
                return self._locate(name, budget_key(await self._io.resolver.resolve(check_host(host), "any")))
        except (ProbeFailure, ValueError, TimeoutError):  # the probe will say what is wrong with the name
            return self._locate(name, budget_key(host))

    def _locate(self, name: str, key: Hashable) -> Hashable:
        self._located[name] = key
        if len(self._located) > LOCATED_MAX:
            self._located.popitem(last=False)
        return key

    def _heard(self, destination: Destination, host: str | None, key: Hashable) -> None:
        """A destination was permitted: account for its packets, unless they were waited for."""
        if destination.transport == "unix":
            return
        found = budget_key(destination.address)
        if found == key:
            return
        self.admission.charge_if_spare(found, 1.0)
        if host is not None and destination.name == host and not is_address(host):
            self._locate(host.lower(), found)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _bad_request(self, status: int, text: str) -> Answer:
        self.outcomes["bad_request"] += 1
        return Answer(status, f"{text}\n")

    def _refused(self, module: Module, target: str, timeout: float, refusal: Refusal, debug: bool) -> Answer:
        """Of what was never begun."""
        metrics = Metrics()
        metrics.gauge("probe_success", "Displays whether or not the probe was a success")
        metrics.gauge("probe_duration_seconds", "Returns how long the probe took to complete in seconds")
        metrics.gauge("probe_timeout_seconds", "Returns how long the probe timeout is in seconds", timeout)
        probe_log = ProbeLog(module.name, without_password(target))
        probe_log.error("Probe refused", reason=refusal.reason, detail=refusal.text)
        guard = PolicyGuard(self._policy)
        guard.refusal = refusal
        result = Result(False, 0.0, metrics, Operation.PREPARE, Failure.NOT_ALLOWED, refusal.text, True)
        return self._answer(module, target, result, probe_log, guard, debug)

    def _answer(
        self, module: Module, target: str, result: Result, probe_log: ProbeLog, guard: PolicyGuard, debug: bool
    ) -> Answer:
        refusal, metrics, lines = guard.refusal, result.metrics, probe_log.lines
        if refusal is None and result.failure is Failure.OPTED_OUT:
            refusal = Refusal(OPTED_OUT, result.detail)
        if result.success or refusal is None:
            reason = "" if result.success else f"{result.failure} during {result.operation}: {result.detail}"
            self.outcomes["succeeded" if result.success else "failed"] += 1
        else:
            reason = f"refused ({refusal.reason}): {refusal.text}"
            self.outcomes["refused"] += 1
            metrics.vector(*REFUSED, ("reason",)).set(1.0, refusal.reason)
            lines = _kept_from_client(lines, metrics, guard.refused)
            self._log_refusal(module, target, refusal, guard.refused)
        shown = without_password(target)
        report = Report(bounded(lines), metrics.text(), module.redacted())
        self.history.add(
            Past(
                self.history.number(),
                self._clock.utc(),
                module.name,
                shown,
                result.success,
                result.duration_seconds,
                printable(reason, TEXT_MAX),
                report,
            )
        )
        if debug:
            return Answer(200, str(report))
        return Answer(200, report.metrics, METRICS_TYPE)

    def _log_refusal(self, module: Module, target: str, refusal: Refusal, refused: Destination | None) -> None:
        now = self._clock.now()
        if self._log_budget.earliest(now, 1.0) > now:
            return  # whoever asks for what is refused must not fill the disk; all are counted
        self._log_budget.take(now, 1.0)
        extra = {"blackbox_module": module.name, "target": without_password(target), "reason": refusal.reason}
        log.warning("probe refused", extra=extra | {"detail": refusal.text, "destination": str(refused or "")})


_LATE: Final = frozenset({Failure.TIMEOUT, Failure.RESOLVER_TIMEOUT, Failure.LOOP_STALLED})


@dataclass(frozen=True, slots=True)
class _AskedFirst:
    """The resolver, for names that may be allowed."""

    resolver: Resolver
    guard: PolicyGuard

    async def resolve(self, name: str, family: Family) -> str:
        refusal = self.guard.name(name)
        if refusal is not None:
            raise ProbeFailure(Operation.PREPARE, Failure.NOT_ALLOWED, refusal.text)
        return await self.resolver.resolve(name, family)

    def server(self) -> tuple[str, int]:
        return self.resolver.server()


def _kept_from_client(lines: list[str], metrics: Metrics, refused: Destination | None) -> list[str]:
    """Who may not probe a name may not learn either where it leads: takes the address out of the answer."""
    if refused is None or refused.name == refused.address:
        return lines
    metrics.families.pop("probe_ip_addr_hash", None)
    metrics.families.pop("probe_ip_protocol", None)
    return [line for line in lines if refused.address not in line]


def _report(past: Past | None, missing: str) -> Answer:
    return Answer(200, str(past.report)) if past is not None else Answer(404, missing)
