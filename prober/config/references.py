"""The references file: control targets."""

from __future__ import annotations

from collections.abc import Mapping

from prober.config.checks import CheckReader, timing_of_file
from prober.config.document import Document, Map, Seq
from prober.config.files import Defaults, ReferenceEntry, ReferencesFile
from prober.config.messages import Context, validate
from prober.config.problems import Code, KeyPath, Problem
from prober.contract import Kind
from prober.model import Reference


def read_references(
    document: Document, kinds: Mapping[str, Kind], problems: list[Problem], context: Context | None = None
) -> dict[str, tuple[Reference, KeyPath]]:
    """The references of a file by name, each with where its name stands. Adds to `problems` what is wrong."""
    root = document.root
    reader = CheckReader(kinds, problems, context)
    shell = validate(ReferencesFile, root, document, (), problems, apart="references")
    of_file = timing_of_file(shell.defaults if shell is not None else Defaults())
    references: dict[str, tuple[Reference, KeyPath]] = {}
    items = root.get("references")
    for position, item in enumerate(items if isinstance(items, Seq) else ()):
        at = ("references", position)
        entry = validate(ReferenceEntry, item, document, at, problems, apart="checks")
        timing = of_file.refined(entry.interval, entry.timeout, at) if entry is not None else of_file
        checks = reader.read(entry.name if entry is not None else "", item, document, at, timing)
        if entry is None:
            continue
        named = (*at, "name")
        if entry.name in references:
            message = f"line {document.line(references[entry.name][1])} has a reference of this name too; rename one"
            problems.append(document.problem(named, Code.DUPLICATE_REFERENCE, message))
        reference = Reference(name=entry.name, network=entry.network, checks=checks, title=entry.title or "")
        references.setdefault(entry.name, (reference, named))
    return references


def names_of_references(document: Document) -> set[str]:
    """The names in a references file, whether or not the references are good."""
    items = document.root.get("references")
    named = [item.get("name") for item in items if isinstance(item, Map)] if isinstance(items, Seq) else []
    return {name for name in named if isinstance(name, str)}
