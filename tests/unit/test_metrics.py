"""The exposition: read back with Prometheus' own parser."""

from __future__ import annotations

import asyncio
import gzip
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from prober import textformat
from prober.failures import Failure, Operation
from prober.gzipparts import GzipMember, pack
from prober.metrics import Exposition, fnv1a_32
from prober.model import Check, Entity, Fact, Observation, Target
from prober.probes import PROBES
from prober.runner import Figures
from prober.selfmetrics import AgentCollector, ReloadFigures, make_registry
from prober.state import CheckState, State
from prober.textformat import BLOCK, Column, Family, Rows, Writer, label, number

HOSTILE = 'a"b\\c\nd\re\x1b[31mf\u2028g\u202eh\x00i\ud800{}= ,#'


def check(target: str, kind: str = "icmp", name: str | None = None) -> Check:
    return Check(target, name or kind, kind, 60.0, 5.0, None)


def entity(*targets: Target, name: str = "e") -> Entity:
    return Entity(name, country="KP", targets=targets)


def seen(
    of: Check,
    *,
    phases: Mapping[str, float] | None = None,
    facts: Mapping[str, Fact] | None = None,
    failed: tuple[Operation, Failure] | None = None,
    address: str | None = "192.0.2.1",
) -> Observation:
    return Observation(
        of,
        sent_at=1.0,
        utc=1_700_000_000.25,
        success=failed is None,
        duration_seconds=0.125,
        phases=phases or {},
        facts=facts or {},
        operation=failed[0] if failed else None,
        failure=failed[1] if failed else None,
        address=address,
    )


class _Clock:
    def now(self) -> float:
        return 1.0

    def utc(self) -> float:
        return 1_700_000_000.0


def registry(state: State) -> CollectorRegistry:
    """The agent's own, with something in every family."""
    figures = Figures()
    figures.exceptions[HOSTILE] += 1
    collector = AgentCollector(
        clock=_Clock(),  # type: ignore[arg-type]
        figures=figures,
        state=state,
        unmatched=Counter({"late": 1}),
        reload=ReloadFigures(),
    )
    made, on_stall = make_registry(collector, figures)
    figures.lateness(0.003)
    on_stall(0.7)
    return made


async def render(state: State, vantage: str = "v", own: CollectorRegistry | None = None) -> str:
    exposition = Exposition(vantage, state, PROBES, own or registry(state))
    return b"".join([piece async for piece in exposition.render()]).decode()


def samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def of(text: str, name: str, **labels: str) -> list[float]:
    return [s.value for s in samples(text) if s.name == name and labels.items() <= s.labels.items()]


def everything() -> State:
    """Two checks of each kind that saw all there is to see, one that failed at once, one that never ran."""
    targets = [
        Target(f"t{number}", "e", tuple(check(f"t{number}", kind) for kind in PROBES), network="n") for number in (1, 2)
    ]
    idle = Target("idle", "e", (check("idle"), check("idle", "tcp")))
    state = State((entity(*targets, idle),))
    for target in targets:
        for one in target.checks:
            kind = PROBES[one.kind]
            facts: dict[str, Fact] = {spec.key: "text" if spec.label else 1.0 for spec in kind.facts}
            state.observe(seen(one, phases=dict.fromkeys(kind.phases, 0.5), facts=facts))
    state.observe(seen(idle.checks[1], failed=(Operation.RESOLVE, Failure.NXDOMAIN), address=None))
    return state


async def test_families_are_contiguous_and_come_once() -> None:
    text = await render(everything())
    order: list[str] = []
    for line in text.splitlines():
        name = line.split()[2] if line.startswith("#") else re.split(r"[{ ]", line)[0]
        family = re.sub(r"^(prober_(?:schedule_lateness|loop_stall)_seconds)_(bucket|count|sum)$", r"\1", name)
        if not order or order[-1] != family:
            order.append(family)
    assert [name for name, times in Counter(order).items() if times > 1] == []
    for name in order:
        assert text.count(f"# TYPE {name} ") == 1
        assert text.count(f"# HELP {name} ") == 1


async def test_no_series_comes_twice() -> None:
    found = Counter((s.name, tuple(sorted(s.labels.items()))) for s in samples(await render(everything())))
    assert len(found) > 100
    assert [series for series, times in found.items() if times > 1] == []


async def test_a_metric_that_kinds_share_is_one_family_with_the_series_of_each() -> None:
    text = await render(everything())
    kinds = Counter(s.labels["kind"] for s in samples(text) if s.name == "probe_ssl_earliest_cert_expiry")
    assert kinds == {"dns": 2, "http": 2, "tcp": 2}


async def test_the_vantage_is_on_every_series() -> None:
    found = samples(await render(everything(), vantage="hanover"))
    assert {s.labels.get("vantage") for s in found} == {"hanover"}


async def test_the_labels_of_a_check() -> None:
    text = await render(everything())
    (success,) = [s for s in samples(text) if s.name == "probe_success" and s.labels["target"] == "idle"]
    assert success.labels == {"vantage": "v", "target": "idle", "check": "tcp", "kind": "tcp"}
    (info,) = [s for s in samples(text) if s.name == "prober_target_info" and s.labels["target"] == "t1"]
    assert info.labels == {"vantage": "v", "target": "t1", "entity": "e", "country": "KP", "network": "n"}


async def test_what_was_not_reached_is_absent() -> None:
    one = check("t", "http")
    state = State((entity(Target("t", "e", (one, check("t", "icmp")))),))
    before = await render(state)
    assert of(before, "prober_probes_total") == [0.0, 0.0]
    assert not any(s.name.startswith("probe_") for s in samples(before))

    state.observe(seen(one, phases={"resolve": 0.5}, failed=(Operation.CONNECT, Failure.TIMEOUT)))
    after = await render(state)
    assert of(after, "probe_http_duration_seconds") == [0.5]
    assert of(after, "probe_http_duration_seconds", phase="resolve") == [0.5]
    assert of(after, "probe_http_status_code") == []
    assert of(after, "probe_success") == [0.0]
    assert of(after, "probe_duration_seconds") == [0.125]
    assert of(after, "prober_check_last_run_timestamp_seconds") == [1_700_000_000.25]
    assert of(after, "prober_probe_failures_total", operation="connect", failure="timeout") == [1.0]
    assert of(after, "probe_ip_protocol") == [4.0]


async def test_what_the_last_probe_did_not_see_is_gone_but_the_certificates_expiry_is_held() -> None:
    one = check("t", "http")
    state = State((entity(Target("t", "e", (one,))),))
    state.observe(seen(one, phases={"tls": 0.5}, facts={"cert_earliest_expiry": 2e9, "status_code": 200.0}))
    state.observe(seen(one, failed=(Operation.RESOLVE, Failure.RESOLVER_TIMEOUT), address=None))
    text = await render(state)
    for name in ("probe_http_duration_seconds", "probe_http_status_code", "probe_ip_protocol", "probe_ip_addr_hash"):
        assert of(text, name) == []
    assert of(text, "probe_ssl_earliest_cert_expiry") == []
    assert of(text, "prober_certificate_expiry_timestamp_seconds") == [2e9]


async def test_counters_go_on_over_a_new_configuration() -> None:
    stays, goes = check("stays"), check("goes")
    state = State((entity(Target("stays", "e", (stays,)), Target("goes", "e", (goes,))),))
    for _ in range(3):
        state.observe(seen(stays, failed=(Operation.RECEIVE, Failure.TIMEOUT)))
    state.replace((entity(Target("new", "e", (check("new"),)), Target("stays", "e", (stays,), title="T")),))
    state.observe(seen(stays))
    state.observe(seen(goes))  # was under way when the file was read
    text = await render(state)
    assert of(text, "prober_probes_total", target="stays") == [4.0]
    assert of(text, "prober_probe_failures_total", target="stays", failure="timeout") == [3.0]
    assert of(text, "prober_loss_ratio") == [0.75]
    assert of(text, "prober_target_info", target="stays", title="T") == [1.0]
    assert of(text, "prober_probes_total", target="new") == [0.0]
    assert not [s for s in samples(text) if s.labels.get("target") == "goes"]


# -- hostile text ------------------------------------------------------------------------------------------------------


async def test_hostile_text_stays_within_its_label() -> None:
    one = Check("t", HOSTILE, "dns", 60.0, 5.0, None)
    state = State((entity(Target("t", HOSTILE, (one,), title=HOSTILE)),))
    calm = State((entity(Target("t", "e", (check("t", "dns", "c"),), title="calm")),))
    for one_state in (state, calm):
        for member in one_state:
            member.observe(seen(member.check, facts={"rcode": HOSTILE if one_state is state else "NOERROR"}))
    hostile, usual = await render(state, vantage=HOSTILE), await render(calm)
    assert len(hostile.splitlines()) == len(usual.splitlines())
    assert len(samples(hostile)) == len(samples(usual))
    assert all(c.isprintable() or c == "\n" for c in hostile)
    (info,) = [s for s in samples(hostile) if s.name == "prober_dns_rcode_info"]
    assert info.labels["rcode"].startswith('a"b\\c')


@given(st.text())
def test_every_text_is_one_label_of_one_line(text: str) -> None:
    line = f"m{{{label('l', text)[:-1]}}} 1\n"
    line.encode()
    assert line.count("\n") == 1
    (family,) = text_string_to_metric_families(line)
    (sample,) = family.samples
    if text.isprintable():
        assert sample.labels == {"l": text}


@given(st.floats())
def test_every_number_is_read_back_as_it_was(value: float) -> None:
    read = float(number(value))
    assert read == value or (math.isnan(read) and math.isnan(value))


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.0, "0"), (0.1, "0.1"), (1e16, "1e+16"), (math.inf, "+Inf"), (-math.inf, "-Inf")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(  # the reference vectors of draft-eastlake-fnv
    ("data", "value"), [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)]
)
def test_the_hash_of_an_address_is_fnv1a(data: bytes, value: int) -> None:
    assert fnv1a_32(data) == value


# -- the loop gets its turn --------------------------------------------------------------------------------------------


class Touched:
    """A state whose checks count how many different ones were looked at since the loop had its last turn."""

    def __init__(self, state: State) -> None:
        self._members = [_Member(member, self) for member in state]
        self.entities = state.entities
        self.since_turn: set[int] = set()
        self.most = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def touch(self, member: _Member) -> None:
        self.since_turn.add(id(member))
        self.most = max(self.most, len(self.since_turn))


class _Member:
    def __init__(self, inner: CheckState, touched: Touched) -> None:
        self._inner = inner
        self._touched = touched

    def __getattr__(self, name: str) -> Any:
        self._touched.touch(self)
        return getattr(self._inner, name)


@pytest.mark.parametrize("compressed", [False, True])
async def test_no_more_than_a_block_is_rendered_between_two_turns_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    monkeypatch.setattr(textformat, "TURN_SECONDS", 0.0)  # else a fast machine does several in one turn
    kinds = list(PROBES)
    many = [Target(f"t{n}", "e", (check(f"t{n}", kinds[n % len(kinds)]),)) for n in range(4 * BLOCK + 7)]
    state = State((entity(*many),))
    for member in state:
        member.observe(seen(member.check, phases={"resolve": 0.5}))
    touched = Touched(state)
    ended = False

    async def turns() -> None:
        while not ended:
            touched.since_turn.clear()
            await asyncio.sleep(0)

    beside = asyncio.create_task(turns())
    exposition = Exposition("v", touched, PROBES, CollectorRegistry())  # type: ignore[arg-type]
    whole = b"".join([piece async for piece in exposition.render(gzip=compressed)])
    text = (gzip.decompress(whole) if compressed else whole).decode()
    ended = True
    await beside
    assert len(of(text, "probe_success")) == len(many)
    assert 0 < touched.most <= BLOCK


# -- compressed --------------------------------------------------------------------------------------------------------


async def test_what_is_compressed_is_the_same_text_also_when_most_of_it_was_kept() -> None:
    state = everything()
    exposition = Exposition("v", state, PROBES, CollectorRegistry())
    for number_ in range(3):
        for kept in (True, False):  # the second time nothing has changed at all
            packed = b"".join([piece async for piece in exposition.render(gzip=True)])
            plain = b"".join([piece async for piece in exposition.render()])
            assert gzip.decompress(packed) == plain, (number_, kept)
        one = next(iter(state)).check
        state.observe(seen(one, phases={"resolve": 0.25 * number_}, failed=(Operation.CONNECT, Failure.TIMEOUT)))
    state.replace((entity(Target("new", "e", (check("new"),))),))
    assert b"idle" not in gzip.decompress(b"".join([piece async for piece in exposition.render(gzip=True)]))


@given(st.lists(st.binary(max_size=2000), max_size=8))
def test_parts_make_one_gzip_member(parts: list[bytes]) -> None:
    member = GzipMember()
    whole = member.HEADER + b"".join(member.add(pack(part)) for part in parts) + member.end()
    assert gzip.decompress(whole) == b"".join(parts)
    assert zlib.decompressobj(31).decompress(whole) == b"".join(parts), "clients read one member and no more"


def test_a_column_is_written_as_its_form_says() -> None:
    values = [1.0, 0.125, None, math.inf, -math.inf, math.nan, 1 / 3]
    labels = [f'n="{place}",' for place in range(len(values))]

    def lines(form: str) -> list[str]:
        rows = Rows(zip(values, labels, strict=True))
        family = Family("m", "gauge", "help", (Column(label("l", "x"), list, form),))

        async def all_of() -> bytes:
            return b"".join([piece async for piece in Writer(gzip=False).family((family, rows))])

        return asyncio.run(all_of()).decode().splitlines()[2:]

    shortest = ["1", "0.125", "+Inf", "-Inf", "NaN", "0.3333333333333333"]
    places = [0, 1, 3, 4, 5, 6]
    assert lines("") == [f'm{{n="{n}",l="x"}} {text}' for n, text in zip(places, shortest, strict=True)]
    assert lines(".9g")[-1] == 'm{n="6",l="x"} 0.333333333'
    assert lines(".3f")[:3] == ['m{n="0",l="x"} 1.000', 'm{n="1",l="x"} 0.125', 'm{n="3",l="x"} +Inf']
