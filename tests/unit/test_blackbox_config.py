"""blackbox.yml: every documented option loads, keeps its default, and hides its secrets when it is shown.

What is refused, and with which words: tests/golden/config/blackbox-*.txt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from prober.blackbox import Module, Modules, load, with_hostname
from prober.blackbox.modules import read_modules
from prober.blackbox.options import BlackboxFile, DnsProbe, HttpProbe, IcmpProbe, accepts_encoding
from prober.blackbox.values import Secret
from prober.blackbox.yaml import BlackboxBuilder, octets
from prober.config.parse import parse_document
from prober.config.problems import ConfigError, Problem

EVERY_OPTION = Path(__file__).parent.parent / "golden" / "blackbox" / "every-option.yml"


def read(text: str) -> Modules:
    """The modules of a file with this text. Raises ConfigError."""
    document = parse_document("blackbox.yml", text.encode(), BlackboxBuilder)
    problems: list[Problem] = list(document.problems)
    modules = read_modules(document, problems)
    if problems:
        raise ConfigError(problems)
    assert modules is not None
    return modules


def only(text: str) -> Module:
    """The one module `m` with this text behind its name."""
    return read(f"modules: {{m: {text}}}")["m"]


def models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for argument in get_args(annotation) for model in models(argument)]


def options_of(model: type[BaseModel], path: str = "") -> set[str]:
    """`http.basic_auth.username`: the paths of all options."""
    found = set()
    for name, field in model.model_fields.items():
        here = path if name in ("root", "modules") else f"{path}.{name}".strip(".")
        inner = models(field.annotation)
        found |= set().union(*(options_of(each, here) for each in inner)) if inner else {here}
    return found


def written(value: Any, path: str = "") -> set[str]:
    """The same of a file."""
    if isinstance(value, dict):
        return {path}.union(*(written(item, f"{path}.{key}".strip(".")) for key, item in value.items()))
    if isinstance(value, list):
        return {path}.union(*(written(item, path) for item in value))
    return {path}


def test_every_option_loads() -> None:
    modules = load(EVERY_OPTION)
    assert len(modules) == 14
    assert {module.prober for module in modules.values()} == {
        *("http", "tcp", "unix", "dns", "icmp", "grpc", "websocket"),
    }


def test_the_fixture_has_every_option() -> None:
    """An option that is added to the models is added to the fixture; those of one model count at one of its places."""
    text = yaml.safe_load(EVERY_OPTION.read_text())["modules"]
    there = {path.rpartition(".")[2] for module in text.values() for path in written(module)}
    assert {path.rpartition(".")[2] for path in options_of(BlackboxFile)} - there == set()
    for prober in ("http", "tcp", "unix", "dns", "icmp", "grpc", "websocket"):
        of_prober = {path for module in text.values() for path in written(module) if path.startswith(f"{prober}.")}
        model = models(BlackboxFile.model_fields["modules"].annotation)[0].model_fields[prober].annotation
        direct = {f"{prober}.{name}" for name in models(model)[0].model_fields}
        assert direct - of_prober - {"websocket.query_response"} == set(), prober


def test_what_the_values_mean() -> None:
    modules = load(EVERY_OPTION)
    http = modules["http_every_option"].options
    assert modules["http_every_option"].timeout_seconds == 90
    assert http.valid_status_codes == (200, 302)
    assert http.headers["X-Number"] == "1.10", "text keeps how it is written"
    assert http.body_size_limit == 10 * 2**20
    assert http.follows is True, "the old name of the option wins, as in the original"
    assert http.fail_if_not_ssl is True
    assert http.ip_protocol_fallback is False
    merged = modules["http_merged"].options
    assert (merged.method, merged.body, merged.basic_auth) == ("GET", '{"a": 1}', None)
    steps = modules["tcp_every_option"].options.query_response
    assert octets(steps[1].expect_bytes) == b"\0\1\2\3"
    assert octets(steps[2].send) == b"\xff"
    assert modules["unix_every_option"].options.query_response[0].send == "1"


def test_defaults_are_the_originals() -> None:
    http = only("{prober: http}").options
    assert (http.method, http.follows, http.enable_http2, http.ip_protocol_fallback) == ("", True, True, True)
    assert http.preferred_ip_protocol == ""
    icmp = only("{prober: icmp, timeout: 0}").options
    assert (icmp.ttl, icmp.payload_size, icmp.dont_fragment) == (64, 0, False)
    dns = only("{prober: dns, dns: {query_name: example.org}}").options
    assert (dns.query_type, dns.query_class, dns.recursion_desired, dns.transport_protocol) == ("ANY", "IN", True, "")
    assert only("{prober: dns}").options.query_name == "", "as the original: the root is asked for"
    assert only("{prober: http, http: }").options == HttpProbe()
    assert read("modules:") == Modules("blackbox.yml", {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("1m30s", 90.0), ("1.5s", 1.5), ("500ms", 0.5), ("1h", 3600.0), ("0", 0.0), ("250us", 0.00025)],
)
def test_timeouts_are_go_durations(text: str, seconds: float) -> None:
    assert only(f"{{prober: http, timeout: {text}}}").timeout_seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("7B", 7), ("1KB", 1024), ("1KiB", 1024), ("1.5MB", 1_572_864), ("1MiB512KiB", 1_572_864)],
)
def test_sizes_are_the_originals(text: str, size: int) -> None:
    assert only(f"{{prober: http, http: {{body_size_limit: {text}}}}}").options.body_size_limit == size


@pytest.mark.parametrize(
    "option", ["body_size_limit: 1000", "body_size_limit: 1k", "body_size_limit: 10 MB", 'fail_if_ssl: "true"']
)
def test_what_the_original_does_not_take(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"modules\.m\.http\.{option.partition(':')[0]}: "):
        only(f"{{prober: http, http: {{{option}}}}}")


@pytest.mark.parametrize(
    ("compression", "accepted", "fits"),
    [
        ("", "br", True),
        ("gzip", "", True),
        ("gzip", "gzip", True),
        ("gzip", "br, gzip;q=0.5", True),
        ("gzip", "br", False),
        ("gzip", "*;q=0", False),
        ("gzip", "*", True),
        ("br", "gzip, br;q=0", False),
        ("gzip", "gzip;q=x", False),
    ],
)
def test_compression_and_accept_encoding(compression: str, accepted: str, fits: bool) -> None:
    assert accepts_encoding(compression, accepted) is fits


def test_no_secret_is_shown() -> None:
    modules = load(EVERY_OPTION)
    shown = modules.redacted()
    assert "s3cret" not in shown
    assert shown.count("<secret>") >= 10
    assert "s3cret" not in repr(modules)
    assert "s3cret" not in "".join(module.redacted() for module in modules.values())
    assert "c2VjcmV0" not in shown, "a header that is a credential"
    assert "Accept-Language: en-US" in shown


def test_what_is_shown_loads_again() -> None:
    modules = load(EVERY_OPTION)
    again = read(modules.redacted().replace("<secret>@", "user:secret@"))
    assert again.keys() == modules.keys()
    for name in modules:
        if name != "tcp_every_option":  # octets that are no text are shown as U+FFFD
            assert again[name].redacted().replace("user:secret@", "<secret>@") == modules[name].redacted()


def test_secrets_have_no_text() -> None:
    assert repr(Secret("x")) == "<secret>"
    module = only("{prober: http, http: {basic_auth: {username: u, password: hidden}}}")
    assert "hidden" not in repr(module.options)


def test_hostname_of_an_http_module() -> None:
    module = only("{prober: http, http: {headers: {X: y}}}")
    assert with_hostname(module, "").options == module.options
    assert with_hostname(module, "example.org:8080").options.headers == {"X": "y", "Host": "example.org:8080"}
    same = only("{prober: http, http: {headers: {host: example.org}}}")
    assert with_hostname(same, "example.org").options.headers == {"Host": "example.org"}
    with pytest.raises(ValueError, match=r"host header defined both .*\(example.org\).*\(example.com\)"):
        with_hostname(same, "example.com")


def test_hostname_of_other_modules() -> None:
    tcp = only("{prober: tcp, tcp: {tls: true}}")
    assert with_hostname(tcp, "example.org").options.tls_config.server_name == "example.org"
    named = only("{prober: tcp, tcp: {tls_config: {server_name: example.com}}}")
    assert with_hostname(named, "example.org") == named
    icmp = only("{prober: icmp}")
    assert with_hostname(icmp, "example.org") == icmp


@pytest.mark.parametrize("hostname", ["a\r\nX: y", "a b", "a\0", "example.org/", "a:b:c", "[::1", "é\n"])
@pytest.mark.parametrize("prober", ["http", "tcp"])
def test_a_hostname_that_is_none_is_refused(hostname: str, prober: str) -> None:
    with pytest.raises(ValueError, match=r"no host name|no IP address"):
        with_hostname(only(f"{{prober: {prober}}}"), hostname)


def test_equal_modules_are_equal() -> None:
    """Checks that name a module stay the same over a reload, and with them their outages."""
    text = "{prober: http, http: {fail_if_body_matches_regexp: [a], fail_if_body_json_matches_cel: 'body.a'}}"
    assert only(text) == only(text)
    assert only(text) != only(text.replace("[a]", "[b]"))


def test_the_models_are_hashable_where_contexts_are_kept_by_them() -> None:
    tls = only("{prober: tcp, tcp: {tls_config: {key: a, cert: b}}}").options.tls_config
    assert hash(tls) == hash(only("{prober: tcp, tcp: {tls_config: {key: a, cert: b}}}").options.tls_config)


def test_models_by_name() -> None:
    assert isinstance(only("{prober: icmp}").options, IcmpProbe)
    assert isinstance(only("{prober: dns}").options, DnsProbe)
