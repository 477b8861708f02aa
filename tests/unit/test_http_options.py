"""What an http check may say, and how nonsense is refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from prober.probes.http import KIND
from prober.probes.http_options import HttpOptions


def parse(**options: object) -> HttpOptions:
    """Options as the file gives them."""
    return HttpOptions.model_validate_json(json.dumps({"url": "http://host.example/", **options}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "host.example"}, 'the URL has the scheme ""; write http://... or https://...'),
        ({"url": "ftp://host.example/"}, 'the URL has the scheme "ftp"'),
        ({"url": "http://"}, "the URL names no host; write http://host/path"),
        ({"url": "http:///path"}, "the URL names no host"),
        ({"url": "http://host.example:99999/"}, "not a URL (Port out of range 0-65535); write it like"),
        ({"url": "http://host.example:0/"}, "the URL's port is 0"),
        ({"url": "http://[::1/"}, "not a URL (Invalid IPv6 URL)"),
        ({"url": "http://host.example/\n"}, "the URL holds a control character"),
        ({"url": "http://host example/"}, '"host example" is no host name'),
        ({"url": "http://-host.example/"}, "is no host name"),
        ({"url": "http://[fe80::1%25eth0]/"}, "an address without interface"),
        ({"url": "http://192.0.2.256/"}, "write all four numbers"),
        ({"url": "http://host.example/" + "x" * 9000}, "8192 are allowed"),
        ({"method": "get"}, '"get" is no HTTP method; write one like GET, HEAD or POST'),
        ({"method": "GET /"}, "is no HTTP method"),
        ({"method": "CONNECT"}, "CONNECT asks for a tunnel"),
        ({"headers": {"X Y": "z"}}, '"X Y" is no header name'),
        ({"headers": {"X:": "z"}}, "is no header name"),
        ({"headers": {"X": "a\r\nY: b"}}, "the value of X holds a control character; remove it"),
        ({"headers": {"X": "a\0"}}, "holds a control character"),
        ({"headers": {"Connection": "keep-alive"}}, "Connection cannot be set"),
        ({"headers": {"content-length": "3"}}, "content-length cannot be set, it follows from the body; remove it"),
        ({"headers": {"Accept": "a", "accept": "b"}}, "accept and Accept are the same header; remove one"),
        ({"headers": {"Accept-Encoding": "br"}, "compression": "gzip"}, "say the same thing; remove one"),
        ({"address": "host.example"}, '"host.example" is no IP address'),
        ({"address": "192.0.2.1", "family": "ipv6"}, "192.0.2.1 is no IPv6 address"),
        ({"source": "192.0.2.1", "family": "ipv6"}, "write an IPv6 address"),
        ({"url": "http://[2001:db8::1]/", "source": "192.0.2.1"}, "write an IPv6 address"),
        ({"method": "HEAD", "expect": {"body": "x"}}, "an answer to HEAD has no body to match; use GET"),
        ({"expect": {"status": [99]}}, "99 is no HTTP status; write one from 100 to 999"),
        ({"expect": {"status": ["200"]}}, '"200" is no class of statuses'),
        ({"expect": {"status": ["6xx"]}}, '"6xx" is no class of statuses'),
        ({"expect": {"status": []}}, "at least 1 item"),
        ({"expect": {"headers": {"a b": "x"}}}, '"a b" is no header name'),
        ({"expect": {"body": "("}}, "not a valid regular expression"),
        ({"redirects": -1}, "greater than or equal to 0"),
        ({"body_limit": 0}, "greater than or equal to 1"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        parse(**options)
    assert error.value.error_count() == 1
    assert says in str(error.value)


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError) as error:
        parse(url="http://user:hunter2@host.example/")
    (problem,) = error.value.errors(include_input=False)
    assert "use an Authorization header" in problem["msg"]
    assert "hunter2" not in problem["msg"]


def test_secrets_do_not_show_in_a_log() -> None:
    options = parse(headers={"Authorization": "Bearer hunter2"}, method="POST", body="hunter2")
    assert "hunter2" not in repr(options)


def test_what_a_file_leaves_out() -> None:
    options = parse()
    assert (options.method, options.redirects, options.body_limit, options.tls.verify) == ("GET", 5, 1048576, True)
    assert options.expect.accepts(204)
    assert not options.expect.accepts(304)


def test_urls() -> None:
    assert KIND.from_url is not None
    assert KIND.from_url("HTTPS://host.example/") == {"url": "HTTPS://host.example/"}
    assert KIND.from_url("tcp://host.example:80") is None
    assert KIND.host(parse(url="http://[2001:db8::1]:8080/")) == "2001:db8::1"
    assert KIND.host(parse(address="192.0.2.1")) == "192.0.2.1"


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("http://Host.Example", "host.example", "/"),
        ("http://host.example:80/a/../b?c#d", "host.example", "/a/../b?c"),
        ("https://host.example:80/", "host.example:80", "/"),
        ("https://[2001:db8::1]/?q", "[2001:db8::1]", "/?q"),
        ("http://host.example/%41 b", "host.example", "/%41%20b"),
        ("http://조선.example/조", "xn--6i4bt7k.example", "/%EC%A1%B0"),
    ],
)
def test_a_url_is_sent_as_it_is_written(url: str, authority: str, target: str) -> None:
    parts = parse(url=url).target
    assert (parts.authority, parts.target) == (authority, target)
