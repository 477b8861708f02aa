"""Makes the files that the containers read of settings.yml and the secret files, each time `docker compose up` runs.

Alertmanager expands no environment variables and includes no files, so what users change is merged into its
configuration here. All is read and checked before anything is written; what is wrong is one line and exit code 2.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from prober.config import ConfigError, load, load_settings

OURS: Final = ("receivers", "remote_write")
"""Keys of settings.yml that are not the agent's."""
DEFAULT_VANTAGE: Final = "local"
DEFAULTS: Final = f"vantage: {DEFAULT_VANTAGE}\n"
"""What the agent is given when nothing in settings.yml is meant for it: it refuses an empty file."""
SAID: Final[dict[str, dict[str, Any]]] = {
    "email_configs": {
        "headers": {"Subject": '{{ template "prober.title" . }}'},
        "text": '{{ template "prober.text" . }}',
        "html": '{{ template "prober.html" . }}',
    },
    "slack_configs": {
        "color": '{{ template "prober.color" . }}',
        "title": '{{ template "prober.title" . }}',
        "text": '{{ template "prober.text" . }}',
    },
    "pagerduty_configs": {
        "severity": "{{ or .CommonLabels.severity `critical` }}",
        "description": '{{ template "prober.title" . }}',
        "details": {"text": '{{ template "prober.text" . }}'},
    },
}
"""What a receiver says unless the user writes something else: the templates beside alertmanager.yml."""


class Wrong(Exception):
    """What the user wrote cannot be used; the text is a line for each mistake."""


@dataclass(frozen=True)
class Places:
    """Where things are. The defaults are the containers'."""

    settings: Path = Path("/etc/prober/settings.yml")
    alertmanager: Path = Path("/etc/alertmanager/alertmanager.yml")
    prometheus: Path = Path("/etc/prometheus/prometheus.yml")
    secrets: Path = Path("/run/secrets")
    out: Path = Path("/run/prober")


def read_settings(path: Path) -> tuple[dict[str, Any], str]:
    """Our part of the settings as values, and the agent's as text with the same line numbers. Raises Wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise Wrong(f"{path.name}: cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Wrong(f"{path.name}:{mark.line + 1 if mark else 1}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise Wrong(f"{path.name}: {' '.join(str(error).split())}") from None
    if node is None:
        return {}, DEFAULTS
    if not isinstance(node, yaml.MappingNode):
        raise Wrong(f"{path.name}: keys and values are expected, like `contact: mailto:noc@example.org`")
    refuse_repeated(path.name, node, OURS)
    lines = text.splitlines()
    for key, value in node.value:
        if key.value in OURS:
            refuse_repeated(path.name, value)
            end = value.end_mark.line + (value.end_mark.column > 0)
            lines[key.start_mark.line : end] = [""] * (end - key.start_mark.line)
    ours = {key: values[key] for key in OURS if key in values}
    return ours, "\n".join(lines) + "\n" if len(values) > len(ours) else DEFAULTS


def refuse_repeated(name: str, node: yaml.Node, only: tuple[str, ...] = ()) -> None:
    """YAML takes the last of two equal keys and drops the first, and with it whom it told. Raises Wrong."""
    if isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            refuse_repeated(name, inner)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and (not only or key.value in only):
                if key.value in first:
                    raise Wrong(
                        f"{name}:{line}: {key.value}: the key is there twice, first on line {first[key.value]}; "
                        "join them under one"
                    )
                first[key.value] = line
            if not only:
                refuse_repeated(name, value)


def check_agent(name: str, text: str) -> None:
    """Have the agent say what it thinks of its settings. Raises Wrong."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, name)
        file.write_text(text, encoding="utf-8")
        try:
            load(load_settings(file))
        except ConfigError as error:
            raise Wrong(str(error).replace(f"{directory}/", "")) from None


def vantage_name(text: str) -> str:
    """The name in settings that the agent has accepted."""
    vantage = (yaml.safe_load(text) or {}).get("vantage", DEFAULT_VANTAGE)
    return str(vantage.get("name", DEFAULT_VANTAGE) if isinstance(vantage, dict) else vantage)


def alertmanager(base: dict[str, Any], receivers: Any, where: str, directory: Path) -> dict[str, Any]:
    """Alertmanager's configuration with these receivers. Its relative paths start from `directory`. Raises Wrong."""
    known = {receiver["name"]: receiver for receiver in base["receivers"]}
    if not isinstance(receivers, dict):
        raise Wrong(f"{where}: receivers: names and what they have are expected; the names are {', '.join(known)}")
    for name, configs in receivers.items():
        if name not in known:
            raise Wrong(f"{where}: receivers: there is no {name!r}; the names are {', '.join(known)}")
        if not isinstance(configs, dict) or not configs:
            raise Wrong(
                f"{where}: receivers.{name}: nothing is in it; write one like `webhook_configs: [...]`, or take it out"
            )
        for key, entries in configs.items():
            entries_fit = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
            if not str(key).endswith("_configs") or not entries_fit:
                raise Wrong(
                    f"{where}: receivers.{name}.{key}: a list named like webhook_configs or email_configs is expected"
                )
    unreadable = [path for path in files_named(receivers) if not os.access(path, os.R_OK) or not path.is_file()]
    if unreadable:
        raise Wrong(
            f"{where}: receivers: {unreadable[0]} is not there or not readable to uid {os.getuid()}: "
            f"put it into deploy/secrets/alertmanager and `chmod 644` it (or `chown {os.getuid()}`)"
        )
    return base | {
        "receivers": [receiver | completed(receivers.get(name, {})) for name, receiver in known.items()],
        "templates": [str(directory / template) for template in base.get("templates", [])],
    }


def completed(configs: dict[str, Any]) -> dict[str, Any]:
    """The user's part of a receiver with what is the same for all of its kind.

    `send_resolved` is off: Alertmanager's "resolved" is no news of an outage's end, which comes with its duration as an
    alert of its own.
    """
    return {
        kind: [{"send_resolved": False} | SAID.get(kind, {}) | entry for entry in entries]
        for kind, entries in configs.items()
    }


def files_named(value: Any) -> Iterator[Path]:
    """What all the keys that end in `_file` name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if str(key).endswith("_file") and isinstance(inner, str):
                yield Path(inner)
            else:
                yield from files_named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from files_named(inner)


def prometheus(base: dict[str, Any], remote: Any, vantage: str, where: str, own: Path) -> dict[str, Any]:
    """The configuration of a remote vantage's Prometheus. `own`: the directory of its secrets. Raises Wrong."""
    if (
        not isinstance(remote, dict)
        or set(remote) != {"url", "user"}
        or not all(isinstance(v, str) for v in remote.values())
    ):
        raise Wrong(f"{where}: remote_write: a remote vantage needs `remote_write: {{url: https://..., user: ...}}`")
    if not remote["url"].startswith("https://"):
        raise Wrong(f"{where}: remote_write.url: a password is sent there: write an https:// URL")
    if vantage == DEFAULT_VANTAGE:
        raise Wrong(f"{where}: vantage: {vantage!r} is what the central one is called: give this one a name of its own")
    password, authority = own / "password", own / "ca.crt"
    for path in (password, authority):
        if path.exists() and not os.access(path, os.R_OK):
            raise Wrong(f"secrets/vantage/{path.name}: not readable to uid {os.getuid()}: `chmod 644` or `chown` it")
    if not password.is_file():
        raise Wrong("secrets/vantage/password is not there: put the password of this vantage into it")
    target: dict[str, Any] = {
        "url": remote["url"],
        "basic_auth": {"username": remote["user"], "password_file": str(password)},
    }
    if authority.is_file():  # otherwise the ingress has a certificate that everybody's authorities vouch for
        target["tls_config"] = {"ca_file": str(authority)}
    labels = base["global"].get("external_labels", {}) | {"vantage": vantage}
    return base | {"global": base["global"] | {"external_labels": labels}, "remote_write": [target]}


def grafana_password(given: Path, kept: Path) -> str:
    """The password in the secret file, else the one that was made up before, else a new one. Raises Wrong."""
    if given.exists():
        try:
            password = given.read_text(encoding="utf-8").strip()
        except OSError:
            raise Wrong(f"secrets/grafana/{given.name}: not readable to uid {os.getuid()}: `chmod 644` it") from None
        if not password:
            raise Wrong(
                f"secrets/grafana/{given.name} is empty: write a password into it, or remove it to have one made up"
            )
        return password
    return kept.read_text(encoding="utf-8") if kept.exists() else secrets.token_urlsafe(18)


def write(path: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a file."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)  # other uids read it; the volume is theirs and ours alone
    new.replace(path)


def read_base(path: Path) -> dict[str, Any]:
    """A shipped configuration that is completed here."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def dump(values: dict[str, Any], source: Path) -> str:
    """YAML that says where it comes from."""
    return f"# Made of settings.yml and {source} by apply_settings.py.\n" + yaml.safe_dump(
        values, sort_keys=False, allow_unicode=True, width=200
    )


def apply(role: str, at: Places) -> None:
    """Read everything, check it, write it. Raises Wrong."""
    ours, agent = read_settings(at.settings)
    where = at.settings.name
    check_agent(where, agent)
    files = {at.out / "agent" / where: agent}
    if role == "central":
        base = read_base(at.alertmanager)
        made = alertmanager(base, ours.get("receivers") or {}, where, at.alertmanager.parent)
        # The compose file's `receivers` asks Alertmanager of it, and gives it its name if it is taken.
        files[at.out / "alertmanager/candidate.yml"] = dump(made, at.alertmanager)
        password = at.out / "grafana/admin_password"
        files[password] = grafana_password(at.secrets / "grafana/admin_password", password)
        silent = [r["name"] for r in made["receivers"] if not any(key.endswith("_configs") for key in r)]
        print(f"settings: fine; nobody is told by: {', '.join(silent) or 'no receiver is without somebody'}")
    else:
        own = at.secrets / "vantage"
        made = prometheus(read_base(at.prometheus), ours.get("remote_write"), vantage_name(agent), where, own)
        files[at.out / "prometheus/prometheus.yml"] = dump(made, at.prometheus)
        print(f"settings: fine; vantage {vantage_name(agent)} pushes to {made['remote_write'][0]['url']}")
    for path, text in files.items():
        write(path, text)


def main(arguments: list[str]) -> int:
    """`central` or `vantage`: which files are wanted."""
    if len(arguments) != 1 or arguments[0] not in ("central", "vantage"):
        print("usage: apply_settings.py central|vantage", file=sys.stderr)
        return 2
    try:
        apply(arguments[0], Places())
    except Wrong as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
