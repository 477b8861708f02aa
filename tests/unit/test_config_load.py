"""From good files to what the agent runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prober.config import (
    SHIPPED,
    ConfigError,
    Listen,
    OptOut,
    check_files,
    load,
    load_references,
    load_settings,
    load_targets,
    options_of,
)
from prober.config.settings import Settings
from prober.contract import Attempt, Io, Kind, Options
from prober.model import Check, Entity, Network, Reference, Site, Target
from prober.probes import PROBES

REPOSITORY = Path(__file__).parent.parent.parent


class KnockOptions(Options):
    """Options of a kind that exists here only."""

    door: str
    times: int = 1


async def knock(_options: Any, _attempt: Attempt, _io: Io) -> None:
    raise NotImplementedError


KINDS = {
    "knock": Kind(
        name="knock",
        options=KnockOptions,
        probe=knock,
        host=lambda options: str(options.door),
        phase_metric="probe_knock_duration_seconds",
        phases=(),
        facts=(),
        packets=lambda options: int(options.times),
        holds_descriptor=False,
    )
}

TARGETS = """
entity: example
title: Example
country: KP
defaults: {interval: 2m}
networks:
  net: {prefix: 192.0.2.0/24, origin_asn: 64496, transit: [64497, 64498], title: Net}
sites:
  site: {title: Site}
references: [r1]
targets:
  - name: a
    title: A
    site: site
    network: net
    hosted_in: KP
    require: all
    timeout: 3s
    checks:
      - knock: {door: 192.0.2.1}
      - knock: {door: 192.0.2.2, times: 3}
        name: thrice
        interval: 5m
        timeout: 1s
  - name: b
    checks: [{knock: {door: www.example.org}}]
"""
REFERENCES = """
references:
  - {name: r1, network: AS64500, title: R, checks: [{knock: {door: 198.51.100.1}}]}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "targets.yml").write_text(TARGETS)
    (tmp_path / "references.yml").write_text(REFERENCES)
    (tmp_path / "settings.yml").write_text("targets: [targets.yml]\nreferences: references.yml\n")
    return tmp_path


def check(target: str, name: str, interval: float, timeout: float, door: str, times: int = 1) -> Check:
    return Check(target, name, "knock", interval, timeout, KnockOptions(door=door, times=times))


def test_a_targets_file_becomes_an_entity(directory: Path) -> None:
    assert load_targets([directory / "targets.yml"], KINDS) == (
        Entity(
            name="example",
            title="Example",
            country="KP",
            networks=(Network("net", "example", "192.0.2.0/24", "Net", 64496, (64497, 64498)),),
            sites=(Site("site", "example", "Site"),),
            targets=(
                Target(
                    name="a",
                    entity="example",
                    checks=(
                        check("a", "knock", 120, 3, "192.0.2.1"),
                        check("a", "thrice", 300, 1, "192.0.2.2", 3),
                    ),
                    title="A",
                    network="net",
                    site="site",
                    hosted_in="KP",
                    require="all",
                ),
                Target(name="b", entity="example", checks=(check("b", "knock", 120, 5, "www.example.org"),)),
            ),
            references=("r1",),
        ),
    )


def test_a_references_file_becomes_references(directory: Path) -> None:
    assert load_references(directory / "references.yml", KINDS) == (
        Reference(name="r1", network="AS64500", checks=(check("r1", "knock", 60, 5, "198.51.100.1"),), title="R"),
    )


@pytest.mark.parametrize(
    ("line", "references"), [("", "default"), ("references: []", ()), ("references: [r2, r1]", ("r2", "r1"))]
)
def test_references_of_an_entity(line: str, references: object, tmp_path: Path) -> None:
    file = tmp_path / "t.yml"
    file.write_text(f"entity: e\n{line}\ntargets: [{{name: t, checks: [{{knock: {{door: x}}}}]}}]\n")
    (entity,) = load_targets([file], KINDS)
    assert entity.references == references


def test_files_of_one_entity_are_merged(tmp_path: Path) -> None:
    one, two = tmp_path / "1.yml", tmp_path / "2.yml"
    one.write_text(
        "entity: e\ntitle: E\ncountry: KP\nnetworks: {n: {prefix: 192.0.2.0/24}}\n"
        "targets: [{name: t1, checks: [{knock: {door: x}}]}]\n"
    )
    two.write_text(
        "entity: e\ntitle: E\nsites: {s: {}}\nreferences: []\ndefaults: {interval: 30s}\n"
        "targets: [{name: t2, network: n, site: s, checks: [{knock: {door: x}}]}]\n"
    )
    (entity,) = load_targets([one, two], KINDS)
    assert (entity.title, entity.country, entity.references) == ("E", "KP", ())
    assert [network.name for network in entity.networks] == ["n"]
    assert [(target.name, target.checks[0].interval_seconds) for target in entity.targets] == [("t1", 60), ("t2", 30)]


def test_a_network_of_another_entity_is_no_network(tmp_path: Path) -> None:
    one, two = tmp_path / "1.yml", tmp_path / "2.yml"
    one.write_text(
        "entity: e\nnetworks: {n: {prefix: 192.0.2.0/24}}\ntargets: [{name: a, checks: [{knock: {door: x}}]}]"
    )
    two.write_text("entity: f\ntargets: [{name: b, network: n, checks: [{knock: {door: x}}]}]")
    with pytest.raises(ConfigError, match='f has no network "n"'):
        load_targets([one, two], KINDS)


def test_everything_together(directory: Path) -> None:
    config = load(load_settings(directory / "settings.yml"), KINDS)
    assert [entity.name for entity in config.entities] == ["example"]
    assert [reference.name for reference in config.references] == ["r1"]
    assert config.opted_out == ()


def test_all_problems_of_all_files_are_raised_at_once(directory: Path) -> None:
    (directory / "targets.yml").write_text(TARGETS.replace("country: KP", "country: kp").replace("[r1]", "[r2]"))
    (directory / "references.yml").write_text(REFERENCES.replace("door", "dor"))
    with pytest.raises(ConfigError) as caught:
        load(load_settings(directory / "settings.yml"), KINDS)
    assert str(caught.value).splitlines() == [
        f'{directory}/targets.yml:4: country: "kp" is no country; '
        "write its two capital letters (ISO 3166-1), for example KP",
        f'{directory}/references.yml:3: references[0].checks[0].knock.dor: unknown key; did you mean "door"?',
    ]


def test_a_bad_reference_is_no_unknown_reference(directory: Path) -> None:
    """An entity that names a reference is not blamed for what is wrong with that reference."""
    (directory / "references.yml").write_text(REFERENCES.replace("AS64500", "A S"))
    with pytest.raises(ConfigError) as caught:
        load(load_settings(directory / "settings.yml"), KINDS)
    assert [problem.key for problem in caught.value.problems] == ["references[0].network"]


class TestOptOut:
    @pytest.mark.parametrize(
        ("opt_out", "kept", "texts"),
        [
            (["203.0.113.0/24", "example.com", "ample.org"], ["a", "b"], []),
            (["192.0.2.2"], ["b"], ["target a: 192.0.2.2 (check thrice) is covered by 192.0.2.2/32"]),
            (["192.0.2.0/25"], ["b"], ["target a: 192.0.2.1 (check knock) is covered by 192.0.2.0/25"]),
            (["Example.ORG."], ["a"], ["target b: www.example.org (check knock) is covered by example.org"]),
            (["www.example.org"], ["a"], ["target b: www.example.org (check knock) is covered by www.example.org"]),
        ],
    )
    def test_targets_are_left_out(self, opt_out: list[str], kept: list[str], texts: list[str], directory: Path) -> None:
        (directory / "settings.yml").write_text(
            f"targets: [targets.yml]\nreferences: references.yml\nopt_out: {opt_out}\n"
        )
        config = load(load_settings(directory / "settings.yml"), KINDS)
        assert [target.name for target in config.entities[0].targets] == kept
        assert list(config.opted_out) == texts

    def test_a_copy_of_the_settings_has_its_own_list(self) -> None:
        settings = Settings().model_copy(update={"opt_out": ("192.0.2.0/24",)})
        assert not settings.opted_out.permits("192.0.2.1")
        assert settings.model_copy(update={"opt_out": ()}).opted_out.permits("192.0.2.1")

    def test_references_are_left_out(self, directory: Path) -> None:
        settings = load_settings(directory / "settings.yml").model_copy(update={"opt_out": ("198.51.100.0/24",)})
        config = load(settings, KINDS)
        assert config.references == ()
        assert config.opted_out == ("reference r1: 198.51.100.1 (check knock) is covered by 198.51.100.0/24",)

    @pytest.mark.parametrize(
        ("host", "entry"),
        [
            ("192.0.2.77", "192.0.2.0/24"),
            ("192.0.3.1", None),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8::5%eth0", "2001:db8::/32"),
            ("2001:DB8:0::5", "2001:db8::/32"),
            ("example.org", "example.org"),
            ("A.B.EXAMPLE.ORG.", "example.org"),
            ("notexample.org", None),
            ("org", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("www.bücher.example", "xn--bcher-kva.example"),
            ("not a host", None),
            ("", None),
        ],
    )
    def test_covering(self, host: str, entry: str | None) -> None:
        opt_out = OptOut(("192.0.2.0/24", "2001:db8::/32", "example.org", "xn--bcher-kva.example"))
        assert opt_out.covering(host) == entry
        assert opt_out.permits(host) is (entry is None)

    def test_international_names_are_encoded(self, tmp_path: Path) -> None:
        file = tmp_path / "s.yml"
        file.write_text("opt_out: [Bücher.example, 2001:DB8::/32]\n")
        assert load_settings(file).opt_out == ("xn--bcher-kva.example", "2001:db8::/32")


class TestSettings:
    def test_the_defaults_need_no_file(self) -> None:
        settings = load_settings()
        assert settings.vantage.name == "local"
        assert str(settings.listen) == "127.0.0.1:9911"
        assert settings.targets == (SHIPPED / "north-korea.yml",)
        assert settings.references == SHIPPED / "references.yml"
        assert settings.data_dir == Path("data")
        assert (settings.limits.packets_per_second, settings.limits.per_prefix_per_second) == (500, 2)
        assert settings.limits.concurrency == 500

    def test_every_key_can_be_set(self, tmp_path: Path) -> None:
        file = tmp_path / "settings.yml"
        file.write_text(
            "vantage: {name: tokyo, index: 1, of: 3}\n"
            "listen: '[::1]:9912'\n"
            "data_dir: ./d\n"
            "targets: [a.yml, /b.yml]\n"
            "references: ../r.yml\n"
            "limits: {packets_per_second: 10, per_prefix_per_second: 0.5, concurrency: 7}\n"
            "contact: mailto:noc@example.org\n"
            "web: {config_file: web.yml}\n"
            "opt_out: [192.0.2.1]\n"
            "log: {format: json, level: debug}\n"
        )
        settings = load_settings(file)
        assert (settings.vantage.name, settings.vantage.index, settings.vantage.of) == ("tokyo", 1, 3)
        assert settings.listen == Listen("::1", 9912)
        assert str(settings.listen) == "[::1]:9912"
        assert settings.data_dir == tmp_path / "d"
        assert settings.targets == (tmp_path / "a.yml", Path("/b.yml"))
        assert settings.references == tmp_path / "../r.yml"
        assert settings.web.config_file == tmp_path / "web.yml"
        assert settings.limits.per_prefix_per_second == 0.5
        assert settings.opt_out == ("192.0.2.1/32",)
        assert (settings.log.format, settings.log.level) == ("json", "debug")

    @pytest.mark.parametrize(
        ("text", "listen"),
        [
            ("':9911'", Listen("", 9911)),
            ("localhost:0", Listen("localhost", 0)),
            ("0.0.0.0:65535", Listen("0.0.0.0", 65535)),
            ("'[::]:80'", Listen("::", 80)),
        ],
    )
    def test_where_to_listen(self, text: str, listen: Listen, tmp_path: Path) -> None:
        file = tmp_path / "settings.yml"
        file.write_text(f"listen: {text}\n")
        assert load_settings(file).listen == listen

    @pytest.mark.parametrize(
        "text", ["''", "host", "'host:'", "'a b:1'", "':١'", "'[192.0.2.1]:80'", "'[]:80'", "'::1'", "'a:b:80'", "null"]
    )
    def test_where_not_to_listen(self, text: str, tmp_path: Path) -> None:
        file = tmp_path / "settings.yml"
        file.write_text(f"listen: {text}\n")
        with pytest.raises(ConfigError, match=r":1: listen: .*; write it like 127\.0\.0\.1:9911"):
            load_settings(file)

    def test_a_name_alone_is_a_vantage(self, tmp_path: Path) -> None:
        file = tmp_path / "settings.yml"
        file.write_text("vantage: tokyo\n")
        assert load_settings(file).vantage.name == "tokyo"

    @pytest.mark.parametrize("contact", ["https://example.org/probing?x=1", "mailto:noc@example.org?subject=probing"])
    def test_contacts(self, contact: str, tmp_path: Path) -> None:
        file = tmp_path / "settings.yml"
        file.write_text(f"contact: {contact}\n")
        assert load_settings(file).contact == contact

    @pytest.mark.parametrize(
        "contact",
        ["http://example.org/", "'mailto:'", "https:///x", "'https://example.org/ x'", "https://예.org/", "''"],
    )
    def test_what_is_no_contact(self, contact: str, tmp_path: Path) -> None:
        file = tmp_path / "settings.yml"
        file.write_text(f"contact: {contact}\n")
        with pytest.raises(ConfigError, match=r":1: contact: no mailto: or https: URI"):
            load_settings(file)

    def test_settings_do_not_change(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            load_settings().data_dir = Path("elsewhere")

    def test_arguments_go_on_top(self, directory: Path) -> None:
        settings = Settings().model_copy(update={"targets": (directory / "targets.yml",)})
        assert settings.targets == (directory / "targets.yml",)


class TestCheckFiles:
    def test_a_good_file_is_summarised(self, directory: Path) -> None:
        result = check_files([directory / "targets.yml", directory / "references.yml"], KINDS)
        assert result.problems == ()
        targets, references = result.summaries
        assert (targets.kind, targets.entities, targets.targets, targets.checks) == ("targets", ("example",), 2, 3)
        assert targets.packets_per_second == pytest.approx(1 / 120 + 3 / 300 + 1 / 120)
        assert targets.busiest_prefix == "192.0.2.0/24"
        assert targets.busiest_prefix_packets_per_second == pytest.approx(1 / 120 + 3 / 300)
        assert targets.remarks == ()
        assert (references.kind, references.targets, references.checks) == ("references", 1, 1)
        assert references.remarks == (
            "1 distinct networks vouch for the observer; a majority means little with less than three",
        )

    def test_a_settings_file_is_checked_with_the_files_that_it_names(self, directory: Path) -> None:
        (directory / "settings.yml").write_text(
            "targets: [targets.yml]\nreferences: references.yml\nopt_out: [example.org]\n"
        )
        result = check_files([directory / "settings.yml"], KINDS)
        assert result.problems == ()
        (summary,) = result.summaries
        assert (summary.kind, summary.targets, summary.checks) == ("settings", 1, 3)
        assert summary.remarks == (
            "left out: target b: www.example.org (check knock) is covered by example.org",
            "no contact: whoever sees the probes has nobody to ask; set contact:",
        )

    def test_too_many_packets_are_remarked(self, directory: Path) -> None:
        (directory / "targets.yml").write_text(TARGETS.replace("times: 3", "times: 300000"))
        (summary,) = check_files([directory / "targets.yml"], KINDS).summaries
        assert [remark.partition(" are more")[0] for remark in summary.remarks] == [
            "1e+03 packets a second to all targets",
            "1e+03 packets a second to 192.0.2.0/24",
        ]

    def test_a_bad_file_is_not_summarised(self, directory: Path) -> None:
        (directory / "references.yml").write_text("references: [{}]\n")
        result = check_files([directory / "targets.yml", directory / "references.yml"], KINDS)
        assert [summary.kind for summary in result.summaries] == []
        assert {Path(problem.file).name for problem in result.problems} == {"references.yml", "targets.yml"}

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("entity: e\nreferences: [r]\ntargets: [{name: t, checks: [{knock: {door: x}}]}]", "targets"),
            ("references: [{name: r, network: n, checks: [{knock: {door: x}}]}]", "references"),
            ("vantage: tokyo\ntargets: [targets.yml]\nreferences: references.yml", "settings"),
            ("targets: [targets.yml]\nreferences: references.yml", "settings"),
        ],
    )
    def test_a_file_is_known_by_its_keys(self, text: str, kind: str, directory: Path) -> None:
        file = directory / "whatever"
        file.write_text(text)
        result = check_files([file], KINDS)
        assert result.problems == ()
        assert [summary.kind for summary in result.summaries] == [kind]

    def test_nothing_to_check_is_nothing_wrong(self) -> None:
        assert check_files([], KINDS).problems == ()


class TestShipped:
    def test_they_are_the_repositorys(self) -> None:
        for name in ("north-korea.yml", "references.yml"):
            assert (SHIPPED / name).read_bytes() == (REPOSITORY / "targets" / name).read_bytes()

    def test_they_are_good_and_polite(self) -> None:
        result = check_files(sorted(SHIPPED.glob("*.yml")))
        assert result.problems == ()
        for summary in result.summaries:
            assert summary.remarks == ()
            assert summary.busiest_prefix_packets_per_second < 0.5  # a quarter of the budget
        for entity in load_targets([SHIPPED / "north-korea.yml"]):
            assert all(check.interval_seconds >= 60 for target in entity.targets for check in target.checks)

    def test_the_agent_runs_on_them_by_default(self) -> None:
        config = load(load_settings())
        (entity,) = config.entities
        assert {network.prefix for network in entity.networks} == {f"175.45.{octet}.0/24" for octet in range(176, 180)}
        assert {target.network for target in entity.targets} >= {network.name for network in entity.networks}
        assert {target.hosted_in for target in entity.targets if target.site == "kcna"} == {"KP", "JP"}
        assert len({reference.network for reference in config.references}) >= 3

    def test_no_page_is_read_to_its_end(self) -> None:
        for entity in load_targets([SHIPPED / "north-korea.yml"]):
            pages = [check.options for target in entity.targets for check in target.checks if check.kind == "http"]
            assert pages
            assert all(getattr(options, "body_limit", 2**20) <= 65_536 for options in pages)


class TestOptionsFromElsewhere:
    def test_good_ones(self) -> None:
        assert options_of(KINDS["knock"], {"door": "조선 \U0001f600", "times": 2}, "knock:x") == KnockOptions(
            door="조선 \U0001f600", times=2
        )

    def test_bad_ones_are_told_in_the_same_words_as_a_files(self) -> None:
        with pytest.raises(ConfigError) as caught:
            options_of(KINDS["knock"], {"dor": "\ud800\n", "times": "2"}, "knock:x")
        assert str(caught.value).splitlines() == [
            'knock:x: dor: unknown key; did you mean "door"?',
            "knock:x: times: must be a whole number, not text; write digits without quotes",
        ]


def test_every_kind_in_the_table_can_be_configured() -> None:
    """The contract that configuration relies on: options are pydantic models with these keys free for the file."""
    for name, kind in PROBES.items():
        assert name == kind.name
        assert issubclass(kind.options, Options)
        assert not {"name", "interval", "timeout"} & set(kind.options.model_fields)
