"""web.yml: what is wrong with it is told line by line (tests/golden/web), and what is right holds."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from prober.config.problems import ConfigError
from prober.web import WebConfig, read_web_config
from prober.web.webconfig import WebCode

GOLDEN = Path(__file__).parents[1] / "golden" / "web"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yml"))
HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a CA, two certificates and their keys."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("server", "client"):
        leaf = ca.issue_cert(f"{name}.example.test")
        leaf.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    key = load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    (tmp_path / "encrypted.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(name: str) -> ConfigError:
    shutil.copy(GOLDEN / f"{name}.yml", "web.yml")
    with pytest.raises(ConfigError) as raised:
        read_web_config(Path("web.yml"))
    return raised.value


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_told(name: str) -> None:
    assert f"{problems(name)}\n" == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.usefixtures("directory")
def test_every_kind_of_problem_has_a_file() -> None:
    assert {problem.code for name in CASES for problem in problems(name).problems} >= set(WebCode)


def test_no_password_hash_is_ever_told(directory: Path) -> None:
    assert "X0h1gDsPszWURQaxFh" not in str(problems("users"))
    file = directory / "good.yml"
    file.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    assert "X0h1gDsPszWURQaxFh" not in repr(read_web_config(file))


def test_a_file_that_uses_everything(directory: Path) -> None:
    file = directory / "web.yml"
    file.write_text(f"""
tls_server_config:
  cert_file: server.pem
  key_file: {directory}/server.key
  client_ca_file: ca.pem
  client_auth_type: VerifyClientCertIfGiven
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256]
  prefer_server_cipher_suites: false
http_server_config:
  http2: false
  headers:
    Strict-Transport-Security: max-age=31536000
    X-Frame-Options: sameorigin
    X-Content-Type-Options: ""
basic_auth_users:
  alice: {HASH}
  김: {HASH}
""")
    config = read_web_config(file)
    assert config.users == {b"alice": HASH.encode(), "김".encode(): HASH.encode()}
    assert config.headers == {
        "Strict-Transport-Security": "max-age=31536000",
        "X-Frame-Options": "sameorigin",
        "X-Content-Type-Options": "",
    }
    tls = config.tls
    assert tls is not None
    assert tls.verify_mode == ssl.CERT_OPTIONAL
    assert (tls.minimum_version, tls.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    assert not tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    suites = {suite["name"] for suite in tls.get_ciphers() if suite["protocol"] == "TLSv1.2"}
    assert suites == {"ECDHE-ECDSA-AES128-GCM-SHA256"}


def test_defaults_are_the_toolkits(directory: Path) -> None:
    file = directory / "web.yml"
    file.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    tls = read_web_config(file).tls
    assert tls is not None
    assert (tls.minimum_version, tls.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert tls.verify_mode == ssl.CERT_NONE
    assert tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_paths_are_relative_to_the_file_wherever_the_agent_was_started(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = directory / "web.yml"
    file.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    monkeypatch.chdir("/")
    assert read_web_config(file).tls is not None


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text("# nothing yet\n")
    assert read_web_config(file) == WebConfig()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read_web_config(tmp_path / "web.yml")
    assert str(raised.value) == f"{tmp_path}/web.yml: no such file; check the path"
