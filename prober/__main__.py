"""`prober`, and `python -m prober`."""

from __future__ import annotations

from prober.cli import main

if __name__ == "__main__":
    main()
