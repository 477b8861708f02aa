"""Writes the documents that follow from the code: `python -m docs.generate`, in the repository. A test compares."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from docs.source import commands, failures, metrics, references

DIRECTORY: Final = Path(__file__).parent
DOCUMENTS: Final = {
    "commands.md": commands.text,
    "failures.md": failures.text,
    "metrics.md": metrics.text,
    "settings.md": references.settings,
    "targets.md": references.targets,
    "worlds.md": references.worlds,
}


def files() -> dict[str, str]:
    """Name -> content."""
    return {name: text() for name, text in DOCUMENTS.items()}


if __name__ == "__main__":
    for name, content in files().items():
        (DIRECTORY / name).write_text(content)
