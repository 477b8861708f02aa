"""From files to what the agent runs on. Everything that is wrong in all of them is found before anything is raised."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from prober.blackbox.kind import KINDS
from prober.blackbox.modules import Modules, read_blackbox_document, read_modules
from prober.config.document import Document
from prober.config.messages import Context
from prober.config.optout import OptOut
from prober.config.parse import read_document
from prober.config.problems import Code, ConfigError, Problem, raise_if_any
from prober.config.references import names_of_references, read_references
from prober.config.settings import Settings
from prober.config.shares import ShareFailed, in_processes, shares
from prober.config.targets import Contribution, TargetsReader
from prober.contract import Kind
from prober.model import Check, Entity, Reference


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that an agent runs on."""

    settings: Settings
    entities: tuple[Entity, ...]
    references: tuple[Reference, ...]
    opted_out: tuple[str, ...]  # what the opt-out list took away, for the log: one text per target or reference


def load_targets(paths: Iterable[Path], kinds: Mapping[str, Kind] = KINDS) -> tuple[Entity, ...]:
    """The entities in targets files, files of one entity merged. Raises ConfigError.

    Whether the references that an entity names exist is known to `load` only.
    """
    problems: list[Problem] = []
    entities = _reader_of(paths, kinds, problems).entities()
    raise_if_any(problems)
    return entities


def load_references(path: Path, kinds: Mapping[str, Kind] = KINDS) -> tuple[Reference, ...]:
    """The references in a references file. Raises ConfigError."""
    problems: list[Problem] = []
    references = [
        reference
        for document in read_all([path], problems)
        for reference, _line in read_references(document, kinds, problems).values()
    ]
    raise_if_any(problems)
    return tuple(references)


def load(settings: Settings, kinds: Mapping[str, Kind] = KINDS, cores: int = 1) -> Config:
    """The targets and references that `settings` name, less what has opted out. Raises ConfigError.

    A large set is read on so many `cores`, if they are more than one. Those find out only whether all is well: if it is
    not, everything is read once more in one go, which says what is wrong, and on which line.
    """
    with uncollected():
        divided = shares(settings.targets, cores)
        if len(divided) > 1 and settings.blackbox is None:  # compiled modules cannot be handed over
            with suppress(ConfigError, ShareFailed):
                problems: list[Problem] = []
                reader = TargetsReader(kinds, problems)
                reader.join(in_processes(partial(_read_share, kinds), divided))
                return _completed(reader, settings, kinds, problems, {"modules": None})
        problems = []
        context = read_context(settings.blackbox, problems)
        reader = _reader_of(settings.targets, kinds, problems, context)
        return _completed(reader, settings, kinds, problems, context)


def _read_share(kinds: Mapping[str, Kind], paths: list[Path]) -> list[Contribution]:
    """What these files come to by themselves. Raises ConfigError if anything is wrong."""
    problems: list[Problem] = []
    reader = _reader_of(paths, kinds, problems, {"modules": None})
    raise_if_any(problems)
    return reader.contributions()


def _reader_of(
    paths: Iterable[Path], kinds: Mapping[str, Kind], problems: list[Problem], context: Context | None = None
) -> TargetsReader:
    """One that has read these files. Adds to `problems` what is wrong with them."""
    reader = TargetsReader(kinds, problems, context)
    for document in read_all(paths, problems):
        reader.read(document)
    return reader


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector: what is read stays, and looking at all of it again and again takes a sixth of the
    time and, at a reload, stops the event loop meanwhile.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _completed(
    reader: TargetsReader, settings: Settings, kinds: Mapping[str, Kind], problems: list[Problem], context: Context
) -> Config:
    """The targets that were read, with their references and without what has opted out. Raises ConfigError."""
    references = list(read_all([settings.references], problems))
    found = _references(reader, references, kinds, problems, context)
    entities = reader.entities()
    raise_if_any(problems)
    opted_out: list[str] = []
    entities = tuple(_without_opted_out(entity, settings.opted_out, kinds, opted_out) for entity in entities)
    kept = tuple(
        reference
        for reference in found
        if not _is_opted_out(f"reference {reference.name}", reference.checks, settings.opted_out, kinds, opted_out)
    )
    return Config(settings, entities, kept, tuple(opted_out))


def read_context(blackbox: Path | None, problems: list[Problem]) -> Context:
    """What checks of the kind `module` are validated with: the modules of a blackbox.yml, if there is one.

    Where the file is not as it should be, that is the problem, and no check is blamed for it.
    """
    if blackbox is None:
        return {"modules": None}
    try:
        document = read_blackbox_document(blackbox)
    except ConfigError as error:
        problems.extend(error.problems)
        return {}
    found: list[Problem] = list(document.problems)
    modules: Modules | None = read_modules(document, found)
    problems.extend(found)
    return {"modules": modules} if modules is not None and not found else {}


def read_sets(
    targets: Iterable[Document],
    references: Iterable[Document],
    kinds: Mapping[str, Kind],
    problems: list[Problem],
    context: Context | None = None,
) -> tuple[TargetsReader, list[Reference]]:
    """Read targets files and references files that belong together. Adds to `problems` what is wrong with them."""
    reader = TargetsReader(kinds, problems, context)
    for document in targets:
        reader.read(document)
    return reader, _references(reader, list(references), kinds, problems, context)


def _references(
    reader: TargetsReader,
    references: list[Document],
    kinds: Mapping[str, Kind],
    problems: list[Problem],
    context: Context | None,
) -> list[Reference]:
    found: dict[str, Reference] = {}
    known: set[str] = set()  # the names of bad ones too: who names them has made no mistake
    for document in references:
        known |= names_of_references(document)
        for name, (reference, at) in read_references(document, kinds, problems, context).items():
            found[name] = reference
            if name in reader.targets:
                message = f"the target at {reader.targets[name]} has this name; a reference is no target: rename one"
                problems.append(document.problem(at, Code.REFERENCE_IS_TARGET, message))
    if references:
        problems.extend(reader.unknown_references(known))
    return list(found.values())


def read_all(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Document]:
    """The documents that can be read. Adds to `problems` what is wrong with these and the others."""
    seen: set[Path] = set()
    for path in paths:
        identity = _identity(path)
        if identity in seen:
            message = "the file is named twice; name it once"
            problems.append(Problem(str(path), 0, "", message, Code.FILE_TWICE))
            continue
        seen.add(identity)
        try:
            document = read_document(path)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        problems.extend(document.problems)
        yield document


def _identity(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError):  # a loop of symbolic links, a NUL byte: reading will say what is wrong
        return path


def _without_opted_out(entity: Entity, opt_out: OptOut, kinds: Mapping[str, Kind], opted_out: list[str]) -> Entity:
    if not opt_out.entries:
        return entity
    targets = tuple(
        target
        for target in entity.targets
        if not _is_opted_out(f"target {target.name}", target.checks, opt_out, kinds, opted_out)
    )
    return replace(entity, targets=targets)


def _is_opted_out(
    owner: str, checks: Iterable[Check], opt_out: OptOut, kinds: Mapping[str, Kind], opted_out: list[str]
) -> bool:
    """Whether any host that the owner's checks probe has opted out: then none of its checks is run.

    Names are looked at as they are written; where they lead to is asked of the list again before each probe.
    """
    for check in checks:
        host = kinds[check.kind].host(check.options)
        entry = opt_out.covering(host)
        if entry is not None:
            opted_out.append(f"{owner}: {host} (check {check.name}) is covered by {entry}")
            return True
    return False
