"""TLS as every kind speaks it: certificates made here, servers on loopback, each failure by its name."""

from __future__ import annotations

import asyncio
import os
import ssl
import warnings
from datetime import datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import ValidationError

from prober.failures import Failure, Operation
from prober.net.tls import TlsOptions, context_for
from prober.probes.tcp import KIND
from tests.certificates import DAY, NOW, loaded, self_made, server_context, tls_server
from tests.leaks import assert_no_leaks
from tests.streams import TIMEOUT, Names, Outcome, Script, dribbling, hang, probe_once, reset, run, saying, serving


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


async def shake_hands(
    context: ssl.SSLContext,
    *,
    host: str = "127.0.0.1",
    name: str | None = None,
    ended: list[str] | None = None,
    ca_file: str | None = None,
    **others: object,
) -> Outcome:
    """One probe of a TLS server at `host`, named `name` if given."""
    tls = {**others, **({"ca_file": ca_file} if ca_file else {})}
    async with assert_no_leaks(), tls_server(context, host, ended) as address:
        names = Names({name: host} if name else {})
        where = f"{name}:{address.rpartition(':')[2]}" if name else address
        return await run(KIND, {"address": where, "tls": tls, "expect": "hello"}, names=names)


# -- a good handshake --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_facts_of_a_good_handshake(ca: trustme.CA, ca_file: str, host: str) -> None:
    later = NOW + 20 * DAY
    certificate = ca.issue_cert(host, not_after=later)
    outcome = await shake_hands(server_context(certificate), host=host, ca_file=ca_file)
    assert outcome.failed is None
    assert set(outcome.attempt.phases) == {"resolve", "connect", "tls", "exchange"}
    facts = outcome.attempt.facts
    assert facts["tls_version"] == "TLS 1.3"
    assert str(facts["tls_cipher"]).startswith("TLS_")
    assert facts["cert_leaf_expiry"] == later.timestamp()
    assert facts["cert_earliest_expiry"] == later.timestamp()


async def test_the_earliest_expiry_is_of_the_whole_chain(ca: trustme.CA, ca_file: str) -> None:
    issuer_pem = ca.cert_pem.bytes()
    issuer = x509.load_pem_x509_certificate(issuer_pem)
    issuer_key = ca._private_key  # trustme sets no dates of an intermediate certificate by itself
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key, between_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    between_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "between")])
    start = x509.CertificateBuilder().not_valid_before(NOW - DAY)
    between = (
        start.subject_name(between_name)
        .issuer_name(issuer.subject)
        .public_key(between_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_after(NOW + 5 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    leaf = (
        start.subject_name(x509.Name([]))
        .issuer_name(between_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_after(NOW + 50 * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("host.example")]), critical=True)
        .sign(between_key, hashes.SHA256())
    )
    outcome = await shake_hands(loaded([leaf, between], key), name="host.example", ca_file=ca_file)
    assert outcome.failed is None
    assert outcome.attempt.facts["cert_leaf_expiry"] == (NOW + 50 * DAY).timestamp()
    assert outcome.attempt.facts["cert_earliest_expiry"] == (NOW + 5 * DAY).timestamp()


async def test_the_name_asked_for_is_the_hosts_or_the_options_own(ca: trustme.CA, ca_file: str) -> None:
    asked: list[str | None] = []

    def note(_socket: object, name: str | None, _context: object) -> None:
        asked.append(name)

    context = server_context(ca.issue_cert("host.example", "other.example"))
    context.sni_callback = note
    assert (await shake_hands(context, name="host.example", ca_file=ca_file)).failed is None
    assert (await shake_hands(context, ca_file=ca_file, server_name="other.example")).failed is None
    assert asked == ["host.example", "other.example"]


async def test_without_verification_anything_goes_and_the_expiry_is_still_a_fact() -> None:
    outcome = await shake_hands(self_made(), verify=False)
    assert outcome.failed is None
    assert outcome.attempt.facts["cert_leaf_expiry"] == (NOW + DAY).timestamp()


async def test_old_versions_only_where_they_are_asked_for(ca: trustme.CA, ca_file: str) -> None:
    context = server_context(ca.issue_cert("127.0.0.1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    assert (await shake_hands(context, ca_file=ca_file)).failed == (Operation.TLS, Failure.TLS_HANDSHAKE)
    outcome = await shake_hands(context, ca_file=ca_file, min_version=1.0)
    assert outcome.failed is None
    assert outcome.attempt.facts["tls_version"] == "TLS 1.0"


async def test_the_connection_ends_with_a_farewell(ca: trustme.CA, ca_file: str) -> None:
    ended: list[str] = []
    context = server_context(ca.issue_cert("127.0.0.1"))
    assert (await shake_hands(context, ca_file=ca_file, ended=ended)).failed is None
    assert ended == ["farewell"]


# -- a bad certificate -------------------------------------------------------------------------------------------------


async def bad_certificate(
    context: ssl.SSLContext, ca_file: str | None, name: str | None = None, expiry: datetime | None = None
) -> Failure:
    """The failure of a probe of this server. `expiry`: of its certificate, if that is to be a fact all the same."""
    outcome = await shake_hands(context, name=name, ca_file=ca_file)
    assert outcome.failed is not None
    operation, failure = outcome.failed
    assert operation is Operation.TLS
    assert set(outcome.attempt.phases) == {"resolve", "connect"}
    expected = {} if expiry is None else dict.fromkeys(["cert_leaf_expiry", "cert_earliest_expiry"], expiry.timestamp())
    assert {key: value for key, value in outcome.attempt.facts.items() if "cert" in key} == expected
    return failure


async def test_expired(ca: trustme.CA, ca_file: str) -> None:
    server = server_context(ca.issue_cert("127.0.0.1", not_before=NOW - 2 * DAY, not_after=NOW - DAY))
    assert await bad_certificate(server, ca_file, expiry=NOW - DAY) is Failure.CERTIFICATE_EXPIRED


async def test_not_yet_valid(ca: trustme.CA, ca_file: str) -> None:
    server = server_context(ca.issue_cert("127.0.0.1", not_before=NOW + DAY, not_after=NOW + 2 * DAY))
    assert await bad_certificate(server, ca_file, expiry=NOW + 2 * DAY) is Failure.CERTIFICATE_NOT_YET_VALID


@pytest.mark.parametrize("wrong", ["issuer", "host"])
async def test_dates_of_a_certificate_that_is_not_the_targets_are_no_facts(
    ca: trustme.CA, ca_file: str, wrong: str
) -> None:
    issuer = trustme.CA() if wrong == "issuer" else ca
    server = server_context(issuer.issue_cert("127.0.0.1" if wrong == "issuer" else "192.0.2.1", not_after=NOW - DAY))
    assert await bad_certificate(server, ca_file) is not Failure.CERTIFICATE_EXPIRED


@pytest.mark.parametrize("name", [None, "host.example"])
async def test_wrong_host(ca: trustme.CA, ca_file: str, name: str | None) -> None:
    certificate = ca.issue_cert("192.0.2.1", "other.example")
    assert await bad_certificate(server_context(certificate), ca_file, name) is Failure.CERTIFICATE_WRONG_HOST


async def test_self_signed(ca_file: str) -> None:
    assert await bad_certificate(self_made(), ca_file) is Failure.CERTIFICATE_UNKNOWN_ISSUER


async def test_an_issuer_that_is_not_trusted_here(ca: trustme.CA, ca_file: str) -> None:
    foreign = server_context(trustme.CA().issue_cert("127.0.0.1"))
    assert await bad_certificate(foreign, ca_file) is Failure.CERTIFICATE_UNKNOWN_ISSUER
    # Nor does this host trust what the test has made.
    ours = server_context(ca.issue_cert("127.0.0.1"))
    assert await bad_certificate(ours, None) is Failure.CERTIFICATE_UNKNOWN_ISSUER


async def test_a_certificate_for_another_purpose(tmp_path: Path) -> None:
    context = self_made(ExtendedKeyUsageOID.CODE_SIGNING)
    # Trusted as it is, so that nothing but its purpose is wrong.
    async with tls_server(context, "127.0.0.1") as address:
        host, _, port = address.rpartition(":")
        pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    (tmp_path / "ca.pem").write_text(pem)
    assert await bad_certificate(context, str(tmp_path / "ca.pem")) is Failure.CERTIFICATE_INVALID


async def test_the_server_is_told_what_is_wrong_with_its_certificate(ca: trustme.CA, ca_file: str) -> None:
    ended: list[str] = []
    await shake_hands(self_made(), ca_file=ca_file, ended=ended)
    await shake_hands(server_context(ca.issue_cert("127.0.0.1", not_after=NOW - DAY)), ca_file=ca_file, ended=ended)
    assert ended == ["TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_CERTIFICATE_EXPIRED"]


# -- no handshake ------------------------------------------------------------------------------------------------------

SERVER_HELLO_BEGINS = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"

NO_HANDSHAKE: dict[str, tuple[Script, Failure]] = {
    "plain text": (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Failure.TLS_HANDSHAKE),
    "an alert": (saying(b"\x15\x03\x03\x00\x02\x02\x28"), Failure.TLS_HANDSHAKE),
    "the end": (saying(), Failure.CLOSED),
    "the end in the middle": (saying(SERVER_HELLO_BEGINS), Failure.CLOSED),
    "a reset": (saying(then=reset), Failure.RESET),
    "silence": (hang, Failure.TIMEOUT),
    "silence in the middle": (saying(SERVER_HELLO_BEGINS, then=hang), Failure.TIMEOUT),
    "octets without end": (dribbling(SERVER_HELLO_BEGINS, b"\x00", pause=0.02), Failure.TIMEOUT),
}


@pytest.mark.parametrize("what", NO_HANDSHAKE)
async def test_no_handshake(what: str) -> None:
    script, failure = NO_HANDSHAKE[what]
    async with assert_no_leaks(), serving(script) as address:
        outcome = await run(KIND, {"address": address, "tls": {"verify": False}}, timeout=TIMEOUT)
    assert outcome.failed == (Operation.TLS, failure)
    assert set(outcome.attempt.phases) == {"resolve", "connect"}


async def test_no_common_version(ca: trustme.CA, ca_file: str) -> None:
    context = server_context(ca.issue_cert("127.0.0.1"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    outcome = await shake_hands(context, ca_file=ca_file, min_version="1.3")
    assert outcome.failed == (Operation.TLS, Failure.TLS_HANDSHAKE)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_our_certificate(ca: trustme.CA, ca_file: str, version: ssl.TLSVersion) -> None:
    context = server_context(ca.issue_cert("127.0.0.1"))
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    outcome = await shake_hands(context, ca_file=ca_file)
    # In TLS 1.3 the client's handshake is complete before the server says that it is not content.
    assert outcome.failed == (Operation.TLS, Failure.TLS_HANDSHAKE)


# -- options -----------------------------------------------------------------------------------------------------------


async def test_contexts_are_shared_and_follow_their_file(ca: trustme.CA, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    options, same = TlsOptions(ca_file=str(path)), TlsOptions(ca_file=str(path))
    assert await context_for(options) is await context_for(same)
    assert await context_for(options) is not await context_for(options, ("http/1.1",))
    server = server_context(ca.issue_cert("127.0.0.1"))
    assert await bad_certificate(server, str(path)) is Failure.CERTIFICATE_UNKNOWN_ISSUER
    ca.cert_pem.write_to_path(str(path))
    os.utime(path, (0, 0))
    assert (await shake_hands(server, ca_file=str(path))).failed is None


async def test_a_file_that_has_gone_is_our_own_trouble(ca: trustme.CA, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    options = KIND.options.model_validate({"address": "127.0.0.1:443", "tls": {"ca_file": str(path)}})
    path.unlink()
    async with assert_no_leaks():
        outcome = await probe_once(KIND, options)
    assert outcome.failed == (Operation.PREPARE, Failure.INTERNAL_ERROR)
    assert str(path) in outcome.detail


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ca_file": "/nonexistent.pem"}, "ca_file /nonexistent.pem cannot be loaded: No such file or directory"),
        ({"ca_file": __file__}, "holds no certificates in PEM format"),
        ({"ca_file": "/tmp/ca.pem", "verify": False}, "ca_file has no effect with verify: false"),
        ({"server_name": "no such name"}, "is no host name"),
        ({"server_name": ".example"}, "is no host name"),
        ({"min_version": "1.4"}, "Input should be '1.0', '1.1', '1.2' or '1.3'"),
        ({"verify": "no"}, "valid boolean"),
        ({"insecure": True}, "not permitted"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        TlsOptions.model_validate(options)
    assert says in str(error.value)
