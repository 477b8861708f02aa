"""A replay, and what it leaves: a ledger, a file for Prometheus."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prober.config.worlds import World
from prober.replay.openmetrics import write_openmetrics
from prober.replay.run import Replayed, ReplayFailed, replay

REPLAY_SHARE: Final = 0.8
"""Of the progress; the rest is writing."""

Progress = Callable[[float], None]


def replay_into(
    world: World,
    *,
    seed: int | None = None,
    ledger: Path | None = None,
    openmetrics: Path | None = None,
    progress: Progress | None = None,
) -> Replayed:
    """`replay`, and the OpenMetrics file if one is asked for. Raises ReplayFailed."""
    if openmetrics is None:
        return replay(world, seed=seed, ledger=ledger, progress=progress)
    if openmetrics.is_dir() or not openmetrics.parent.is_dir():
        what = "is a directory; name a file in it" if openmetrics.is_dir() else "is in no directory; make it first"
        raise ReplayFailed(f"{openmetrics}: {what}")
    try:
        # beside the file, where there is room for it: what is put aside is about a tenth of its size
        with tempfile.TemporaryDirectory(prefix=".prober-replay-", dir=openmetrics.parent) as scratch:
            replayed = replay(
                world, seed=seed, ledger=ledger, scrapes=Path(scratch), progress=_part(progress, 0.0, REPLAY_SHARE)
            )
            rest = _part(progress, REPLAY_SHARE, 1.0)
            write_openmetrics(replayed, openmetrics, Path(scratch), progress=rest)
    except OSError as error:
        raise ReplayFailed(f"{openmetrics}: cannot be written ({error.strerror or error})") from error
    return replayed


def _part(progress: Progress | None, begin: float, end: float) -> Progress | None:
    return None if progress is None else lambda share: progress(begin + share * (end - begin))
