"""The compose files: what they publish, pin, mount and allow. Read as text; docker compose is asked if it is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from prober import __version__
from prober.config import load_settings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
CENTRAL: Final = DEPLOY / "docker-compose.yml"
FILES: Final = sorted(DEPLOY.glob("docker-compose*.yml"))


class _Loader(yaml.SafeLoader):
    """Compose's own tags: !override and !reset."""


def _value(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    assert isinstance(node, yaml.SequenceNode)
    return loader.construct_sequence(node, deep=True)


_Loader.add_multi_constructor("!", _value)


def services(file: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.load(file.read_text(), _Loader)["services"])


def whole(file: Path) -> dict[str, dict[str, Any]]:
    """Services with what they extend."""
    central = services(CENTRAL)
    return {
        name: (central[service["extends"]["service"]] if "extends" in service else {}) | service
        for name, service in services(file).items()
    }


ALL: Final = [pytest.param(file, name, id=f"{file.stem}-{name}") for file in FILES for name in services(file)]


def test_there_is_one_file_for_each_use() -> None:
    names = ["docker-compose.replay.yml", "docker-compose.vantage.yml", "docker-compose.yml"]
    assert [file.name for file in FILES] == names
    assert set(services(CENTRAL)) == {
        *("settings", "receivers", "prober", "prometheus", "alertmanager", "grafana", "ingress")
    }


def test_only_grafana_and_alertmanager_are_published_and_on_loopback() -> None:
    published = {name: s["ports"] for name, s in services(CENTRAL).items() if "ports" in s and "profiles" not in s}
    assert published == {
        "alertmanager": ["${ALERTMANAGER_LISTEN:-127.0.0.1:9093}:9093"],
        "grafana": ["${GRAFANA_LISTEN:-127.0.0.1:3000}:3000"],
    }
    assert all("ports" not in s for s in whole(DEPLOY / "docker-compose.vantage.yml").values())
    replay = whole(DEPLOY / "docker-compose.replay.yml")
    assert [port for s in replay.values() for port in s.get("ports", [])] == ["127.0.0.1:3001:3000"]


def test_the_ingress_is_off_unless_wanted() -> None:
    assert [name for name, s in services(CENTRAL).items() if "profiles" in s] == ["ingress"]


@pytest.mark.parametrize(("file", "name"), ALL)
def test_a_service_is_pinned_and_has_no_more_rights_than_it_needs(file: Path, name: str) -> None:
    service = whole(file)[name]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), "a whole version as the tag"
    assert service["cap_drop"] == ["ALL"]
    assert not {"cap_add", "privileged", "pid", "devices"} & set(service)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["mem_limit"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    if service["image"].startswith("prober:"):
        assert "USER 10001:10001" in (DEPLOY / "Dockerfile").read_text()
    else:
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"]), "a number, and not root's"


@pytest.mark.parametrize(("file", "name"), ALL)
def test_what_stays_up_is_watched_and_what_runs_once_is_waited_for(file: Path, name: str) -> None:
    service = whole(file)[name]
    if service["restart"] == "no":
        assert service["healthcheck"] == {"disable": True}
        waiting = [s["depends_on"][name] for s in whole(file).values() if name in s.get("depends_on", {})]
        assert waiting
        assert all(w == {"condition": "service_completed_successfully"} for w in waiting)
    else:
        assert service["restart"] == "unless-stopped"
        # The agent's is in its image.
        assert "test" in service.get("healthcheck", {}) or service["image"].startswith("prober:")
    for other, how in (service.get("depends_on") or {}).items():
        assert other in services(file)
        assert how["condition"] in ("service_healthy", "service_completed_successfully")


@pytest.mark.parametrize(("file", "name"), ALL)
def test_what_is_mounted_is_there_and_only_data_is_written(file: Path, name: str) -> None:
    for volume in whole(file)[name]["volumes"]:
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            assert (DEPLOY / source).resolve().exists(), volume
            assert mode == ["ro"], volume
        else:
            assert source in yaml.load(file.read_text(), _Loader)["volumes"], volume
            assert target.startswith("/")


def test_the_ledger_is_a_volume_on_this_machine_and_the_only_thing_that_the_agent_writes() -> None:
    content = yaml.safe_load(CENTRAL.read_text())
    assert content["volumes"]["ledger"] == {}
    written = [v for v in content["services"]["prober"]["volumes"] if not v.endswith(":ro")]
    assert written == ["ledger:/var/lib/prober"]


def test_alertmanager_starts_on_what_amtool_has_taken() -> None:
    central = services(CENTRAL)
    (script,) = central["receivers"]["command"]
    assert re.search(
        r"amtool check-config candidate\.yml \|\|.*exit 2.*; mv -f candidate\.yml alertmanager\.yml$", script
    )
    assert central["receivers"]["image"] == central["alertmanager"]["image"]
    assert central["alertmanager"]["depends_on"] == {"receivers": {"condition": "service_completed_successfully"}}
    assert "--config.file=/run/prober/alertmanager/alertmanager.yml" in central["alertmanager"]["command"]
    assert '"alertmanager/candidate.yml"' in (DEPLOY / "apply_settings.py").read_text()


def test_every_scraped_host_is_a_service() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    hosts = {target.split(":")[0] for job in jobs for one in job["static_configs"] for target in one["targets"]}
    assert hosts - {"localhost"} == {"prober", "alertmanager", "grafana"} <= set(services(CENTRAL))


def test_no_alert_is_made_of_a_scrape_alone() -> None:
    """Grafana may be away, and what else of a deployment is not there."""
    rules = "".join(path.read_text() for path in (DEPLOY / "prometheus/rules").glob("*.yml"))
    assert not re.search(r"(?<![\w:])up\b\s*(\{|==)|job=|grafana", rules)


def test_history_is_kept_for_more_than_a_year() -> None:
    (days,) = re.findall(
        r"--storage\.tsdb\.retention\.time=(\d+)d", " ".join(services(CENTRAL)["prometheus"]["command"])
    )
    assert int(days) >= 400


def test_the_vantage_has_a_name_of_its_own_and_no_containers() -> None:
    text = (DEPLOY / "settings.yml").read_text()
    assert yaml.safe_load(text)["vantage"]["name"] == "local"
    assert all("hostname" not in s for s in services(CENTRAL).values())


def test_a_remote_vantage_scrapes_as_often_as_the_central_prometheus() -> None:
    central = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["global"]
    remote = yaml.safe_load((DEPLOY / "vantage/prometheus.yml").read_text())["global"]
    assert remote.items() <= central.items()


def test_the_prometheus_flags_are_those_that_the_rules_were_made_for() -> None:
    assert "--rules.alert.resend-delay=2m" in services(CENTRAL)["prometheus"]["command"]


def test_no_secret_is_in_the_tree() -> None:
    for directory in sorted((DEPLOY / "secrets").iterdir()):
        assert "*\n!.gitignore\n" in (directory / ".gitignore").read_text()
    text = "".join(path.read_text() for path in DEPLOY.rglob("*.yml"))
    # What could be a secret is named by a file.
    assert not re.findall(r"(?im)^[^#\n]*\b(?:password|token|secret|api_url|routing_key)\s*:\s*\S+", text)


def test_the_image_is_pinned_to_what_the_project_allows() -> None:
    pins = re.findall(r"(?m)^([a-z0-9-]+)==(\S+)$", (DEPLOY / "requirements.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {name: [int(part) for part in version.split(".")] for name, version in pins}
    for requirement in project["dependencies"]:
        name, ranges = re.fullmatch(r"([a-z0-9-]+)(.*)", requirement, re.IGNORECASE).groups()  # type: ignore[union-attr]
        assert name in pinned, f"{name}: write its version into deploy/requirements.txt"
        for operator, bound in re.findall(r"(>=|<)([\d.]+)", ranges):
            limit = [int(part) for part in bound.split(".")]
            fits = pinned[name] >= limit if operator == ">=" else pinned[name] < limit
            assert fits, f"{name} {pinned[name]} is not {operator} {bound}"


def test_the_image_is_called_by_the_projects_version() -> None:
    images = {s["image"] for file in FILES for s in whole(file).values() if "build" in s}
    assert images == {f"prober:{__version__}"}


def test_the_dockerfile_builds_with_any_builder_and_pins_its_base() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert not [line for line in lines if re.match(r"#\s*(syntax|escape|check)\s*=", line)]
    assert not [line for line in lines if "--mount" in line or "<<" in line], "BuildKit alone knows these"
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", bases.pop())


def test_the_build_context_has_what_the_image_needs_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    copied = {
        source
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied == {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied)


def test_the_ingress_lets_nothing_in_but_pushes() -> None:
    text = re.sub(r"#.*", "", (DEPLOY / "ingress/nginx.conf").read_text())
    outside, inside = text.split("listen 8443 ssl;")[1].split("listen 127.0.0.1:8080;")
    assert "return" in inside
    assert re.findall(r"location (.*?) \{", outside)[:2] == ["/", "= /api/v1/write"]
    assert "location / { return 404; }" in outside
    assert "limit_except POST { deny all; }" in outside
    assert "auth_basic_user_file /run/secrets/ingress/users;" in outside


def test_the_settings_work_as_they_are(tmp_path: Path) -> None:
    from deploy.apply_settings import read_settings

    ours, agent = read_settings(DEPLOY / "settings.yml")
    assert ours == {"receivers": None}
    shipped = agent.replace("/etc/prober/targets", str(ROOT / "targets"))
    (tmp_path / "settings.yml").write_text(shipped)
    settings = load_settings(tmp_path / "settings.yml")
    assert settings.vantage.name == "local"
    assert settings.contact is None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_docker_compose_takes_it(file: Path, tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed; it is not needed but for the deployment")
    command = [docker, "compose", "-f", str(file), "--profile", "*", "config", "--quiet"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
