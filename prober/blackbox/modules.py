"""blackbox.yml: modules by name, with the same options, defaults and refusals as blackbox_exporter's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit, urlunsplit

import yaml
from pydantic import BaseModel

from prober.blackbox.cel import CelProgram
from prober.blackbox.options import BlackboxFile, HttpProbe, TcpProbe
from prober.blackbox.values import SECRET_SHOWN, Secret, Section
from prober.blackbox.yaml import BlackboxBuilder, octets
from prober.config.document import Document
from prober.config.messages import validate
from prober.config.parse import parse_document, read_bytes
from prober.config.problems import Problem, raise_if_any
from prober.net.names import check_host
from prober.regex import Regex

ProberName: TypeAlias = Literal["http", "tcp", "dns", "icmp", "grpc", "unix", "websocket"]

_CREDENTIAL_HEADER: Final = re.compile(r"auth|cookie|token|secret|password|api-?key", re.IGNORECASE)
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True)
class Module:
    """One module. Two of the same content are equal."""

    name: str
    prober: ProberName
    timeout_seconds: float
    """The module's own timeout; 0: it has none."""
    options: Any = field(repr=False)
    """The options of its prober, a frozen model of `prober.blackbox.options`."""

    digest: str = field(default="", compare=False)
    """Of what stands in the file but for secrets: what a restarted agent knows a module again by."""

    def redacted(self) -> str:
        """The module as YAML without its name, secrets as `<secret>`."""
        return _yaml(_of_module(self))


@dataclass(frozen=True, slots=True)
class Modules(Mapping[str, Module]):
    """The modules of one file, by name."""

    file: str
    by_name: Mapping[str, Module]

    def __getitem__(self, name: str) -> Module:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def redacted(self) -> str:
        """The whole file as YAML for /config: `modules:` with each module, secrets as `<secret>`."""
        return _yaml({"modules": {name: _of_module(module) for name, module in self.by_name.items()}})


def load(path: Path) -> Modules:
    """The modules in `path`. Raises ConfigError with all problems: file, line, `modules.NAME.PROBER.OPTION`, remedy."""
    document = read_blackbox_document(path)
    problems: list[Problem] = list(document.problems)
    modules = read_modules(document, problems)
    raise_if_any(problems)
    assert modules is not None
    return modules


def read_blackbox_document(path: Path) -> Document:
    """A blackbox.yml as a document. Raises ConfigError when there is nothing to go on with."""
    return parse_document(str(path), read_bytes(path), BlackboxBuilder)


def read_modules(document: Document, problems: list[Problem]) -> Modules | None:
    """The modules that a document holds; None, with what is wrong added to `problems`, if it holds none."""
    found = validate(BlackboxFile, document.root, document, (), problems, as_json=False)
    if found is None:
        return None
    read = (
        Module(str(name), cast(ProberName, entry.prober), entry.timeout, entry.options)
        for name, entry in found.modules.items()
    )
    by_name = {module.name: replace(module, digest=_digest(module)) for module in read}
    return Modules(document.file, by_name)


def _digest(module: Module) -> str:
    return sha256(module.redacted().encode()).hexdigest()[:16]


def with_hostname(module: Module, hostname: str) -> Module:
    """The module for a probe with `hostname=`: an http module's Host header (and TLS server name), a tcp module's TLS
    server name. Other modules, and an empty hostname, change nothing.

    Raises ValueError, one line for a 400, if the module's own Host header says something else, or if `hostname` is no
    host name, with or without a port.
    """
    if not hostname:
        return module
    options = module.options
    if isinstance(options, HttpProbe):
        _check_hostname(hostname)
        headers = dict(options.headers)
        for name, value in options.headers.items():
            if name.lower() != "host":
                continue
            if value != hostname:
                raise ValueError(
                    f"host header defined both in module configuration ({value}) and with URL-parameter "
                    f"'hostname' ({hostname})"
                )
            del headers[name]
        return replace(module, options=options.model_copy(update={"headers": {**headers, "Host": hostname}}))
    if isinstance(options, TcpProbe) and not options.tls_config.server_name:
        name = _check_hostname(hostname)
        tls = options.tls_config.model_copy(update={"server_name": name})
        return replace(module, options=options.model_copy(update={"tls_config": tls}))
    return module


def _check_hostname(hostname: str) -> str:
    """The host of `host` or `host:port`. Raises ValueError: what would break out of a header is no host."""
    host = _PORT.sub("", hostname)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return check_host(host)


# -- what is shown -----------------------------------------------------------------------------------------------------


def _of_module(module: Module) -> dict[str, Any]:
    shown: dict[str, Any] = {"prober": module.prober}
    if module.timeout_seconds:
        shown["timeout"] = _duration(module.timeout_seconds)
    options = _shown(module.options)
    if options:
        shown[module.prober] = options
    return shown


def _shown(value: Any, name: str = "") -> Any:
    """A value as YAML can show it: secrets hidden, what is empty left out of mappings."""
    if isinstance(value, Secret):
        return SECRET_SHOWN if value else ""
    if isinstance(value, Regex | CelProgram):
        return str(value)
    if isinstance(value, Section):
        return _of_fields(value)
    if isinstance(value, BaseModel):  # a mapping that is a model of its own
        return _shown(getattr(value, "root", {}))
    if isinstance(value, Mapping):
        hide = name == "headers"
        return {
            str(key): SECRET_SHOWN if hide and _CREDENTIAL_HEADER.search(str(key)) else _shown(item)
            for key, item in value.items()
        }
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    if isinstance(value, str):
        text = octets(value).decode("utf-8", "replace")  # octets that are no text (of !!binary) as U+FFFD
        return _without_password(text) if name in ("proxy_url", "token_url") else text
    return value


def _of_fields(section: Section) -> dict[str, Any]:
    shown = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if name == "no_follow_redirects":
            continue  # the old name of an option that is shown
        if name == "follow_redirects" and isinstance(section, HttpProbe):
            value = section.follows
        always = ("follow_redirects", "insecure_skip_verify")
        if isinstance(value, bool) and not (value or name in section.model_fields_set or name in always):
            continue
        item = _size(value) if name == "body_size_limit" and value else _shown(value, name)
        if item not in ("", [], {}, None, 0) or isinstance(item, bool):
            shown[name] = item
    return shown


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"{SECRET_SHOWN}@{parts.netloc.rpartition('@')[2]}"))


def _size(octets_in_all: int) -> str:
    """As Go prints it: 10KiB, 1MiB512KiB, 3B."""
    text, rest = "", octets_in_all
    for power, prefix in ((60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki"), (0, "")):
        number, rest = divmod(rest, 1 << power)
        text += f"{number}{prefix}B" if number else ""
    return text


def _duration(seconds: float) -> str:
    """As Go prints it: 1m30s, 1.5s, 500ms."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
    return text
