"""Who may be probed through /probe: every form of every address that is no public host."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from prober.blackbox.guard import Destination
from prober.blackbox.policy import REASONS, Policy, PolicyGuard
from prober.blackbox.special import embedded, reached, special_range
from prober.config.allow import parse_allow
from prober.config.optout import OptOut

PUBLIC4, PUBLIC6 = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"

SPECIAL = {
    "metadata": [
        *("169.254.169.254", "169.254.169.253", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *("fd00:ec2::254", "fd20:ce::254"),
    ],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1", "fec0::1"],
    "shared": ["100.64.0.1", "100.127.255.255"],
    "link_local": ["169.254.0.1", "fe80::1", "fe80::1%lo", "febf::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "broadcast": ["255.255.255.255"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarking": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "reserved": ["192.0.0.1", "240.0.0.1", "2001:1ff::1", "100::1", "5f00::1", "4000::1", "1::1", "e000::1"],
    "tunnel": ["192.88.99.1", f"2002:{0x5DB8:x}:{0xD70E:x}::1", "::93.184.215.14", "2001:0:5db8:d70e::1"],
}
"""Each with what it is, whatever else is allowed."""

ORDINARY = ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"]
ORDINARY += ["169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255"]
ORDINARY += ["192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "175.45.176.71", PUBLIC4, PUBLIC6]
ORDINARY += ["2001:200::1", "2a00::1", "2001:4860:4860::8888", "192.31.196.1", "192.52.193.1", "192.175.48.1"]


def judged(allow: list[str], address: str, port: int = 443, name: str | None = None) -> str | None:
    """The reason of the refusal, None if there is none."""
    refusal = Policy.of(allow, lambda _host: True).judge(Destination(name or address, address, port))
    assert refusal is None or refusal.reason in REASONS
    return refusal.reason if refusal is not None else None


@pytest.mark.parametrize(("word", "address"), [(word, text) for word, texts in SPECIAL.items() for text in texts])
@pytest.mark.parametrize("allow", [["public"], ["0.0.0.0/0", "::/0"], ["public", "host.example.org"]])
def test_what_is_special_is_opened_by_nothing_wider(word: str, address: str, allow: list[str]) -> None:
    assert judged(allow, address) == word
    assert judged(allow, address, name="host.example.org") == word


@pytest.mark.parametrize("address", ORDINARY)
def test_the_neighbours_of_special_ranges_are_public(address: str) -> None:
    assert special_range(ip_address(address)) is None
    assert judged(["public"], address) is None
    assert judged([f"{address}"], address) is None
    assert judged(["198.51.99.0/24"], address) == "not_allowed"


@pytest.mark.parametrize(("word", "address"), [(word, text) for word, texts in SPECIAL.items() for text in texts])
def test_an_entry_for_just_that_address_opens_it(word: str, address: str) -> None:
    inner = [str(inside) for inside in embedded(ip_address(address)) if special_range(inside)]
    assert judged([address.partition("%")[0], *inner], address) is None


@pytest.mark.parametrize(
    ("allow", "address"),
    [("10.0.0.0/8", "10.1.2.3"), ("10.1.0.0/16", "10.1.2.3"), ("127.0.0.0/8", "127.0.0.1"), ("fd00::/8", "fd00::1")],
)
def test_a_prefix_within_the_range_opens_its_own_part(allow: str, address: str) -> None:
    assert judged([allow], address) is None
    assert judged([allow], address, name="rebound.example.net") is None
    assert judged([allow], "192.168.0.1") == "private"


@pytest.mark.parametrize(
    ("allow", "address"),
    [("169.254.0.0/16", "169.254.169.254"), ("100.64.0.0/10", "100.100.100.200"), ("fc00::/7", "fd20:ce::254")],
)
def test_metadata_is_not_opened_by_the_range_around_it(allow: str, address: str) -> None:
    assert judged([allow], address) == "metadata"


@pytest.mark.parametrize("inside", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "0.0.0.0", "100.64.0.1", "224.0.0.1"])
@pytest.mark.parametrize(
    "form",
    [
        "::ffff:{v4}",  # IPv4-mapped
        "::ffff:0:{v4}",  # IPv4-translated
        "::{v4}",  # IPv4-compatible
        "64:ff9b::{v4}",  # NAT64
        "64:ff9b:1::{v4}",  # NAT64 within a network
        "2002:{hi:x}:{lo:x}::1",  # 6to4
        "2001:0:{hi:x}:{lo:x}::1",  # Teredo, its server
        "2001:0:5db8:d70e::{xhi:x}:{xlo:x}",  # Teredo, its client
        "2606:2800::5efe:{v4}",  # ISATAP
        "2606:2800::200:5efe:{v4}",
    ],
)
def test_an_ipv4_address_inside_an_ipv6_address_is_seen(form: str, inside: str) -> None:
    number = int(IPv4Address(inside))
    address = form.format(
        v4=inside,
        hi=number >> 16,
        lo=number & 0xFFFF,
        xhi=(number >> 16) ^ 0xFFFF,
        xlo=(number & 0xFFFF) ^ 0xFFFF,
    )
    outer = ip_address(address)
    if int(outer) > 1:  # ::0.0.0.0 is ::
        assert IPv4Address(inside) in (reached(outer), *embedded(outer))
    assert judged(["public"], address) is not None
    assert judged(["public", "::/0"], address) is not None
    assert judged(["public", "2001::/32", "2002::/16", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48"], address), "inside"


def test_mapped_and_translated_public_addresses_are_what_they_stand_for() -> None:
    for address in (f"::ffff:{PUBLIC4}", f"64:ff9b::{PUBLIC4}"):
        assert judged(["public"], address) is None
        assert judged([PUBLIC4], address) is None
        assert judged(["1.1.1.1"], address) == "not_allowed"


def test_names_are_exact_unless_they_begin_with_a_point() -> None:
    assert judged(["example.org"], PUBLIC4, name="example.org") is None
    assert judged(["example.org"], PUBLIC4, name="EXAMPLE.org.") is None
    for name in ("www.example.org", "badexample.org", "example.org.evil.net", "example.or"):
        assert judged(["example.org"], PUBLIC4, name=name) == "not_allowed"
    assert judged([".example.org"], PUBLIC4, name="www.example.org") is None
    assert judged([".example.org"], PUBLIC4, name="a.b.example.org") is None
    assert judged([".example.org"], PUBLIC4, name="example.org") is None
    assert judged([".example.org"], PUBLIC4, name="badexample.org") == "not_allowed"
    assert judged(["bücher.example"], PUBLIC4, name="xn--bcher-kva.example") is None
    assert judged(["example.org"], PUBLIC4) == "not_allowed", "the address of a name is not the name"


def test_ports() -> None:
    assert judged(["example.org:443"], PUBLIC4, 443, "example.org") is None
    assert judged(["example.org:443"], PUBLIC4, 22, "example.org") == "not_allowed"
    assert judged(["public:80-90"], PUBLIC4, 90) is None
    assert judged(["public:80-90"], PUBLIC4, 91) == "not_allowed"
    assert judged(["127.0.0.0/8:8080"], "127.0.0.1", 8080) is None
    assert judged(["127.0.0.0/8:8080"], "127.0.0.1", 22) == "loopback"
    assert judged(["[::1]:8080"], "::1", 8080) is None
    assert judged(["public"], PUBLIC4, 0) is None, "icmp has no port"
    assert judged(["public:443"], PUBLIC4, 0) == "not_allowed"


def test_without_a_list_nothing_is_allowed() -> None:
    assert judged([], PUBLIC4) == "no_allow_list"
    assert judged([], "127.0.0.1") == "no_allow_list"


def test_who_opted_out_is_refused_before_all_else() -> None:
    policy = Policy.of(["public"], OptOut(("example.org", "93.184.215.0/24")).permits)
    for name, address in (
        ("www.example.org", PUBLIC6),
        ("elsewhere.net", PUBLIC4),
        ("elsewhere.net", f"64:ff9b::{PUBLIC4}"),
    ):
        refusal = policy.judge(Destination(name, address, 80))
        assert refusal is not None
        assert refusal.reason == "opted_out"
    asked = policy.before_resolving("a.example.org")
    assert asked is not None
    assert asked.reason == "opted_out"


def test_what_cannot_be_allowed_is_not_even_resolved() -> None:
    assert Policy.of([".example.org"], lambda _: True).before_resolving("evil.net") is not None
    assert Policy.of([".example.org"], lambda _: True).before_resolving("www.example.org") is None
    assert Policy.of(["10.0.0.0/8"], lambda _: True).before_resolving("intern.corp") is None, "it may lead there"
    assert Policy.of([], lambda _: True).before_resolving("example.org") is not None


def test_unix_sockets_are_named_one_by_one() -> None:
    policy = Policy.of(["public", "unix:/run/app.sock"], lambda _: True)
    assert policy.judge(Destination("/run/app.sock", "/run/app.sock", 0, "unix")) is None
    for path in ("/run/docker.sock", "/run/../run/app.sock", "/run/app.sock/", "app.sock"):
        assert policy.judge(Destination(path, path, 0, "unix")) is not None
    assert judged(["unix:/run/app.sock"], PUBLIC4) == "not_allowed"


def test_the_guard_remembers_what_it_refused_and_says_no_address() -> None:
    guard = PolicyGuard(Policy.of(["public"], lambda _: True))
    assert guard(Destination("ok.example.org", PUBLIC4, 80)) is None
    assert not guard.refusal
    text = guard(Destination("intern.example.org", "10.1.2.3", 80))
    assert text is not None
    assert "10.1.2.3" not in text
    assert "intern.example.org leads to a private address" in text
    assert getattr(guard.refusal, "reason", "") == "private"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("*", "write public"),
        ("*.example.org", "write .example.org"),
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("http://example.org", "write a name"),
        ("example.org:0", "65535"),
        ("example.org:9-8", "65535"),
        ("example.org:70000", "65535"),
        ("unix:app.sock", "unix:/run/service.sock"),
        ("unix:/run/../etc", "unix:/run/service.sock"),
        ("", "write a name"),
        ("exa mple.org", "write a name"),
    ],
)
def test_a_wrong_entry_is_told_what_to_be(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        parse_allow(text)


def test_every_reason_is_a_word() -> None:
    assert all(word.isascii() and word.replace("_", "").isalpha() for word in REASONS)
    assert {special.word for special in map(special_range, map(IPv6Address, ("1::", "::1"))) if special} <= set(REASONS)
