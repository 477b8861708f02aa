"""A watch that has gone from configuration to configuration is like one that was made of the last one alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from prober.judge.detector import Detector
from prober.judge.records import Settings
from prober.judge.rollup import Node
from prober.judge.watch import Watch
from prober.model import Check, Entity, Network, Reference, Site, Target
from prober.probes.icmp import IcmpOptions

NAMES = st.sampled_from("abcd")
GROUPS = st.sampled_from(["", "m", "n"])
TARGETS = st.tuples(
    NAMES,  # which target
    st.sampled_from(["one", "two"]),  # of which entity
    st.sets(st.sampled_from(["icmp", "http", "tcp"]), min_size=1),
    GROUPS,  # network
    GROUPS,  # site
    st.sampled_from(["any", "all"]),
    st.sampled_from(["192.0.2.1", "192.0.2.2"]),
)
CONFIGURATIONS = st.tuples(
    st.dictionaries(NAMES, TARGETS), st.sets(st.sampled_from("mn")), st.sets(st.sampled_from("mn")), st.booleans()
)
REFERENCE = Reference("r", "AS1", (Check("r", "icmp", "icmp", 30.0, 3.0, IcmpOptions(address="192.0.2.9")),))


def entities(configuration: Any, before: tuple[Entity, ...]) -> tuple[Entity, ...]:
    """Those of a drawn configuration; what is equal to one of before is that one, as the agent has it."""
    targets, networks, sites, trusting = configuration
    found = []
    for name in ("one", "two"):
        mine = []
        for target, (_, of, kinds, network, site, require, address) in sorted(targets.items()):
            if of != name:
                continue
            checks = tuple(Check(target, kind, kind, 60.0, 5.0, IcmpOptions(address=address)) for kind in sorted(kinds))
            # Names of networks and sites are unique over all entities.
            in_network = f"{name}-{network}" if network in networks else None
            in_site = f"{name}-{site}" if site in sites else None
            mine.append(Target(target, name, checks, network=in_network, site=in_site, require=require))
        entity = Entity(
            name,
            networks=tuple(Network(f"{name}-{one}", name, "192.0.2.0/24") for one in sorted(networks)),
            sites=tuple(Site(f"{name}-{one}", name) for one in sorted(sites)),
            targets=tuple(mine),
            references="default" if trusting else (),
        )
        if mine or networks or sites:
            found.append(next((one for one in before if one == entity), entity))
    return tuple(found)


def place(node: Node) -> tuple[str | None, str]:
    return node.scope, node.name


def shape(watch: Watch) -> dict[Any, Any]:
    """Everything that the judge can meet, as names."""
    nodes = {place(node): node for part in watch.parts.values() for node in part.nodes}
    assert {at: node for at, node in nodes.items() if at[0] is not None} == watch.scopes
    for node in nodes.values():
        for other in (*node.children, *node.parents):
            assert nodes[place(other)] is other
        assert node.leaf is None or watch.detectors[node.leaf.key] is node.leaf
    return {
        "nodes": {
            at: (
                node.entity,
                [place(child) for child in node.children],
                Counter(place(parent) for parent in node.parents),
                (node.rule, node.quorum, node.level),
            )
            for at, node in nodes.items()
        },
        "checks": {key: detector.check for key, detector in watch.detectors.items()},
        "observers": {key: observer is watch.observers[None] for key, observer in watch.observer_of.items()}
        if None in watch.observers
        else sorted(watch.observer_of),
        "parts": {name: (part.entity, sorted(part.detectors)) for name, part in watch.parts.items()},
    }


def every_leaf(node: Node) -> list[Detector]:
    """The checks below a node, whether they count or not."""
    return [node.leaf] if node.leaf is not None else [one for child in node.children for one in every_leaf(child)]


@given(st.lists(CONFIGURATIONS, min_size=1, max_size=6), st.data())
def test_a_watch_becomes_what_the_configuration_says(drawn: list[Any], data: st.DataObject) -> None:
    settings, none = Settings(), frozenset[str]()
    known: tuple[Entity, ...] = ()
    watch = Watch((), [REFERENCE], settings, none)
    for configuration in drawn:
        before = {at: (node, node.leaf, node.value) for at, node in watch.scopes.items()}
        known = entities(configuration, known)
        change = watch.prepared(known, [REFERENCE])
        watch.change(change)
        anew = change.rebuilt()
        assert shape(watch) == shape(Watch(known, [REFERENCE], settings, none))
        assert set(watch.gone) == before.keys() - watch.scopes.keys()
        nodes = [node for part in watch.parts.values() for node in part.nodes]
        assert len(anew) == len(set(anew))
        assert set(anew) <= set(nodes)
        for at, (node, leaf, value) in before.items():
            after = watch.scopes.get(at)
            if after is not None and after.leaf is leaf:
                assert after.value is value
            assert after is node or after in watch.fresh or after is None
        for node in nodes:
            assert node.downs == sum(child.value is False for child in node.children)
            if node not in anew:  # it stands on what it stood on
                assert not {*node.children} & {*anew}
        for node in nodes:
            # The judge asks this of what it evaluates, and once something counts it does so without being asked again.
            assert node.counts == any(leaf.ever_up for leaf in every_leaf(node))
        for node in nodes:
            node.value = data.draw(st.sampled_from([True, False, None]))
            if node.leaf is not None and data.draw(st.booleans()):
                node.leaf.ever_up = True


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_nothing_changes_before_the_change(first: Any, second: Any) -> None:
    settings = Settings()
    known = entities(first, ())
    watch = Watch(known, [REFERENCE], settings, frozenset())
    before = shape(watch)
    change = watch.prepared(entities(second, known), [REFERENCE])
    assert shape(watch) == before
    watch.change(change)
    watch.change(watch.prepared(known, [REFERENCE]))
    assert shape(watch) == before
