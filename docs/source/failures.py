"""docs/failures.md, from the closed vocabulary of failures."""

from __future__ import annotations

from typing import Final

from prober.failures import FAILURES, Operation, Side

TEXT: Final = """\
# Failures

Written by `make docs` from `prober/failures.py`, which `prober failures` prints too. Do not edit it.

A failed probe has an operation (what it was doing) and a failure (how it failed), as in `connect/timeout`. Both lists
are closed: raw error text goes to the log, never into a label.

Operations, in order: {operations}.

The side says whose trouble it is as far as the failure alone can tell, and so what the judge makes of it:

| side | what the judge makes of it |
|---|---|
| `ours` | nothing: this vantage could not see. The check is unknown, never down |
| `resolver` | evidence only if the references' names were resolved at the same moment: else it was our resolver |
| `target` | evidence against the target, if a reference answered beside it |

| failure | side | meaning |
|---|---|---|
"""


def text() -> str:
    """The whole document."""
    assert {side for side, _ in FAILURES.values()} == set(Side)
    head = TEXT.format(operations=", ".join(f"`{operation}`" for operation in Operation))
    return head + "".join(f"| `{failure}` | {side} | {meaning} |\n" for failure, (side, meaning) in FAILURES.items())
