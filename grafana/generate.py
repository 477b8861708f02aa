"""Writes the dashboards: `python -m grafana.generate`, in the repository (`make docs` does). A test compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from grafana.source import entity, overview, target, vantages

DIRECTORY: Final = Path(__file__).parent / "dashboards"
DASHBOARDS: Final = {
    "overview.json": overview.DASHBOARD,
    "entity.json": entity.DASHBOARD,
    "target.json": target.DASHBOARD,
    "vantages.json": vantages.DASHBOARD,
}


def files() -> dict[str, str]:
    """Name -> content."""
    return {
        name: json.dumps(dashboard.to_json(), indent=1, ensure_ascii=False) + "\n"
        for name, dashboard in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for name, content in files().items():
        (DIRECTORY / name).write_text(content)
