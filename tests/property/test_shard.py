"""`--shard`: every entity is some agent's and no other's, whole, and few move when an agent joins or leaves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from prober.cli import cli
from prober.model import Check, Entity, Target
from prober.shard import SHARDS_MAX, Shard, owner, parse_shard, part

names = st.text(min_size=1, max_size=40)
counts = st.integers(1, 64)


@given(st.lists(names, unique=True, max_size=50), counts)
def test_every_entity_is_in_exactly_one_part_and_whole(found: list[str], of: int) -> None:
    entities = tuple(Entity(name, targets=_targets(name)) for name in found)
    parts = [part(entities, Shard(number, of)) for number in range(1, of + 1)]
    assert sorted(entity.name for one in parts for entity in one) == sorted(found)
    for one in parts:
        assert list(one) == [entity for entity in entities if entity in one], "whole, and in the order of the files"


def _targets(entity: str) -> tuple[Target, ...]:
    return tuple(
        Target(f"{entity}-{n}", entity, (Check(f"{entity}-{n}", "icmp", "icmp", 60, 5, None),)) for n in (1, 2)
    )


@given(names, counts)
def test_whoever_moves_when_an_agent_joins_moves_to_it(name: str, of: int) -> None:
    before, after = owner(name, of), owner(name, of + 1)
    assert 1 <= before <= of
    assert after in (before, of + 1)


@pytest.mark.parametrize("of", [1, 2, 3, 7, 16])
def test_few_move_and_parts_are_alike(of: int) -> None:
    names = [f"entity-{n}" for n in range(4000)]
    moved = sum(owner(name, of) != owner(name, of + 1) for name in names)
    assert moved == pytest.approx(len(names) / (of + 1), rel=0.15)
    sizes = Counter(owner(name, of) for name in names)
    assert len(sizes) == of
    assert max(sizes.values()) < 1.25 * len(names) / of


def test_the_choice_is_the_same_everywhere_and_in_every_version() -> None:
    """A change of it would close every open outage of what moves."""
    found = [owner(name, 5) for name in ("north-korea", "kcna", "e0", "e100", "조선")]
    assert found == [3, 3, 5, 5, 1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0/4", "the first is 1"),
        ("5/4", "the last 4"),
        ("1/0", "write 1 to"),
        ("1/1001", f"write 1 to {SHARDS_MAX}"),
        ("1", "write 1/4"),
        ("a/b", "write 1/4"),
        ("-1/4", "write 1/4"),
        ("1/4 ", "write 1/4"),
    ],
)
def test_what_is_no_part_is_refused_with_the_remedy(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_shard(text)
    refused = CliRunner().invoke(cli, ["run", f"--shard={text}"])
    assert refused.exit_code == 2
    assert says in refused.output


def test_check_shows_who_would_watch_how_much(tmp_path: Path) -> None:
    files = []
    for number in range(6):
        file = tmp_path / f"{number}.yml"
        checks = "[{icmp: {address: 192.0.2.1}}, {tcp: {address: 192.0.2.1:80}}]"
        file.write_text(f"entity: e{number}\ntargets: [{{name: t{number}, checks: {checks}}}]\n")
        files.append(str(file))
    shown = CliRunner().invoke(cli, ["check", "--shards", "3", *files])
    assert shown.exit_code == 0, shown.output
    assert len([line for line in shown.output.splitlines() if line.startswith("shard ")]) == 3
    told = json.loads(CliRunner().invoke(cli, ["check", "--json", "--shards", "3", *files]).output)["shards"]
    assert [one["shard"] for one in told] == ["1/3", "2/3", "3/3"]
    assert sum(one["entities"] for one in told) == sum(one["targets"] for one in told) == 6
    assert sum(one["checks"] for one in told) == 12
    settings = tmp_path / "settings.yml"
    settings.write_text(f"contact: mailto:a@b.example\ntargets: [{', '.join(files)}]\n")
    same = json.loads(CliRunner().invoke(cli, ["check", "--json", "--shards", "3", str(settings)]).output)["shards"]
    assert same == told
    lonely = CliRunner().invoke(cli, ["check", "--shards", "5", files[0]])
    assert lonely.output.count(": nothing") == 4
