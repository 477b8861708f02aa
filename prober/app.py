"""The composition root: builds the agent from its configuration, runs it, reloads it, ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from prober import __version__
from prober.api import Api
from prober.blackbox.endpoint import Endpoint
from prober.blackbox.kind import KINDS
from prober.blackbox.modules import Modules
from prober.clock import SystemClock
from prober.config import Config, ConfigError
from prober.config.apart import load_beside
from prober.config.settings import ProbeEndpoint, Settings
from prober.contract import Io
from prober.deadline import StallMeter
from prober.failures import Failure, Operation
from prober.judge.records import Settings as JudgeSettings
from prober.judging import Judging
from prober.ledger import Ledger, LedgerError
from prober.logs import OncePerCause
from prober.metrics import Exposition
from prober.model import Check, Observation, Reference
from prober.net.echo import EchoSockets
from prober.net.resolver import StubResolver
from prober.page.agent import AgentSource
from prober.page.rings import Rings
from prober.page.site import Site
from prober.runner import Runner
from prober.schedule import Budgets
from prober.scopes import ScopeExposition
from prober.selfmetrics import AgentCollector, EndpointCollector, ReloadFigures, make_registry
from prober.state import State
from prober.web.attribution import Attribution
from prober.web.listener import CONNECTIONS_MAX, CannotListen, WebFace
from prober.web.server import PROBING_TXT, Views
from prober.web.webconfig import WebConfig

log = logging.getLogger(__name__)
T = TypeVar("T")

DESCRIPTION: Final = "Reachability measurements by prober: a few echo requests, DNS queries and page fetches a minute"
DESCRIPTORS_MAX: Final = 65_536
SLOT_SECONDS: Final = 0.05
"""Rounds begin at multiples of this, those of one slot together: to wake up for each alone would be a waste."""
SWITCH_SECONDS: Final = 0.0001
GIVE_WAY_SECONDS: Final = 0.001
FIXED_WHILE_RUNNING: Final = ("vantage", "listen", "data_dir", "judgement", "retention", "contact", "log")
"""Settings that a reload cannot change: they are in every series, socket or line from the start."""


class CannotStart(Exception):
    """The agent cannot run; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything that is read from files, at the start and at each reload."""

    config: Config
    web: WebConfig
    modules: Modules | None = None


def user_agent(contact: str | None) -> str:
    """What HTTP probes call themselves: the tool, and whom to ask."""
    return f"prober/{__version__}" + (f" ({contact})" if contact else "")


@asynccontextmanager
async def open_io(contact: str | None, permit: Callable[[str], bool]) -> AsyncIterator[tuple[Io, EchoSockets]]:
    """What probes share, closed at the end."""
    pinger = EchoSockets(contact)
    try:
        yield Io(StubResolver(), pinger, user_agent(contact), permit), pinger
    finally:
        pinger.close()


class Agent:
    """A running agent.

    `load` reads all files anew, the targets by what it is given for that; it is called in a thread, may take its time,
    and raises ConfigError.
    """

    def __init__(self, loaded: Loaded, load: Callable[[Callable[[Settings], Config]], Loaded]) -> None:
        self._loaded = loaded
        self._load = load
        self._opt_out = loaded.config.settings.opted_out
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()
        self._changes = _Changes()
        self._rings = Rings()
        self._runner: Runner | None = None
        self._web: WebFace | None = None
        self._endpoint: Endpoint | None = None
        self._judging: Judging | None = None
        limits = loaded.config.settings.limits
        self._budgets = Budgets(limits.packets_per_second, limits.per_prefix_per_second)
        self.state = State(loaded.config.entities)
        self.figures = ReloadFigures()

    @property
    def urls(self) -> list[str]:
        """Where the HTTP face can be reached; empty before it listens."""
        return self._web.urls if self._web is not None else []

    def request_stop(self) -> None:
        """End the agent; `run` returns soon after."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `request_stop`, SIGTERM or SIGINT. Raises CannotStart."""
        config = self._loaded.config
        settings = config.settings
        clock, meter = SystemClock(), StallMeter()
        more_descriptors()
        async with AsyncExitStack() as stack:
            # While a thread computes, as in a reload, the loop gives the interpreter away at each system call and waits
            # for so long until it has it back: at the usual 5 ms fifty probes would take half a second.
            stack.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(SWITCH_SECONDS)
            # What is built now lives as long as the agent: no use in looking through it again and again.
            gc.disable()
            stack.callback(gc.enable)
            judging = self._judging = await self._open_judging(stack, clock)
            io, pinger = await stack.enter_async_context(open_io(settings.contact, self._permits))
            runner = self._runner = Runner(
                clock=clock,
                io=io,
                kinds=KINDS,
                budgets=self._budgets,
                concurrency=settings.limits.concurrency,
                meter=meter,
                sinks=(self.state.observe, self._changes.observe, self._rings.observe),
                stagger=settings.vantage.index / settings.vantage.of,
                listener=judging,
                slot_seconds=SLOT_SECONDS,
                after_slot=pinger.collect,
            )
            judging.on_defect = runner.defect
            collector = AgentCollector(
                clock=clock,
                figures=runner.figures,
                state=self.state,
                unmatched=pinger.unmatched,
                reload=self.figures,
            )
            registry, meter.on_stall = make_registry(collector, runner.figures)
            endpoint = self._endpoint = Endpoint(io=io, budgets=self._budgets, clock=clock, meter=meter)
            registry.register(EndpointCollector(endpoint, self.figures))
            scopes = ScopeExposition(settings.vantage.name, judging, lambda: self._loaded.config.entities)
            exposition = Exposition(settings.vantage.name, self.state, KINDS, registry, scopes.render)
            self._took(self._loaded, clock.utc())
            endpoint.change(settings.probe_endpoint, self._loaded.modules)
            api = Api(settings.vantage.name, judging, lambda: self._loaded.config.entities)
            source = AgentSource(
                settings.vantage.name, judging, lambda: self._loaded.config.entities, self._rings, self._page_links
            )
            self._web = await self._listen(stack, exposition, api, endpoint, Site(source))
            self._handle_signals(stack)
            runner.update(_checks(config), _reference_checks(config))
            if any(check.kind == "icmp" for check in (*_checks(config), *_reference_checks(config))):
                pinger.try_open()
            gc.freeze()
            gc.enable()
            # A collection walks through what was made lately, at some microseconds each, and finds next to nothing:
            # nearly all is dropped by its count. So the young generations are kept small, to hold the loop for a few
            # milliseconds only; one through the state of all checks, which takes a second with a hundred thousand, once
            # in some hours is enough, and no reload brings it on. Probes therefore leave no cycles behind
            # (tests/contract/test_garbage.py), nor do reloads; a connection leaves two kilobytes, mostly young.
            gc.set_threshold(500, 5, 10_000)
            meter.start()
            stack.callback(meter.stop)
            stack.push_async_callback(judging.stop)
            stack.push_async_callback(runner.stop)
            runner.start()
            judging.start(runner)
            log.info("running", extra={"version": __version__, "vantage": settings.vantage.name, **self._sizes()})
            await self._stop.wait()
            log.info("stopping")
            for task in self._reloads:
                task.cancel()

    async def reload(self) -> None:
        """Read the files again and go on with what they say. A bad file changes nothing and raises ConfigError."""
        async with self._reloading:
            await self._take(await self._read())

    async def _read(self) -> Loaded:
        """What the files say now. Raises ConfigError."""
        try:
            loaded = await asyncio.to_thread(self._load, partial(load_beside, self._loaded.config))
        except ConfigError as error:
            self.figures.successful = False
            for problem in error.problems:
                log.error("configuration refused, the old one stays", extra={"problem": str(problem)})
            raise
        for key in FIXED_WHILE_RUNNING:
            if getattr(loaded.config.settings, key) != getattr(self._loaded.config.settings, key):
                log.warning("this setting changes with a restart only", extra={"setting": key})
        return loaded

    async def _take(self, loaded: Loaded) -> None:
        """Go on with this configuration."""
        assert self._runner is not None
        assert self._web is not None
        assert self._judging is not None
        assert self._endpoint is not None
        config, references = loaded.config, trusted_references(loaded.config)
        # All three take time with many checks and change nothing yet: the loop goes on meanwhile.
        states = await asyncio.to_thread(self.state.prepared, self._giving_way(config.entities))
        change = await asyncio.to_thread(self._judging.prepared, self._giving_way(config.entities), references)
        differences = await asyncio.to_thread(
            self._runner.prepared, self._giving_way(_checks(config)), _reference_checks(config)
        )
        self._loaded = loaded
        self._took(loaded, SystemClock().utc())
        if config.entities is not self.state.entities:
            self.state.replace(config.entities, states)
        for memory in (self._changes, self._rings):
            memory.forget(key for difference in differences for key in difference.gone)
        limits = config.settings.limits
        self._budgets.change(limits.packets_per_second, limits.per_prefix_per_second)
        self._runner.concurrency = limits.concurrency
        self._runner.change(*differences)
        self._judging.reconfigure(config.entities, references, change)
        self._endpoint.change(config.settings.probe_endpoint, loaded.modules)
        self._web.connections_max = _connections(config.settings.probe_endpoint)
        await self._web.replace(loaded.web)
        log.info("configuration reloaded", extra=self._sizes())

    def _giving_way(self, items: Iterable[T]) -> Iterator[T]:
        """The items, for a thread, which gets none while probes are begun: at each system call that the loop makes, the
        thread would take the interpreter, and the probes of a slot would start one after another, late.
        """
        assert self._runner is not None
        for item in items:
            while self._runner.beginning:
                time.sleep(GIVE_WAY_SECONDS)
            yield item

    def _sizes(self) -> dict[str, int]:
        return {"targets": sum(len(entity.targets) for entity in self.state.entities), "checks": len(self.state)}

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _permits(self, address: str) -> bool:
        return self._opt_out.permits(address)

    def _took(self, loaded: Loaded, utc: float) -> None:
        self._opt_out = loaded.config.settings.opted_out  # every probe asks it
        opted_out = loaded.config.opted_out
        self.figures.successful, self.figures.success_utc, self.figures.opted_out = True, utc, len(opted_out)
        for left_out in opted_out:
            log.warning("on the opt-out list, not probed", extra={"what": left_out})

    async def _open_judging(self, stack: AsyncExitStack, clock: SystemClock) -> Judging:
        """The ledger, and the judge as it was left in it."""
        config = self._loaded.config
        settings = config.settings
        try:
            ledger = await Ledger.open(settings.data_dir, now=clock.now(), utc=clock.utc())
        except LedgerError as error:
            raise CannotStart(str(error)) from error
        stack.push_async_callback(ledger.close)
        judgement = settings.judgement
        judging = Judging(
            vantage=settings.vantage.name,
            settings=JudgeSettings(
                false_outages_per_year=judgement.false_outages_per_year,
                confirm_interval_seconds=judgement.confirm_interval,
                blip_seconds=judgement.blip,
                flap_window_seconds=judgement.flap_window,
                onset_look_back_seconds=judgement.onset_look_back,
            ),
            kinds=KINDS,
            entities=config.entities,
            references=trusted_references(config),
            clock=clock,
            ledger=ledger,
            retention_seconds=settings.retention,
        )
        await judging.restore()
        return judging

    def _page_links(self) -> tuple[tuple[str, str], ...]:
        """What else this agent serves."""
        links = [("metrics", "Metrics"), ("api/v1/status", "Status as JSON"), ("api/v1/outages", "Outages as JSON")]
        if self._endpoint is not None and self._endpoint.why_off is None:
            links += [("logs", "Recent /probe"), ("config", "Modules")]
        if self._loaded.config.settings.contact is not None:
            links.append((PROBING_TXT.lstrip("/"), "About these probes"))
        return tuple(links)

    async def _listen(
        self, stack: AsyncExitStack, exposition: Exposition, api: Api, endpoint: Endpoint, site: Site
    ) -> WebFace:
        settings = self._loaded.config.settings
        contact = settings.contact
        attribution = Attribution(contact, DESCRIPTION) if contact is not None else None
        views = Views(
            exposition.render, self._why_not_ready, self.reload, api, site, lambda: attribution, endpoint=endpoint
        )
        web = await stack.enter_async_context(WebFace(views, self._loaded.web))
        web.connections_max = _connections(settings.probe_endpoint)
        try:
            await web.start(settings.listen.host, settings.listen.port)
        except CannotListen as error:
            raise CannotStart(str(error)) from error
        log.info("listening", extra={"url": " ".join(web.urls)})
        if contact is None:
            log.warning("no contact is set: whoever sees the probes has nobody to ask; set contact: in the settings")
        return web

    def _why_not_ready(self) -> str | None:
        if len(self.state) and all(check.last is None for check in self.state):
            return "no probe has run yet"
        return None

    def _handle_signals(self, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            stack.callback(partial(loop.remove_signal_handler, number))

    def _reload_by_signal(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload_and_log())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload_and_log(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            pass  # each problem is in the log, and the metric says that the reload failed
        except Exception as error:  # a defect in reloading must not go unheard in a task that nobody awaits
            self.figures.successful = False
            OncePerCause(log).error("reload", "a defect of the agent", error=error, where="reload")


class _Changes:
    """Logs when a check's result changes, so that the log tells what happened without a line per probe."""

    def __init__(self) -> None:
        self._failing: dict[str, tuple[Operation | None, Failure]] = {}

    def forget(self, keys: Iterable[str]) -> None:
        """These checks are no longer configured."""
        for key in keys:
            self._failing.pop(key, None)

    def observe(self, observation: Observation) -> None:
        """A sink of the runner."""
        key, failure = observation.check.key, observation.failure
        if failure is None:
            if self._failing and self._failing.pop(key, None) is not None:
                log.info("check answers again", extra={"check": key})
            return
        cause = observation.operation, failure
        if self._failing.get(key) != cause:
            self._failing[key] = cause
            log.warning(
                "check fails",
                extra={
                    "check": key,
                    "operation": cause[0],
                    "failure": cause[1],
                    "address": observation.address or "",
                    "detail": observation.detail,
                },
            )


def _connections(settings: ProbeEndpoint) -> int:
    """Who waits for a probe holds a connection; that must cost the other pages none."""
    return CONNECTIONS_MAX + (settings.concurrency + settings.queue if settings.enabled else 0)


def more_descriptors() -> None:
    """Allow this process as many descriptors as it may allow itself: the usual 1,024 are for programs that select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _checks(config: Config) -> Iterator[Check]:
    return (check for entity in config.entities for target in entity.targets for check in target.checks)


def trusted_references(config: Config) -> tuple[Reference, ...]:
    """The references that some entity trusts; nobody else is bothered (a LAN that switched them off is left alone)."""
    if any(entity.references == "default" for entity in config.entities):
        return config.references
    named = {name for entity in config.entities for name in entity.references}
    return tuple(reference for reference in config.references if reference.name in named)


def _reference_checks(config: Config) -> list[Check]:
    return [check for reference in trusted_references(config) for check in reference.checks]
