"""What a request to /probe says: the timeout rule of the original, and what is shown of a target."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from prober.blackbox.modules import Module, load
from prober.blackbox.policy import INVALID_HOSTNAME, INVALID_TARGET
from prober.blackbox.request import host_of, malformed, patience_of, timeout_of, without_password


@pytest.mark.parametrize(
    ("header", "module", "expected"),
    [
        (None, 0.0, 119.5),
        (None, 5.0, 5.0),
        (None, 200.0, 119.5),
        ("", 0.0, 119.5),
        ("0", 0.0, 119.5),
        ("10", 0.0, 9.5),
        ("10", 5.0, 5.0),
        ("10", 9.5, 9.5),
        ("10", 30.0, 9.5),
        ("1e1", 0.0, 9.5),
        ("0.5", 5.0, 0.0),
        ("0.3", 5.0, 5.0),  # less than the answer's half second: the module's own
        ("-3", 5.0, 5.0),
        ("300", 200.0, 200.0),
        ("300", 0.0, 119.5),  # nobody may hold a place for longer by asking for it
        ("1e300", 0.0, 119.5),
    ],
)
def test_the_timeout(header: str | None, module: float, expected: float) -> None:
    assert timeout_of(patience_of(header), module) == pytest.approx(expected)


@pytest.mark.parametrize("header", ["soon", "1s", "1,5", "nan", "inf", "1_0", "0x1", "--1", "1.2.3", " 1"])
def test_a_header_that_is_no_number(header: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        patience_of(header)
    assert math.isfinite(patience_of("1"))


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Module]:
    file: Path = tmp_path_factory.mktemp("modules") / "blackbox.yml"
    probers = ("http", "tcp", "dns", "icmp", "grpc", "unix", "websocket")
    file.write_text("modules:\n" + "".join(f"  {name}: {{prober: {name}}}\n" for name in probers))
    return dict(load(file))


@pytest.mark.parametrize(
    ("module", "target", "host"),
    [
        ("http", "http://Example.org:80/x?y#z", "example.org"),
        ("http", "example.org/x", "example.org"),
        ("http", "https://[2001:db8::1]:443/", "2001:db8::1"),
        ("http", "http://user:pass@example.org/", "example.org"),
        ("http", "http://[::1", None),
        ("tcp", "example.org:22", "example.org"),
        ("tcp", "[::1]:22", "::1"),
        ("dns", "192.0.2.1", "192.0.2.1"),
        ("icmp", "2001:db8::1", "2001:db8::1"),
        ("grpc", "example.org:50051", "example.org"),
        ("websocket", "wss://example.org/", "example.org"),
        ("unix", "/run/x", None),
    ],
)
def test_the_host_of_a_target(modules: dict[str, Module], module: str, target: str, host: str | None) -> None:
    assert host_of(modules[module], target) == host


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("http://example.org/@x", "http://example.org/@x"),
        ("http://me:secret@example.org/a?b", "http://<secret>@example.org/a?b"),
        ("me:secret@example.org/a", "<secret>@example.org/a"),
        ("http://me@x:secret@example.org", "http://<secret>@example.org"),
        ("http://[me:secret@example.org", "<secret>@example.org"),
        ("example.org:80", "example.org:80"),
    ],
)
def test_credentials_are_not_shown(target: str, shown: str) -> None:
    assert without_password(target) == shown


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "\0", "a\x1b[0m", "a\x7f", "a\x85b", "a\u2028b"])
def test_control_characters_are_refused(text: str) -> None:
    refusal = malformed(text, "")
    assert refusal is not None
    assert refusal.reason == INVALID_TARGET
    refusal = malformed("example.org", text)
    assert refusal is not None
    assert refusal.reason == INVALID_HOSTNAME


def test_honest_texts_are_not() -> None:
    for target, hostname in (
        ("http://example.org/ä b?c=%0a", "example.org"),
        ("example.org", "vhost.example.org:8080"),
        ("example.org", "[2001:db8::1]:443"),
        ("example.org", "192.0.2.1"),
        ("example.org", "bücher.example"),
        ("x" * 2048, ""),
    ):
        assert malformed(target, hostname) is None
    assert malformed("x" * 2049, "") is not None
