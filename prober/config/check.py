"""`prober check`: any of our files, whatever it is called, is validated as what it is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from prober.blackbox.kind import KINDS
from prober.blackbox.modules import Modules
from prober.config.document import Document, Map, Seq, Value
from prober.config.files import TargetsFile
from prober.config.load import load, read_all, read_context, read_sets
from prober.config.parse import read_bytes
from prober.config.problems import Code, ConfigError, Problem, in_order
from prober.config.references import read_references
from prober.config.settings import Limits, Settings, validate_settings
from prober.config.worlds import WorldFile, read_world
from prober.contract import Kind
from prober.model import Check, Reference
from prober.schedule import budget_key

REFERENCE_NETWORKS_WANTED: Final = 3
"""Distinct networks: with two that disagree, nobody knows which one is right."""

FileKind: TypeAlias = Literal["settings", "targets", "references", "blackbox", "world"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a good file amounts to. `remarks` are worth reading and stop nobody."""

    file: str
    kind: FileKind
    entities: tuple[str, ...] = ()
    targets: int = 0
    checks: int = 0
    packets_per_second: float = 0.0
    """Over all checks, on an average of regular rounds."""
    busiest_prefix: str = ""
    busiest_prefix_packets_per_second: float = 0.0
    remarks: tuple[str, ...] = ()
    modules: int = 0
    """Of a blackbox.yml."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What is wrong with the files, and what the good ones hold."""

    problems: tuple[Problem, ...]
    summaries: tuple[Summary, ...]


_SETTINGS_KEYS: Final = frozenset(Settings.model_fields) - {"targets", "references"}
_WORLD_KEYS: Final = (
    frozenset(WorldFile.model_fields) - frozenset(Settings.model_fields) - frozenset(TargetsFile.model_fields)
)
_TARGETS_KEYS: Final = frozenset(TargetsFile.model_fields) - {"targets", "references", "defaults"}
_CANNOT_TELL: Final = (
    'neither a targets file (it has "entity:"), nor a references file (a list "references:"), '
    'nor a settings file (for example "listen:"), nor a blackbox.yml ("modules:"), nor a world ("world:"); '
    "write one of these keys"
)


def kind_of_file(document: Document) -> FileKind | None:
    """What a file is, by its keys; None if that cannot be told."""
    root = document.root
    kinds: set[FileKind] = set()
    if "world" in root:
        return "world"
    targets, references = root.get("targets"), root.get("references")
    if _TARGETS_KEYS & root.keys() or _has_mappings(targets):
        kinds.add("targets")
    elif _has_mappings(references):
        kinds.add("references")
    if _SETTINGS_KEYS & root.keys() or (not kinds and (isinstance(references, str) or isinstance(targets, Seq))):
        kinds.add("settings")
    if not kinds and len(_WORLD_KEYS & root.keys()) > 1:
        return "world"
    return kinds.pop() if len(kinds) == 1 else None


def _has_mappings(value: Value) -> bool:
    return isinstance(value, Seq) and any(isinstance(item, Map) for item in value)


def check_files(paths: Iterable[Path], kinds: Mapping[str, Kind] = KINDS) -> CheckResult:
    """Validate files together: targets files as one set, and with the references files among them.

    A settings file is validated with the files that it names. Raises nothing.
    """
    problems: list[Problem] = []
    groups: dict[FileKind | None, list[Document]] = {kind: [] for kind in (*get_args(FileKind), None)}
    paths = list(paths)
    blackbox = [path for path in dict.fromkeys(paths) if _is_blackbox(path)]
    context: dict[str, Modules] = {}
    summaries = list(_blackbox_files(blackbox, problems, context))
    for document in read_all([path for path in paths if path not in blackbox], problems):
        groups[kind_of_file(document)].append(document)
    problems.extend(Problem(document.file, 1, "", _CANNOT_TELL, Code.KIND_OF_FILE) for document in groups[None])
    summaries += [summary for document in groups["settings"] for summary in _settings(document, kinds, problems)]
    summaries += [summary for document in groups["world"] for summary in _world(document, kinds, problems)]
    reader, _references = read_sets(groups["targets"], groups["references"], kinds, problems, context)
    reader.entities()
    for document in groups["targets"]:
        entities, targets = reader.of_file(document.file)
        checks = [check for target in targets for check in target.checks]
        summaries.append(_summary(document.file, "targets", entities, len(targets), checks, kinds, Limits()))
    for document in groups["references"]:
        references = [reference for reference, _at in read_references(document, kinds, []).values()]
        summaries.append(_of_references(document.file, references, kinds))
    bad = {problem.file for problem in problems}
    order = {str(path): position for position, path in enumerate(paths)}
    good = [summary for summary in summaries if summary.file not in bad]
    return CheckResult(tuple(in_order(problems)), tuple(sorted(good, key=lambda summary: order[summary.file])))


_MODULES_KEY: Final = re.compile(rb"^modules[ \t]*:", re.MULTILINE)


def _is_blackbox(path: Path) -> bool:
    """Whether a file is a blackbox.yml. Its text tells: it is in a dialect of its own."""
    try:
        return _MODULES_KEY.search(read_bytes(path)) is not None
    except ConfigError:
        return False  # said when it is read as one of ours


def _blackbox_files(paths: Iterable[Path], problems: list[Problem], context: dict[str, Modules]) -> Iterator[Summary]:
    """The summaries of blackbox.yml files; the modules of the first one go to `context`, for the checks beside it."""
    for path in paths:
        found = read_context(path, problems).get("modules")
        if found is not None:
            context.setdefault("modules", found)
            yield Summary(str(path), "blackbox", modules=len(found))


def _settings(document: Document, kinds: Mapping[str, Kind], problems: list[Problem]) -> Iterator[Summary]:
    settings = validate_settings(document, problems)
    if settings is None:
        return
    try:
        config = load(settings, kinds)
    except ConfigError as error:
        problems.extend(error.problems)
        return
    targets = [target for entity in config.entities for target in entity.targets]
    checks = [check for target in targets for check in target.checks]
    checks += [check for reference in config.references for check in reference.checks]
    names = [entity.name for entity in config.entities]
    summary = _summary(document.file, "settings", names, len(targets), checks, kinds, settings.limits)
    remarks = [*summary.remarks, *(f"left out: {text}" for text in config.opted_out)]
    if settings.contact is None:
        remarks.append("no contact: whoever sees the probes has nobody to ask; set contact:")
    if settings.probe_endpoint.enabled and settings.blackbox is None:
        remarks.append("probe_endpoint has no modules: set blackbox:, or run with --blackbox")
    if settings.probe_endpoint.enabled and not settings.probe_endpoint.allow:
        remarks.append("probe_endpoint.allow is missing: /probe will refuse every target; name what may be probed")
    yield replace(summary, remarks=tuple(remarks))


def _world(document: Document, kinds: Mapping[str, Kind], problems: list[Problem]) -> Iterator[Summary]:
    world = read_world(document, kinds, problems)
    if world is None:
        return
    targets = [target for entity in world.entities for target in entity.targets]
    checks = [check for _owner, check in world.checks()]
    names = [entity.name for entity in world.entities]
    yield _summary(document.file, "world", names, len(targets), checks, kinds, world.limits)


def _of_references(file: str, references: list[Reference], kinds: Mapping[str, Kind]) -> Summary:
    checks = [check for reference in references for check in reference.checks]
    summary = _summary(file, "references", (), len(references), checks, kinds, Limits())
    networks = len({reference.network for reference in references})
    if networks >= REFERENCE_NETWORKS_WANTED:
        return summary
    remark = f"{networks} distinct networks vouch for the observer; a majority means little with less than three"
    return replace(summary, remarks=(*summary.remarks, remark))


def _summary(
    file: str,
    kind: FileKind,
    entities: Iterable[str],
    targets: int,
    checks: list[Check],
    kinds: Mapping[str, Kind],
    limits: Limits,
) -> Summary:
    """Counts and rates of `checks`, and a remark where the regular rounds alone exceed what the agent may send."""
    of_hosts: defaultdict[str, float] = defaultdict(float)
    for check in checks:
        of_kind = kinds[check.kind]
        of_hosts[of_kind.host(check.options)] += of_kind.packets(check.options) / check.interval_seconds
    rates: defaultdict[str, float] = defaultdict(float)
    for host, rate in of_hosts.items():
        rates[budget_key(host)] += rate
    prefix, busiest = max(rates.items(), key=lambda item: item[1], default=("", 0.0))
    total = sum(rates.values())
    remarks = []
    for rate, limit, whose, key in (
        (total, limits.packets_per_second, "all targets", "packets_per_second"),
        (busiest, limits.per_prefix_per_second, str(prefix), "per_prefix_per_second"),
    ):
        if rate > limit:
            remarks.append(
                f"{rate:.3g} packets a second to {whose} are more than limits.{key} ({limit:g}) lets through: "
                "probes will be late; lengthen intervals"
            )
    return Summary(file, kind, tuple(entities), targets, len(checks), total, str(prefix), busiest, tuple(remarks))
