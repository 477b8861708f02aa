"""The parts that modules are made of: what is exported and logged, names, proxies, cookies, templates."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from prober.blackbox.certificate_names import go_name
from prober.blackbox.cookies import Cookies
from prober.blackbox.expand import expand
from prober.blackbox.exposition import Metrics
from prober.blackbox.http_client_options import ProxyOptions
from prober.blackbox.log import LINES_MAX, VALUE_LENGTH_MAX, ProbeLog
from prober.blackbox.proxy import parse_proxy, proxy_for
from prober.blackbox.session import hash_of_address
from prober.blackbox.tls import cipher_name
from prober.net.url import parse_url
from prober.regex import Regex


def test_the_text_is_as_the_originals() -> None:
    metrics = Metrics()
    metrics.gauge("probe_b", "B")
    metrics.gauge("probe_a", 'A\n\\ "', 1_234_567)
    vector = metrics.vector("probe_c", "C", ("phase", "a"))
    vector.set(0.25, 'x"\\\n', "\ud800")
    metrics.vector("probe_never", "without a sample", ("x",))
    assert metrics.text() == (
        '# HELP probe_a A\\n\\\\ "\n# TYPE probe_a gauge\nprobe_a 1.234567e+06\n'
        "# HELP probe_b B\n# TYPE probe_b gauge\nprobe_b 0\n"
        '# HELP probe_c C\n# TYPE probe_c gauge\nprobe_c{a="?",phase="x\\"\\\\\\n"} 0.25\n'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (1e-5, "1e-05"),
        (123456, "123456"),
        (-62_135_596_800, "-6.21355968e+10"),
        (1.5e300, "1.5e+300"),
    ],
)
def test_numbers_are_as_go_prints_them(value: float, text: str) -> None:
    metrics = Metrics()
    metrics.gauge("x", "", value)
    assert metrics.text().splitlines()[-1] == f"x {text}"


def test_the_log_is_bounded_and_breaks_no_line() -> None:
    log = ProbeLog("m\n", "http://a b/")
    log.error('he said "x"\r\n', octets=b"\xff\x00", none="", long="x" * 10_000)
    (line,) = log.lines
    assert line.isprintable()
    assert 'module=m\\n target="http://a b/" level=error' in line
    assert len(line) < VALUE_LENGTH_MAX + 300
    for number in range(2 * LINES_MAX):
        log.debug("step", number=number)
    assert len(log.lines) == LINES_MAX + 1
    assert log.lines[-1].endswith(f"count={LINES_MAX + 1}")


@pytest.mark.parametrize(
    ("address", "digest"),
    [("127.0.0.1", 3668918509), ("::ffff:127.0.0.1", 3668918509), ("0.0.0.0", 0x4B95F515)],
)
def test_addresses_are_hashed_as_in_the_original(address: str, digest: int) -> None:
    assert hash_of_address(address) == digest


def test_names_of_certificates() -> None:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "KP"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A, B"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, " C"),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b"),
            x509.NameAttribute(NameOID.COMMON_NAME, "#first"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "S"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "L"),
        ]
    )
    assert go_name(name) == "CN=\\#first,O=A\\, B+O=\\ C,L=L,ST=S,C=KP,1.2.840.113549.1.9.1=a@b"
    assert go_name(x509.Name([])) == ""


@pytest.mark.parametrize(
    ("openssl", "iana"),
    [
        ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
        ("AES256-SHA256", "TLS_RSA_WITH_AES_256_CBC_SHA256"),
        ("AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256"),
        ("DES-CBC3-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
    ],
)
def test_ciphers_have_their_registered_names(openssl: str, iana: str) -> None:
    assert cipher_name(openssl) == iana


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (b"${1}-$2", b"a-b"),
        (b"$1x", b""),
        (b"${1}x", b"ax"),
        (b"$name $$ $9 $", b"b $  $"),
        (b"${missing}${1", b"${1"),
    ],
)
def test_templates_are_gos(template: bytes, text: bytes) -> None:
    assert expand(template, Regex("(a)(?P<name>b)").find(b"ab")) == text


@pytest.mark.parametrize(
    ("url", "no_proxy", "through"),
    [
        ("http://example.org/", "", True),
        ("http://example.org/", "example.org", False),
        ("http://www.example.org/", "example.org", False),
        ("http://notexample.org/", "example.org", True),
        ("http://example.org/", ".example.org", True),
        ("http://www.example.org/", ".example.org", False),
        ("http://example.org:8080/", "example.org:8080", False),
        ("http://example.org/", "example.org:8080", True),
        ("http://10.1.2.3/", "192.0.2.0/24, 10.0.0.0/8", False),
        ("http://[2001:db8::1]/", "2001:db8::/32", False),
        ("http://[2001:db8::1]/", "[2001:db8::1]:80", False),
        ("http://127.0.0.1/", "example.org", False),
        ("http://127.0.0.1/", "", True),
        ("http://example.org/", "*", False),
    ],
)
def test_no_proxy(url: str, no_proxy: str, through: bool) -> None:
    options = ProxyOptions(proxy_url="http://proxy:3128", no_proxy=no_proxy)
    assert (proxy_for(options, parse_url(url), {}) is not None) is through


def test_the_environments_proxy() -> None:
    options = ProxyOptions(proxy_from_environment=True)
    environment = {"http_proxy": "plain:3128", "HTTPS_PROXY": "http://u:p%40@secure", "no_proxy": "inside.example"}
    plain = proxy_for(options, parse_url("http://example.org/"), environment)
    secure = proxy_for(options, parse_url("https://example.org/"), environment)
    assert plain is not None
    assert secure is not None
    assert (plain.host, plain.port, plain.authorization) == ("plain", 3128, "")
    assert (secure.host, secure.port, secure.authorization) == ("secure", 80, "Basic dTpwQA==")
    assert "dTpw" not in repr(secure)
    assert proxy_for(options, parse_url("http://inside.example/"), environment) is None
    assert proxy_for(ProxyOptions(), parse_url("http://example.org/"), environment) is None
    with pytest.raises(ValueError, match="not supported"):
        parse_proxy("socks5://localhost:1080")


def test_cookies_go_where_they_belong() -> None:
    cookies = Cookies()
    page = parse_url("https://www.example.org/a/b")
    cookies.take(
        page,
        [
            "plain=1",
            "wide=2; Domain=example.org; Path=/",
            "safe=3; Path=/; Secure",
            "foreign=4; Domain=example.com",
            "top=5; Domain=org",
            "gone=6; Path=/; Max-Age=0",
            "not a cookie\x00",
        ],
    )
    assert cookies.header(page) == "plain=1; wide=2; safe=3"
    assert cookies.header(parse_url("http://www.example.org/a/c")) == "plain=1; wide=2"
    assert cookies.header(parse_url("https://www.example.org/ab")) == "wide=2; safe=3"
    assert cookies.header(parse_url("https://mail.example.org/")) == "wide=2"
    assert cookies.header(parse_url("https://example.com/")) == ""
    address = Cookies()
    address.take(parse_url("http://127.0.0.1/"), ["a=1; Domain=0.0.1"])
    assert address.header(parse_url("http://127.0.0.1/")) == ""
