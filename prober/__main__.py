"""`prober`, and `python -m prober`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Loading it takes a moment, in which Ctrl-C is no reason for a traceback either."""
    try:
        from prober.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
