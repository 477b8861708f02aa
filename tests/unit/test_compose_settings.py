"""deploy/apply_settings.py: what the containers read, made of settings.yml and the secret files."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deploy.apply_settings import Places, Wrong, apply, main, read_settings, vantage_name
from tests.lab import require_program

ROOT: Final = Path(__file__).parents[2]
REMOTE: Final = 'remote_write: {url: "https://prober.example.org:9443/api/v1/write", user: tokyo}\n'


@pytest.fixture
def at(tmp_path: Path) -> Places:
    """The containers' directories, with the shipped files."""
    for directory in ("out/agent", "out/alertmanager", "out/grafana", "out/prometheus", "secrets/alertmanager"):
        (tmp_path / directory).mkdir(parents=True)
    for directory in ("secrets/grafana", "secrets/vantage"):
        (tmp_path / directory).mkdir()
    shutil.copytree(ROOT / "deploy/alertmanager", tmp_path / "alertmanager")
    return Places(
        settings=tmp_path / "settings.yml",
        alertmanager=tmp_path / "alertmanager/alertmanager.yml",
        prometheus=ROOT / "deploy/vantage/prometheus.yml",
        secrets=tmp_path / "secrets",
        out=tmp_path / "out",
    )


def shipped() -> str:
    return (ROOT / "deploy/settings.yml").read_text().replace("/etc/prober/targets", str(ROOT / "targets"))


def made(at: Places, name: str) -> Any:
    return yaml.safe_load((at.out / name).read_text())


def test_the_shipped_settings_work_and_wake_nobody(at: Places, capsys: pytest.CaptureFixture[str]) -> None:
    at.settings.write_text(shipped())
    apply("central", at)
    assert capsys.readouterr().out == "settings: fine; nobody is told by: page, notice, recovery, watchdog\n"
    assert made(at, "agent/settings.yml")["vantage"] == {"name": "local", "index": 0, "of": 1}
    config = made(at, "alertmanager/candidate.yml")
    assert config["receivers"] == [{"name": name} for name in ("page", "notice", "recovery", "watchdog")]
    assert config["templates"] == [str(at.alertmanager.parent / "templates/*.tmpl")]
    assert len((at.out / "grafana/admin_password").read_text()) >= 20


def test_every_example_in_the_shipped_settings_can_be_uncommented(at: Places) -> None:
    secrets = at.secrets / "alertmanager"
    # Prose has one blank after its #; an example has none, or more where it is indented.
    text = re.sub(r"(?m)^(#(?=\S)|(\s+)#(?=\S|  ))", r"\2", shipped())
    at.settings.write_text(text.replace("/run/secrets/alertmanager", str(secrets)))
    for name in ("pagerduty_routing_key", "smtp_password", "slack_url", "watchdog_token"):
        (secrets / name).write_text("https://127.0.0.1/\n")
    apply("central", at)
    config = {r["name"]: r for r in made(at, "alertmanager/candidate.yml")["receivers"]}
    kinds = {name: [key for key in receiver if key != "name"] for name, receiver in config.items()}
    assert kinds == {
        "page": ["pagerduty_configs"],
        "notice": ["email_configs"],
        "recovery": ["slack_configs"],
        "watchdog": ["webhook_configs"],
    }
    assert all(entry["send_resolved"] is False for name in config for entry in config[name][kinds[name][0]])
    assert config["recovery"]["slack_configs"][0]["title"] == '{{ template "prober.title" . }}'
    amtool = require_program("amtool")
    command = [amtool, "check-config", str(at.out / "alertmanager/candidate.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert made(at, "agent/settings.yml")["contact"] == "mailto:noc@example.org"


def test_what_the_user_writes_is_kept(at: Places) -> None:
    at.settings.write_text(
        "receivers:\n  page:\n    slack_configs:\n      - {channel: x, title: mine, send_resolved: true}\n"
    )
    apply("central", at)
    (page, *_) = made(at, "alertmanager/candidate.yml")["receivers"]
    (entry,) = page["slack_configs"]
    assert (entry["title"], entry["send_resolved"], entry["channel"]) == ("mine", True, "x")


def test_the_agents_part_keeps_its_line_numbers(at: Places) -> None:
    at.settings.write_text(
        "receivers:\n  page:\n    webhook_configs: [{url: http://x}]\n\n"
        "contact: mailto:a@b.c\nremote_write: {url: x}\nlog: {}\n"
    )
    ours, agent = read_settings(at.settings)
    assert set(ours) == {"receivers", "remote_write"}
    assert agent == "\n\n\n\ncontact: mailto:a@b.c\n\nlog: {}\n"


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "receivers:\n", "receivers: {}\n", "receivers:\n#  page:\nlog: {}\n"]
)
def test_empty_settings_are_the_defaults(at: Places, text: str) -> None:
    at.settings.write_text(text)
    apply("central", at)
    assert vantage_name((at.out / "agent/settings.yml").read_text()) == "local"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\ncontact: nobody\n", "settings.yml:2: contact: "),
        ("contakt: mailto:a@b.c\n", "settings.yml:1: contakt: "),
        ("- a\n", "settings.yml: keys and values are expected"),
        ("receivers: [a\n", "settings.yml:2: expected ',' or ']'"),
        ("receivers: [page]\n", "the names are page, notice, recovery, watchdog"),
        ("receivers: {pager: {}}\n", "there is no 'pager'; the names are page, notice"),
        ("receivers: {page: }\n", "settings.yml: receivers.page: nothing is in it"),
        ("receivers: {page: {webhook: []}}\n", "receivers.page.webhook: a list named like webhook_configs"),
        ("receivers: {page: {webhook_configs: {url: x}}}\n", "receivers.page.webhook_configs: a list named like"),
        ("receivers: {page: {webhook_configs: [x]}}\n", "receivers.page.webhook_configs: a list named like"),
        (
            "receivers: {}\nlog: {}\nreceivers: {}\n",
            "settings.yml:3: receivers: the key is there twice, first on line 1;",
        ),
        ("receivers:\n  page:\n  notice:\n  page:\n", "settings.yml:4: page: the key is there twice, first on line 2;"),
        ("receivers: {page: {webhook_configs: [{url: a, url: b}]}}\n", "settings.yml:1: url: the key is there twice"),
        (
            "receivers: {page: {webhook_configs: [{url_file: /nowhere}]}}\n",
            "/nowhere is not there or not readable to uid",
        ),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(at: Places, text: str, complaint: str) -> None:
    at.settings.write_text(text)
    with pytest.raises(Wrong) as error:
        apply("central", at)
    assert complaint in str(error.value)
    assert not [path for path in at.out.rglob("*") if path.is_file()]


def test_grafanas_password_is_made_up_once_unless_there_is_one(at: Places) -> None:
    at.settings.write_text("")
    kept, given = at.out / "grafana/admin_password", at.secrets / "grafana/admin_password"
    apply("central", at)
    first = kept.read_text()
    apply("central", at)
    assert kept.read_text() == first
    given.write_text("correct horse\n")
    apply("central", at)
    assert kept.read_text() == "correct horse"
    given.write_text("\n")
    with pytest.raises(Wrong, match="secrets/grafana/admin_password is empty"):
        apply("central", at)


@pytest.mark.parametrize("authority", [False, True])
def test_a_remote_vantage_pushes_under_its_own_name(at: Places, authority: bool) -> None:
    at.settings.write_text("vantage: {name: tokyo, index: 1, of: 2}\n" + REMOTE)
    own = at.secrets / "vantage"
    (own / "password").write_text("secret\n")
    (own / "ca.crt").write_text("") if authority else None
    apply("vantage", at)
    config = made(at, "prometheus/prometheus.yml")
    assert config["global"]["external_labels"] == {"vantage": "tokyo"}
    (target,) = config["remote_write"]
    assert target["basic_auth"] == {"username": "tokyo", "password_file": str(own / "password")}
    assert target.get("tls_config") == ({"ca_file": str(own / "ca.crt")} if authority else None)
    assert "secret" not in (at.out / "prometheus/prometheus.yml").read_text().replace(str(at.secrets), "")
    promtool = require_program("promtool")
    command = [promtool, "check", "config", "--agent", "--syntax-only", str(at.out / "prometheus/prometheus.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("vantage: tokyo\n", "remote_write: a remote vantage needs"),
        ("vantage: tokyo\nremote_write: {url: https://x}\n", "remote_write: a remote vantage needs"),
        ("vantage: tokyo\nremote_write: {url: http://x, user: a}\n", "remote_write.url: a password is sent there"),
        (REMOTE, "'local' is what the central one is called"),
        ("vantage: tokyo\n" + REMOTE, "secrets/vantage/password is not there"),
    ],
)
def test_a_remote_vantage_that_cannot_push_does_not_start(at: Places, text: str, complaint: str) -> None:
    at.settings.write_text(text)
    with pytest.raises(Wrong) as error:
        apply("vantage", at)
    assert complaint in str(error.value)
    assert not [path for path in at.out.rglob("*") if path.is_file()]


def test_its_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["both"]) == 2
    assert capsys.readouterr().err == "usage: apply_settings.py central|vantage\n"
