"""The kind `module`: a module of blackbox.yml as a check of a target, on the schedule, judged like any other check.

It is no member of PROBES, because its options need the modules that the settings name: `KINDS` is that table with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from prober.blackbox.modules import Module, Modules, with_hostname
from prober.config.messages import suggestion
from prober.config.problems import quoted
from prober.contract import Attempt, FactSpec, Io, Kind, Options
from prober.deadline import StallMeter
from prober.probes import PROBES

TARGET_LENGTH_MAX: Final = 8192

_FACTS: Final = {
    spec.metric: spec
    for spec in (
        FactSpec("status_code", "probe_http_status_code", "HTTP status of the last answer"),
        FactSpec("redirects", "probe_http_redirects", "How many redirects were followed"),
        FactSpec("ssl", "probe_http_ssl", "Whether the last answer came over TLS"),
        FactSpec("version", "probe_http_version", "HTTP version of the last answer"),
        FactSpec("content_length", "probe_http_content_length", "Length of the body as its header says, octets"),
        FactSpec(
            "body_length",
            "probe_http_uncompressed_body_length",
            "Length of the body as it was read, decompressed, octets",
        ),
        FactSpec(
            "last_modified", "probe_http_last_modified_timestamp_seconds", "When the page was changed last, Unix time"
        ),
        FactSpec("reply_hop_limit", "probe_icmp_reply_hop_limit", "TTL or hop limit of the reply"),
        FactSpec("query_succeeded", "probe_dns_query_succeeded", "Whether an answer came, whatever it says"),
        FactSpec("answer_rrs", "probe_dns_answer_rrs", "Records in the answer section"),
        FactSpec("authority_rrs", "probe_dns_authority_rrs", "Records in the authority section"),
        FactSpec("additional_rrs", "probe_dns_additional_rrs", "Records in the additional section, EDNS included"),
        FactSpec("serial", "probe_dns_serial", "Serial number of the zone (type SOA only)"),
        FactSpec("grpc_status_code", "probe_grpc_status_code", "gRPC status of the last health check"),
        FactSpec("websocket_status_code", "probe_websocket_status_code", "HTTP status of the last upgrade"),
        FactSpec("failed_due_to_regex", "probe_failed_due_to_regex", "Whether a regular expression was not as wanted"),
        FactSpec("failed_due_to_cel", "probe_failed_due_to_cel", "Whether a CEL expression was not as wanted"),
        FactSpec(
            "cert_earliest_expiry",
            "probe_ssl_earliest_cert_expiry",
            "When the first of the presented certificates expires, Unix time",
        ),
    )
}


class ModuleOptions(Options):
    """Options of a module check."""

    name: str = Field(description="a module of the blackbox.yml that the settings name", min_length=1, max_length=200)
    target: str = Field(description="what it probes, as in /probe?target=", min_length=1, max_length=TARGET_LENGTH_MAX)
    hostname: str = Field(default="", description="as in /probe?hostname=: Host header, TLS server name")
    _module: Module | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _module_exists(self, info: ValidationInfo) -> ModuleOptions:
        context = info.context or {}
        if "modules" not in context:
            return self  # the file is looked at without its settings
        modules: Modules | None = context["modules"]
        if modules is None:
            raise ValueError("there are no modules; set blackbox: in the settings, or run with --blackbox")
        if self.name not in modules:
            raise ValueError(f"no module {quoted(self.name)} in {modules.file}; {suggestion(self.name, modules)}")
        self._module = with_hostname(modules[self.name], self.hostname)
        return self

    @property
    def module(self) -> Module:
        """The module. Raises LookupError for options that were read without any."""
        if self._module is None:
            raise LookupError(f"module {self.name} was not looked up")
        return self._module

    @property
    def prober(self) -> str:
        """What the module probes with; empty for options that were read without any modules."""
        return self._module.prober if self._module is not None else ""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """With what the module asks for: a module that was changed asks something else under the same name."""
        yield from super().__repr_args__()
        if self._module is not None:
            yield "digest", self._module.digest

    @property
    def host(self) -> str:
        """The host that the target names, for budgets and the opt-out list; this host for a unix socket."""
        text = self.target
        if text.startswith("/"):
            return "127.0.0.1"
        if text.count(":") > 1 and "://" not in text and not text.startswith("["):
            return text  # an IPv6 address
        try:
            return urlsplit(text if "://" in text else f"//{text}").hostname or text
        except ValueError:
            return text


async def probe(options: ModuleOptions, attempt: Attempt, io: Io) -> None:
    """Probe with the module; phases and facts as the kinds of our own have them. The shorter timeout counts."""
    # Here: who only reads files is spared what probes. The agent imports it at its start.
    from prober.blackbox.guard import permit_all
    from prober.blackbox.log import ProbeLog
    from prober.blackbox.probe import PROBERS, run
    from prober.blackbox.session import Session

    module = options.module
    session = Session(options.target, attempt, io, ProbeLog(module.name, options.target), permit_all)
    timeout = module.timeout_seconds
    try:
        if timeout and timeout < attempt.timeout_seconds:
            attempt.timeout_seconds = timeout
            with measured_stalls() as meter:
                failed = await run(module, session, timeout, meter)
            if failed is not None:
                raise failed
        else:  # the runner ends it in time
            await PROBERS[module.prober](module.options, session)
            if session.fault is not None:
                raise session.fault
    finally:
        for metric, spec in _FACTS.items():
            value = session.metrics.value(metric)
            if value is not None:
                attempt.facts[spec.key] = value


@contextmanager
def measured_stalls() -> Iterator[StallMeter]:
    """A meter for the time of one probe: a stall of our own must not look like the module's timeout."""
    meter = StallMeter()
    meter.start()
    try:
        yield meter
    finally:
        meter.stop()


KIND: Final = Kind(
    name="module",
    options=ModuleOptions,
    probe=probe,
    host=lambda options: str(options.host),
    phase_metric="prober_module_duration_seconds",
    phases=("resolve", "connect", "tls", "setup", "rtt", "request", "processing", "transfer"),
    facts=tuple(_FACTS.values()),
    packets=lambda _options: 1,
    holds_descriptor=True,
    prober=lambda options: options.prober,
)

KINDS: Final[dict[str, Kind]] = {**PROBES, KIND.name: KIND}
"""All kinds of check that a targets file may have."""
