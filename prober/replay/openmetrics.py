"""A replayed world as OpenMetrics text: what a Prometheus would have scraped of its agents, and recorded of that.

    promtool tsdb create-blocks-from openmetrics FILE DIRECTORY

makes blocks of it. The text has the series of a family together, each in order of time, and ends with `# EOF`
(OpenMetrics 1.0). A series that ended is not marked as stale: there is no word for that in the format.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TextIO

from prober.metrics import CHECK_FAMILIES, TARGET_FAMILIES
from prober.replay.evaluation import Evaluation
from prober.replay.run import Replayed
from prober.replay.scrape import CLOCK, KEEP_SCRAPES
from prober.replay.spool import Spool
from prober.scopes import ENTITY_NETWORKS, SCOPE_FAMILIES, VANTAGE_FAMILIES
from prober.textformat import number

_LINES: Final = 5_000

Progress = Callable[[float], None]


def write_openmetrics(
    replayed: Replayed,
    file: Path,
    scratch: Path,
    *,
    keep_scrapes: int = KEEP_SCRAPES,
    progress: Progress | None = None,
) -> int:
    """Write the file; `replayed` has tapes, `scratch` is a directory for what does not fit into memory. Its octets.

    The file appears whole or not at all. Raises OSError.
    """
    world = replayed.world
    tapes = [witness.tape for witness in replayed.witnesses if witness.tape is not None]
    recorded = Spool(scratch / "recorded.samples")
    for at in Evaluation(world, tapes, recorded, keep_scrapes).run():
        if progress is not None:
            progress(0.3 * (at - world.start) / (world.end - world.start))
    recorded.flush()
    spools = [*(tape.spool for tape in tapes), recorded]
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        with fresh.open("w", encoding="utf-8") as out:
            _write(spools, out, progress)
        size = fresh.stat().st_size
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return size


def _write(spools: Sequence[Spool], out: TextIO, progress: Progress | None) -> None:
    kinds = {one.name: (str(one.type), one.help) for one in (*CHECK_FAMILIES, *TARGET_FAMILIES)}
    kinds |= {one.name: (one.type, one.help) for one in SCOPE_FAMILIES}
    kinds |= {one.name: (one.type, one.help) for one in VANTAGE_FAMILIES}
    kinds |= {ENTITY_NETWORKS[0]: ("gauge", ENTITY_NETWORKS[1]), CLOCK: ("gauge", "The agent's clock: shows its skew")}
    families = sorted({name for spool in spools for name in spool.families})
    for place, name in enumerate(families):
        kind, text = kinds.get(name, ("gauge", ""))
        family = name
        if kind == "counter":
            family = name.removesuffix("_total")  # as OpenMetrics names it
            if family in kinds:  # prober_outage_seconds is a gauge, and no two families may have one name
                family, kind = name, "unknown"
        if text:
            out.write(f"# HELP {family} {text}\n")
        out.write(f"# TYPE {family} {kind}\n")
        for spool in spools:
            for labels, series in spool.families.get(name, {}).items():
                head = f"{name}{{{labels[:-1]}}} "
                lines = []
                for at, value in spool.samples(series):
                    lines.append(f"{head}{number(value)} {number(at)}\n")
                    if len(lines) >= _LINES:
                        out.write("".join(lines))
                        lines.clear()
                out.write("".join(lines))
        if progress is not None:
            progress(0.3 + 0.7 * (place + 1) / len(families))
    out.write("# EOF\n")
