"""Work on a large set of files, on several cores: the files in shares, a process each."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Generic, TypeVar

SHARE_BYTES_MIN: Final = 500_000
"""Some five thousand checks, a third of a second's work: less is not worth a process."""
CORES_MAX: Final = 4
"""One process takes in what the others hand over; more of them would wait for it."""

T = TypeVar("T")


class ShareFailed(Exception):
    """A share was not done, whatever the reason."""


def cores() -> int:
    """How many cores there are to work on. To be asked while the process has one thread: a fork takes no other along,
    and might wait for ever for what these hold.
    """
    alone = sys.platform == "linux" and threading.active_count() == 1
    return min(len(os.sched_getaffinity(0)), CORES_MAX) if alone else 1


def shares(paths: Sequence[Path], cores: int) -> list[list[Path]]:
    """The files in order, in at most so many shares of about the same size. One share: it is not worth the while."""
    try:
        found = [os.stat(path) for path in paths]
    except (OSError, ValueError):  # reading will say what is wrong
        return [list(paths)]
    total = sum(one.st_size for one in found)
    count = max(1, min(cores, total // SHARE_BYTES_MIN))
    divided: list[list[Path]] = [[] for _ in range(count)]
    before = 0
    for path, one in zip(paths, found, strict=True):
        divided[before * count // total if total else 0].append(path)
        before += one.st_size
    return [share for share in divided if share]


def in_processes(work: Callable[[list[Path]], Iterable[T]], shares: Sequence[list[Path]]) -> list[T]:
    """What `work` makes of the shares: of the first here, of each other in a child. What that finds is pickled, one by
    one, so that it can be taken in while the rest is still put up.

    Raises ShareFailed if a child has not found everything; nobody is told why. Of the first share what `work` raises.
    """
    with ExitStack() as stack:
        children: list[_Child[T]] = []
        for share in shares[1:]:
            try:
                children.append(stack.enter_context(closing(_Child(work, share, children))))
            except OSError as error:  # no process, no descriptor, no memory to be had
                raise ShareFailed from error
        return [*work(shares[0]), *(one for child in children for one in child.results())]


class _Child(Generic[T]):
    """A process that works on one share."""

    def __init__(self, work: Callable[[list[Path]], Iterable[T]], share: list[Path], before: list[_Child[T]]) -> None:
        context = multiprocessing.get_context("fork")  # nothing is imported anew, which would take a second
        self._results, out = context.Pipe(duplex=False)
        readers = [*(one._results for one in before), self._results]
        self._process = context.Process(target=_do, args=(work, share, out, readers), daemon=True)
        try:
            self._process.start()
        except OSError:
            self._results.close()
            raise
        finally:
            out.close()

    def results(self) -> Iterator[T]:
        """Raises ShareFailed."""
        try:
            while result := self._results.recv_bytes():
                yield pickle.loads(result)
        except (EOFError, OSError) as error:
            raise ShareFailed from error

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._results.close()


def _do(
    work: Callable[[list[Path]], Iterable[object]], share: list[Path], out: Connection, readers: Iterable[Connection]
) -> None:
    try:
        for reader in readers:  # held by the parent alone: when that dies, writing ends with an error and not never
            reader.close()
        for one in work(share):
            out.send_bytes(pickle.dumps(one, pickle.HIGHEST_PROTOCOL))
        out.send_bytes(b"")
    except BaseException:  # also of Ctrl-C, which goes to all processes: the parent is who speaks of what is wrong
        os._exit(1)
