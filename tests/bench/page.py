"""docs/performance.md from what was measured: tables, the goals, and in words whether each is met."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.figures import Results, middle, per_probe, quantile, ratios

PLOT: Final = "performance-checks.svg"
PEERS: Final = ("blackbox_exporter", "fping", "smokeping_prober")

HEAD: Final = """# What it costs

Written by `make bench`; do not edit. Took {took}. Programs run in turn on the same work, in network namespaces of
their own with local servers (nginx, nsd, loopback addresses). CPU per probe is a median over rounds ({rounds} here), a
ratio the median of the ratios of the two runs of a round. CPU is that of all threads and children of a program, from
the kernel. On another machine than the one named below the ratios carry over better than the figures.

{machine}
"""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is aimed at, and what came out."""

    what: str
    aim: str
    found: float | None
    limit: float
    shown: str

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.found is None:
            return "not measured"
        return "met" if self.found <= self.limit else "not met"


def page(results: Results, took: str) -> str:
    """The whole document."""
    machine = [*results.machine.items(), *results.versions.items()]
    listed = "\n".join(f"- {name}: {text}" for name, text in machine)
    listed += "".join(f"\n- not here: {name} ({why})" for name, why in results.skipped.items())
    head = HEAD.format(took=took, rounds=len(results.rounds), machine=listed)
    parts = [*_goals(results), *_costs(results), *_accuracy(results), *_scale(results), *_outage(results)]
    parts += [*_curve(results), *_shards(results)]
    return "\n".join([head, *parts]) + "\n"


def goals(results: Results) -> list[Goal]:
    """The goals, in order."""
    found = []

    def add(what: str, aim: str, value: float | None, limit: float, shown: str) -> None:
        found.append(Goal(what, aim, value, limit, shown if value is not None else "-"))

    for kind, peer, limit in (
        ("icmp", "fping", 1.0),
        ("icmp", "blackbox_exporter", 0.1),
        ("http", "blackbox_exporter", 0.35),
        ("dns", "blackbox_exporter", 0.3),
        ("tcp", "blackbox_exporter", 0.25),
    ):
        ratio = middle(ratios(results.rounds, kind, "prober", peer))
        add(f"{kind.upper()}: CPU per probe by {peer}'s", f"<= {limit:g}", ratio, limit, f"{ratio or 0:.2f}")
    mine = results.accuracy.get("prober")
    error = quantile([abs(one) for one in mine], 0.99) if mine else None
    aim = f"<= 0.1 ms at {results.in_flight:,.0f} in flight" if mine else "<= 0.1 ms at 5,000 in flight"
    add("ICMP: round-trip error, p99", aim, error, 0.0001, f"{(error or 0) * 1000:.3f} ms")
    # Of a quick look, which takes fewer, nothing is said here.
    scale = results.scale if results.scale.get("targets", 0) >= TARGETS else {}
    outage = results.outage if results.outage.get("targets", 0) >= TARGETS else {}
    start = results.start if results.start.get("checks", 0) >= CHECKS else {}
    for what, aim, where, key, limit, factor, form in (
        ("10,000 targets on one core: share of it", "< 30 %", scale, "cpu_share", 0.3, 100.0, "{:.1f} %"),
        ("Memory (PSS)", "< 400 MB", scale, "memory_bytes", 400e6, 1e-6, "{:.0f} MB"),
        ("Lateness p99, scrapes as usual", "< 20 ms", scale, "late_p99", 0.02, 1e3, "at most {:g} ms"),
        ("Lateness p99, scraped without a pause", "< 20 ms", scale, "late_scraping_p99", 0.02, 1e3, "at most {:g} ms"),
        ("CPU of a scrape, gzip included", "<= 1.0 s", scale, "scrape_cpu_seconds", 1.0, 1.0, "{:.2f} s"),
        ("Standstills over 25 ms in 8 scrapes", "none", scale, "stalls_over_25_ms", 0.0, 1.0, "{:.0f}"),
        (
            "Outage of all at once: certain to recorded",
            "< 5 s",
            outage,
            "seconds_from_certain_to_recorded",
            5.0,
            1.0,
            "{:.1f} s",
        ),
        ("100,000 checks: start to first probe", "< 15 s", start, "first_probe_seconds", 15.0, 1.0, "{:.1f} s"),
        ("Reload of them: lateness p99 meanwhile", "< 20 ms", start, "reload_late_p99", 0.02, 1e3, "at most {:g} ms"),
    ):
        value = where.get(key)
        add(what, aim, value, limit, form.format((value or 0.0) * factor))
    costs = [one.per_probe for one in results.curve.values()]
    spread = results.curve[CHECKS].per_probe / min(costs) if CHECKS in results.curve and len(costs) > 1 else None
    add("Cost per check, most checks by the cheapest", "flat: <= 1.5", spread, 1.5, f"{spread or 0:.2f}")
    return found


def _goals(results: Results) -> Iterator[str]:
    yield "## The goals\n"
    rows = [(goal.what, goal.aim, goal.shown, goal.verdict) for goal in goals(results)]
    yield from table(("goal", "aim", "measured", ""), rows)


def _costs(results: Results) -> Iterator[str]:
    yield "\n## CPU per probe\n"
    if not results.rounds:
        yield _NOTHING
        return
    yield "Microseconds; in brackets ours by theirs. Memory (PSS) in MB in the last column, of ICMP.\n"
    programs = ["prober", *PEERS]
    kinds = list(results.rounds[0])
    rows = []
    for program in programs:
        cells = [program]
        for kind in kinds:
            value = middle(per_probe(results.rounds, kind, program))
            ratio = middle(ratios(results.rounds, kind, "prober", program))
            cell = "-" if value is None else f"{value * 1e6:.0f}"
            cells.append(cell if program == "prober" or ratio is None else f"{cell} ({ratio:.2f})")
        memory = middle([one["icmp"][program].memory_bytes for one in results.rounds if program in one["icmp"]])
        rows.append([*cells, "-" if memory is None else f"{memory / 1e6:.0f}"])
    yield from table(("", *kinds, "memory"), rows)


def _accuracy(results: Results) -> Iterator[str]:
    yield "\n## How true round trips are\n"
    if not results.accuracy:
        yield _NOTHING
        return
    yield (
        "A far end behind a cable answers every echo request after 1.9 s; the error is what a program reports less\n"
        "what the kernel's stamps on the cable say. blackbox_exporter is asked for a tenth of the probes.\n"
    )
    rows = []
    for program, found in results.accuracy.items():
        size = [abs(one) for one in found]
        cells = [f"{quantile(size, share) * 1000:.3f}" for share in (0.5, 0.99)] if size else ["-", "-"]
        rows.append([program, f"{len(found):,}", *cells])
    yield from table(("", "probes", "error p50, ms", "error p99, ms"), rows)


def _scale(results: Results) -> Iterator[str]:
    found = results.scale
    yield "\n## Many targets on one core\n"
    if not found:
        yield _NOTHING
        return
    yield (
        f"{found['targets']:,.0f} targets: ICMP every 10 s, one DNS and one HTTP check each every 60 s; the agent is\n"
        "bound to one core, the servers are on the other. A scrape every "
        f"{found['seconds_between_scrapes']:.0f} s, gzip. Lateness is\n"
        "read from the agent's own histogram, which knows bounds only.\n"
    )
    rows = [
        ("probes a second", f"{found['probes_per_second']:,.0f}"),
        ("share of the core", f"{found['cpu_share'] * 100:.1f} %"),
        ("memory (PSS)", f"{found['memory_bytes'] / 1e6:.0f} MB"),
        ("series", f"{found['series']:,.0f}"),
        ("CPU of a scrape", f"{found['scrape_cpu_seconds']:.2f} s, {found['scrape_bytes'] / 1e6:.1f} MB sent"),
        *_lateness(found, "late", "lateness"),
        *_lateness(found, "late_scraping", "lateness, scraped without a pause"),
    ]
    yield from table(("", ""), rows)


def _lateness(found: dict[str, float], name: str, words: str) -> Iterator[tuple[str, str]]:
    for share in ("p50", "p99"):
        low, high = found[f"{name}_{share}_over"] * 1000, found[f"{name}_{share}"] * 1000
        yield f"{words}, {share}", f"{low:g} to {high:g} ms"
    yield f"{words}, share over 20 ms", f"{found[f'{name}_share_over_20_ms'] * 100:.2f} %"


def _outage(results: Results) -> Iterator[str]:
    found = results.outage
    yield "\n## All of them unreachable at once\n"
    if not found:
        yield _NOTHING
        return
    yield (
        f"{found['targets']:,.0f} targets with an ICMP check each fall silent; their references do not. Confirmations\n"
        f"stay inside {found['packets_per_second_allowed']:,.0f} packets a second.\n"
    )
    rows = [
        ("outages recorded", f"{found['recorded']:,.0f} within {found['seconds_until_all_recorded']:.0f} s"),
        ("from certain to recorded, longest", f"{found['seconds_from_certain_to_recorded']:.1f} s"),
        ("probes a second meanwhile", f"{found['probes_per_second']:,.0f}"),
        ("share of the core meanwhile", f"{found['cpu_share'] * 100:.0f} %"),
        *_lateness(found, "late", "lateness"),
    ]
    yield from table(("", ""), rows)


def _curve(results: Results) -> Iterator[str]:
    yield "\n## From a hundred to a hundred thousand checks\n"
    if not results.curve:
        yield _NOTHING
        return
    yield "ICMP checks at about a thousand probes a second each time (a hundred: a hundred), and a scrape after 20 s.\n"
    rows = [
        (
            f"{checks:,}",
            f"{cost.per_probe * 1e6:.0f}",
            f"{results.scrapes[checks] / checks * 1e6:.0f}" if checks in results.scrapes else "-",
            f"{cost.memory_bytes / 1e6:.0f}",
        )
        for checks, cost in sorted(results.curve.items())
    ]
    yield from table(("checks", "CPU per probe, us", "CPU of a scrape per check, us", "memory, MB"), rows)
    yield f"\n![CPU per probe by the number of checks]({PLOT})"
    start = results.start
    if start:
        yield (
            f"\n{start['checks']:,.0f} checks: {start['first_probe_seconds']:.1f} s from the start of the process to "
            f"the first probe. A reload with one target\nrenamed took {start['reload_seconds']:.1f} s, and p99 of the "
            f"lateness meanwhile was between {start['reload_late_p99_over'] * 1000:g} and "
            f"{start['reload_late_p99'] * 1000:g} ms."
        )


TARGETS, CHECKS = 10_000, 100_000
"""What the goals are about."""

_NOTHING: Final = "Not measured in this run."


def _shards(results: Results) -> Iterator[str]:
    yield "\n## More than one core can do\n"
    yield "The loop is one thread, so one agent uses one core."
    if results.scale:
        share, rate = results.scale["cpu_share"], results.scale["probes_per_second"]
        yield (
            f"The {results.scale['targets']:,.0f} targets above took {share * 100:.0f} % of it with {rate:,.0f} probes "
            f"a second;\nat this price it would be full with {rate / share:,.0f} probes a second, and late long before."
        )
    yield "`prober run --shard 1/4` runs a quarter of the entities: docs/deployment.md."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join("---" if number == 0 else "--:" for number in range(len(head))) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
