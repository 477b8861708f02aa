"""One probe of a target with a module, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from prober.blackbox.exposition import Metrics
from prober.blackbox.guard import Guard
from prober.blackbox.log import ProbeLog
from prober.blackbox.modules import Module
from prober.blackbox.probe_dns import probe_dns
from prober.blackbox.probe_grpc import probe_grpc
from prober.blackbox.probe_http import probe_http
from prober.blackbox.probe_icmp import probe_icmp
from prober.blackbox.probe_stream import probe_tcp, probe_unix
from prober.blackbox.probe_websocket import probe_websocket
from prober.blackbox.session import Session
from prober.contract import Attempt, Io, ProbeFailure
from prober.deadline import Deadline, StallMeter
from prober.failures import Failure, Operation
from prober.logs import OncePerCause

_log = logging.getLogger(__name__)

PROBERS: Final[dict[str, Callable[[Any, Session], Awaitable[None]]]] = {
    "http": probe_http,
    "tcp": probe_tcp,
    "dns": probe_dns,
    "icmp": probe_icmp,
    "grpc": probe_grpc,
    "unix": probe_unix,
    "websocket": probe_websocket,
}
"""A prober returns when the target answered as the module wants it, and raises ProbeFailure when it did not."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a probe. A failed one has `operation` and `failure` (closed vocabulary) and `detail` for the log."""

    success: bool
    duration_seconds: float
    metrics: Metrics
    operation: Operation | None = None
    failure: Failure | None = None
    detail: str = ""
    refused: bool = False
    """The guard refused a destination; `detail` has its reason."""
    address: str | None = None
    """The first address that was probed."""

    def exposition(self) -> str:
        """Prometheus text format 0.0.4 in blackbox_exporter's names, without any labels of ours."""
        return self.metrics.text()


async def probe(
    module: Module,
    target: str,
    *,
    timeout_seconds: float,
    io: Io,
    log: ProbeLog,
    guard: Guard,
    meter: StallMeter | None = None,
) -> Result:
    """Probe `target` (as it came in the query, unquoted) once. Raises nothing but CancelledError.

    `timeout_seconds` is the effective one (the caller has applied the module's and Prometheus' own); `meter`, if given,
    keeps a stall of our own loop from becoming a timeout.
    """
    attempt = Attempt(timeout_seconds)
    session = Session(target, attempt, io, log, guard)
    metrics = session.metrics
    succeeded = metrics.gauge("probe_success", "Displays whether or not the probe was a success")
    took = metrics.gauge("probe_duration_seconds", "Returns how long the probe took to complete in seconds")
    metrics.gauge("probe_timeout_seconds", "Returns how long the probe timeout is in seconds", timeout_seconds)
    log.debug("Beginning probe", probe=module.prober, timeout_seconds=timeout_seconds)
    failed = await run(module, session, timeout_seconds, meter or StallMeter())
    seconds = attempt.elapsed_seconds()
    succeeded.set(float(failed is None))
    took.set(seconds)
    if failed is None:
        log.debug("Probe succeeded", duration_seconds=seconds)
    else:
        log.error(
            "Probe failed",
            duration_seconds=seconds,
            operation=failed.operation,
            failure=failed.failure,
            reason=failed.detail,
        )
    return Result(
        success=failed is None,
        duration_seconds=seconds,
        metrics=metrics,
        operation=failed.operation if failed else None,
        failure=failed.failure if failed else None,
        detail=failed.detail if failed else "",
        refused=session.refused,
        address=attempt.address,
    )


async def run(module: Module, session: Session, timeout_seconds: float, meter: StallMeter) -> ProbeFailure | None:
    """Probe within a time; what failed, None if nothing did. Raises nothing but CancelledError."""
    attempt = session.attempt
    deadline = Deadline(timeout_seconds, meter)
    try:
        async with deadline:
            await PROBERS[module.prober](module.options, session)
    except TimeoutError:
        return _overdue(attempt, deadline)
    except ProbeFailure as failure:
        return failure
    except Exception as error:  # a defect of ours must not look like the target's
        OncePerCause(_log).error(f"blackbox:{type(error).__name__}", "a defect of the agent", error=error)
        return ProbeFailure(attempt.operation, Failure.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
    return session.fault


def _overdue(attempt: Attempt, deadline: Deadline) -> ProbeFailure:
    if not deadline.expired or deadline.exhausted:
        return ProbeFailure(attempt.operation, Failure.LOOP_STALLED)
    if attempt.operation is Operation.RESOLVE:
        return ProbeFailure(attempt.operation, Failure.RESOLVER_TIMEOUT)
    return ProbeFailure(attempt.operation, Failure.TIMEOUT)
