"""What is known of each check, and what of it outlasts a new configuration."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from prober.failures import Failure, Operation
from prober.model import Check, Entity, Fact, Observation, Target
from prober.state import CERTIFICATE_EXPIRY, LOSS_WINDOW, CheckState, State

TIMEOUT = (Operation.RECEIVE, Failure.TIMEOUT)


def make(*checks: Check) -> Entity:
    targets: dict[str, list[Check]] = {}
    for check in checks:
        targets.setdefault(check.target, []).append(check)
    return Entity("e", targets=tuple(Target(name, "e", tuple(members)) for name, members in targets.items()))


def check(target: str, name: str = "c", kind: str = "icmp", interval: float = 60.0) -> Check:
    return Check(target, name, kind, interval, 5.0, None)


def seen(
    of: Check, failed: tuple[Operation, Failure] | None = None, facts: Mapping[str, Fact] | None = None
) -> Observation:
    operation, failure = failed or (None, None)
    return Observation(of, 0.0, 0.0, failed is None, 0.1, {}, facts or {}, operation, failure)


def only(state: State) -> CheckState:
    (member,) = state
    return member


def test_it_counts_probes_and_failures_by_cause() -> None:
    one = check("a")
    state = State((make(one),))
    for failed in (None, TIMEOUT, TIMEOUT, (Operation.SEND, Failure.NETWORK_UNREACHABLE)):
        state.observe(seen(one, failed))
    member = only(state)
    assert member.probes == 4
    assert member.failures == {TIMEOUT: 2, (Operation.SEND, Failure.NETWORK_UNREACHABLE): 1}
    assert member.last is not None
    assert member.last.failure is Failure.NETWORK_UNREACHABLE
    assert member.loss_ratio == 0.75


def test_the_loss_ratio_is_that_of_the_last_regular_probes() -> None:
    one = check("a")
    state = State((make(one),))
    assert only(state).loss_ratio is None
    for _ in range(LOSS_WINDOW):
        state.observe(seen(one, TIMEOUT))
    for _ in range(LOSS_WINDOW // 2):
        state.observe(seen(one))
    assert only(state).loss_ratio == 0.5
    confirmation = Observation(one, 0.0, 0.0, True, 0.1, {}, {}, reason="confirmation")
    state.observe(confirmation)
    assert only(state).loss_ratio == 0.5
    assert only(state).last is confirmation


def test_a_certificates_expiry_is_held_until_another_is_seen() -> None:
    one = check("a", kind="http")
    state = State((make(one),))
    state.observe(seen(one, TIMEOUT))
    assert only(state).certificate_expiry is None
    state.observe(seen(one, facts={CERTIFICATE_EXPIRY: 10.0}))
    state.observe(seen(one, TIMEOUT))
    assert only(state).certificate_expiry == 10.0
    state.observe(seen(one, facts={CERTIFICATE_EXPIRY: 20.0}))
    assert only(state).certificate_expiry == 20.0


def test_checks_stand_in_the_order_of_the_file() -> None:
    state = State((make(check("b"), check("a", "2"), check("a", "1")),))
    assert [member.check.key for member in state] == ["b/c", "a/2", "a/1"]
    assert len(state) == 3


@pytest.mark.parametrize(
    ("changed", "probes"),
    [
        (check("a"), 1),
        (check("a", interval=5.0), 1),
        (check("a", kind="tcp"), 0),  # another kind under the old name is another check
        (check("a", name="d"), 0),
        (check("b"), 0),
    ],
)
def test_what_is_known_goes_on_as_long_as_key_and_kind_stay(changed: Check, probes: int) -> None:
    one = check("a")
    state = State((make(one),))
    state.observe(seen(one, TIMEOUT))
    state.replace((make(changed),))
    member = only(state)
    assert member.check is changed
    assert member.probes == probes
    assert (member.last is not None) == bool(probes)
    assert member.failures == ({TIMEOUT: 1} if probes else {})
    state.observe(seen(changed))
    assert member.probes == probes + 1


def test_an_observation_of_a_check_that_is_gone_is_dropped() -> None:
    state = State((make(check("a")),))
    state.replace((make(check("b")),))
    state.observe(seen(check("a")))
    assert only(state).probes == 0
