"""Two agents that divide the entities: each has its own, both have the references."""

from __future__ import annotations

from tests.e2e.agent import Agent, open_directory
from tests.lab import Namespace

ENTITIES = 6


def test_two_agents_have_every_check_between_them(namespace: Namespace) -> None:
    namespace.allow_unprivileged_icmp()
    seen: list[set[str]] = []
    with open_directory() as directory:
        files = []
        for number in range(ENTITIES):
            file = directory / f"{number}.yml"
            checks = f"[{{icmp: {{address: 127.1.{number}.1}}}}]"
            file.write_text(
                f"entity: e{number}\ndefaults: {{interval: 1s, timeout: 1s}}\n"
                f"targets: [{{name: t{number}, checks: {checks}}}]\n"
            )
            files.append(file)
        references = directory / "references.yml"
        references.write_text(
            "references: [{name: r, network: AS1, checks: [{icmp: {address: 127.2.0.1}, timeout: 1s}]}]\n"
        )
        settings = directory / "settings.yml"
        settings.write_text(f"targets: [{', '.join(map(str, files))}]\nreferences: {references}\n")
        for shard in ("1/2", "2/2"):
            with Agent(namespace, "--config", settings, "--shard", shard) as agent:
                metrics = agent.metrics_when(
                    lambda found: bool(found.checks) and found.value("prober_checks") == len(found.checks),
                    30.0,
                    "every check has a result",
                )
                seen.append(metrics.checks)
                assert metrics.value("prober_references") == 1
                agent.ask("/-/reload", "POST")  # which keeps to the shard
                assert agent.metrics().value("prober_checks") == len(seen[-1])
    assert seen[0] | seen[1] == {f"t{number}/icmp" for number in range(ENTITIES)}
    assert not seen[0] & seen[1]
    assert all(seen)
