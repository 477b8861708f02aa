"""What we take for an address is what `ipaddress` takes for one, though we read it in a faster way."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import example, given
from hypothesis import strategies as st

from prober.net.names import address_of

NUMBERS = st.integers(0, 300).map(str) | st.sampled_from(["00", "01", "007", "0000", "+1", "1_0", "0x1", "\u0663", ""])
LIKE_IPV4 = st.lists(NUMBERS, min_size=3, max_size=5).map(".".join)
ENDS = st.sampled_from(["", "", "", " ", "\n", "\0", ".", "%eth0", "/24", "\ud800"])


def by_ipaddress(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


@given(st.one_of(LIKE_IPV4, st.ip_addresses().map(str), st.text("0123456789.:abf%", max_size=16)), ENDS, ENDS)
@example("192.0.2.1", "", "")
@example("192.0.2.01", "", "")
def test_an_address_is_what_ipaddress_takes_for_one(text: str, before: str, behind: str) -> None:
    found = address_of(before + text + behind)
    expected = by_ipaddress(before + text + behind)
    assert found == expected
    assert type(found) is type(expected)
