"""A replay, and what it leaves: a ledger, a file for Prometheus."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prober.config.worlds import World
from prober.ledger.files import ledger_file
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
    if ledger is not None:
        _real(ledger_file(ledger))
    if openmetrics is None:
        return replay(world, seed=seed, ledger=ledger, progress=progress)
    file = _real(openmetrics)
    if not file.parent.is_dir():
        raise ReplayFailed(f"{openmetrics}: is in no directory; make it first")
    try:
        # beside the file, where there is room for it: what is put aside is about a tenth of its size
        with tempfile.TemporaryDirectory(prefix=".prober-replay-", dir=file.parent) as scratch:
            replayed = replay(
                world, seed=seed, ledger=ledger, scrapes=Path(scratch), progress=_part(progress, 0.0, REPLAY_SHARE)
            )
            rest = _part(progress, REPLAY_SHARE, 1.0)
            write_openmetrics(replayed, _real(openmetrics), Path(scratch), progress=rest)
    except OSError as error:
        raise ReplayFailed(f"{openmetrics}: cannot be written ({error.strerror or error})") from error
    return replayed


def _real(path: Path) -> Path:
    """The file that a path means, links followed: what is renamed onto it must replace neither link nor device.

    Raises ReplayFailed where something stands there that is no regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Path(os.path.realpath(path))
    except OSError as error:  # a loop of links, or a directory that this user may not enter
        raise ReplayFailed(f"{path}: cannot be written ({error.strerror or error})") from None
    if stat.S_ISDIR(mode):
        raise ReplayFailed(f"{path}: is a directory; name a file in it")
    if not stat.S_ISREG(mode):
        raise ReplayFailed(f"{path}: is no regular file, and is left as it is; name a file")
    return Path(os.path.realpath(path))


def _part(progress: Progress | None, begin: float, end: float) -> Progress | None:
    return None if progress is None else lambda share: progress(begin + share * (end - begin))
