"""Measures the figures of the judgement on the simulator: `python -m tests.property.judge_figures delay 0.2`.

Not a test: minutes of computing. The fixed worlds and the published table are the replay's; this is for changing the
rules.
"""

from __future__ import annotations

import random
import sys
from bisect import bisect_right
from collections.abc import Callable

from prober.model import Check
from tests.property.judge_sim import Sim, make_entity, make_references


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def outages_of(
    random_: random.Random, days: float, spacing: float, low: float, high: float
) -> list[tuple[float, float]]:
    found, at = [], 86_400.0
    while at < days * 86_400:
        at += random_.uniform(0.5, 1.5) * spacing
        length = random_.uniform(low, high)
        found.append((at, at + length))
        at += length
    return found


def delay(
    loss: float,
    days: float = 150.0,
    members: int = 1,
    budget: float | None = None,
    seed: int = 1,
    high: float = 1200.0,
    prefixes: int = 4,
) -> None:
    world = random.Random(seed)
    truth = outages_of(world, days, 10_000.0, 100.0 if members == 1 else 400.0, high)
    index = 0

    def fate(check: Check, at: float, chance: random.Random) -> bool:
        nonlocal index
        if check.target.startswith("ref"):
            return True
        while index < len(truth) and truth[index][1] <= at:
            index += 1
        if index < len(truth) and truth[index][0] <= at:
            return False
        return chance.random() >= loss

    sim = Sim(
        [make_entity(members)],
        fate,
        references=make_references(3, 3600.0),
        seed=seed,
        budget=budget,
        prefix_of=lambda check: check.target[-1:] if prefixes == 10 else str(int(check.target[-2:]) % prefixes),
    )
    scope = "check" if members == 1 else "entity"
    sim.run(days * 86_400)
    records = [outage for outage in sim.tally.closed if outage.scope == scope]
    detection, errors, starts, ends, missed = [], [], [], [], 0
    used: set[str] = set()
    for begin, end in truth:
        hits = [one for one in records if one.start < end + 60 and (one.ended_by or 0) > begin]
        if not hits:
            missed += 1
            continue
        used.update(one.id for one in hits)
        first, last = hits[0], hits[-1]
        if len(hits) > 1:
            print("split", begin, end, [(h.start, h.end) for h in hits])
        assert last.end is not None
        assert last.ended_by is not None
        assert first.started_after is not None
        detection.append(first.detected_at - begin)
        errors.append(abs((last.end - first.start) - (end - begin)))
        starts.append(first.started_after < begin <= first.started_by)
        ends.append(last.ended_after < end <= last.ended_by)
    false = len(records) - len(used)
    all_checks = [outage for outage in sim.tally.closed if outage.scope == "check"]
    print(
        f"loss {loss} members {members} budget {budget}: {len(truth)} outages, missed {missed}, false {false}; "
        f"delay p50 {percentile(detection, 0.5):.1f} p99 {percentile(detection, 0.99):.1f} max {max(detection):.1f}; "
        f"error p50 {percentile(errors, 0.5):.1f} p99 {percentile(errors, 0.99):.1f}; "
        f"cover start {sum(starts) / len(starts):.5f} end {sum(ends) / len(ends):.5f} of {len(starts)}; "
        f"checks' records {len(all_checks)} for {len(truth) * members}",
        flush=True,
    )


def probes(loss: float, days: float = 60.0, members: int = 1) -> None:
    def fate(check: Check, at: float, chance: random.Random) -> bool:
        return check.target.startswith("ref") or chance.random() >= loss

    sim = Sim([make_entity(members)], fate, references=make_references(3, 3600.0))
    sim.run(days * 86_400)
    tally = sim.tally
    print(
        f"loss {loss}: {(tally.regular + tally.extra) / tally.regular:.4f} probes a round, "
        f"{tally.references / tally.regular:.3f} of references; outages {len(tally.opened)}",
        flush=True,
    )


def bursts(loss: float, mean: float, days: float = 60.0, seed: int = 1) -> None:
    """Two-state Markov loss in continuous time: which share of the records is true loss?"""
    world = random.Random(seed)
    runs: list[tuple[float, float]] = []
    at = 0.0
    while at < days * 86_400:
        at += world.expovariate(loss / (1 - loss) / mean)
        length = world.expovariate(1 / mean)
        runs.append((at, at + length))
        at += length
    begins = [begin for begin, _ in runs]

    def covered(begin: float, end: float) -> tuple[float, float]:
        """(seconds of true loss, longest true run) in a span."""
        total = longest = 0.0
        for begun, ended in runs[max(0, bisect_right(begins, begin) - 1) :]:
            if begun >= end:
                break
            total += max(0.0, min(end, ended) - max(begin, begun))
            if ended > begin:
                longest = max(longest, ended - begun)
        return total, longest

    def fate(check: Check, at: float, _: random.Random) -> bool:
        index = bisect_right(begins, at) - 1
        return check.target.startswith("ref") or index < 0 or at >= runs[index][1]

    sim = Sim([make_entity(1)], fate, references=make_references(3, 3600.0), seed=seed)
    sim.run(days * 86_400)
    span = true = 0.0
    long_records = long_true = blips = headline = headline_true = 0.0
    for one in sim.tally.closed:
        if one.scope != "check":
            continue
        if one.outage_class == "outage":
            long_records += 1
            long_true += covered(one.started_by, one.ended_after)[1] >= 60
        else:
            blips += 1
        assert one.end is not None
        headline += one.end - one.start
        headline_true += covered(one.start, one.end)[0]
        if one.ended_after > one.started_by:
            span += one.ended_after - one.started_by
            true += covered(one.started_by, one.ended_after)[0]
    print(
        f"bursts loss {loss} mean {mean}: blips {blips:.0f}, certain span in true loss {true / max(1, span):.4f}, "
        f"headline span {headline_true / max(1, headline):.4f}; "
        f"outages {long_records:.0f}, with a true run of 60 s {long_true / max(1, long_records):.4f}",
        flush=True,
    )


def offline(mean: float, loss: float = 0.05, days: float = 60.0, seed: int = 1) -> None:
    """An observer that is offline 5 % of the time."""
    world = random.Random(seed)
    runs: list[tuple[float, float]] = []
    at = 3600.0
    while at < days * 86_400:
        at += world.expovariate(0.05 / 0.95 / mean)
        length = world.expovariate(1 / mean)
        runs.append((at, at + length))
        at += length
    begins = [begin for begin, _ in runs]

    def fate(check: Check, at: float, chance: random.Random) -> bool:
        index = bisect_right(begins, at) - 1
        if index >= 0 and at < runs[index][1]:
            return False
        return check.target.startswith("ref") or chance.random() >= loss

    sim = Sim([make_entity(4)], fate, references=make_references(3, 60.0), seed=seed)
    sim.run(days * 86_400)
    recorded = sum((gap.end or 0.0) - gap.begin for gap in sim.tally.gaps)
    true = sum(max(0.0, min(end, days * 86_400) - begin) for begin, end in runs)
    print(
        f"offline mean {mean} loss {loss}: false {len(sim.tally.opened)}, gaps {len(sim.tally.gaps)} of {len(runs)}, "
        f"recorded {recorded:.0f} s of {true:.0f} s ({recorded / true - 1:+.4f})",
        flush=True,
    )


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    commands: dict[str, Callable[..., None]] = {"delay": delay, "probes": probes, "bursts": bursts, "offline": offline}
    commands[what](*(float(one) if "." in one else int(one) for one in rest))
