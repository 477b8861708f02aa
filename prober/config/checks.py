"""Checks out of a file: which kind, which options, how often, how long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from prober.config.document import Document, Map, Seq, Value
from prober.config.files import CheckEntry, Defaults
from prober.config.messages import Context, known_keys, suggestion, validate
from prober.config.parse import parse_document
from prober.config.problems import Code, ConfigError, KeyPath, Problem, listed, quoted
from prober.contract import Kind
from prober.duration import format_duration
from prober.model import Check

COMMON_KEYS: Final = tuple(CheckEntry.model_fields)
"""What stands beside the kind, whatever the kind."""

_NOTHING_BESIDE: Final = CheckEntry()  # most checks: a hundred thousand need not make one each


class Timing(NamedTuple):
    """Interval and timeout, in seconds, and where they were given; an empty path means the built-in default."""

    interval_seconds: float
    timeout_seconds: float
    interval_at: KeyPath = ()
    timeout_at: KeyPath = ()

    def refined(self, interval: float | None, timeout: float | None, at: KeyPath) -> Timing:
        """The same, with what is given more closely at `at`."""
        timing = self
        if interval is not None:
            timing = timing._replace(interval_seconds=interval, interval_at=(*at, "interval"))
        if timeout is not None:
            timing = timing._replace(timeout_seconds=timeout, timeout_at=(*at, "timeout"))
        return timing


def timing_of_file(defaults: Defaults) -> Timing:
    """What a file's `defaults` say."""
    given = defaults.model_fields_set
    return Timing(
        defaults.interval,
        defaults.timeout,
        ("defaults", "interval") if "interval" in given else (),
        ("defaults", "timeout") if "timeout" in given else (),
    )


class CheckReader:
    """Turns the `checks` of targets and references into checks, and collects what is wrong with them."""

    def __init__(self, kinds: Mapping[str, Kind], problems: list[Problem], context: Context | None = None) -> None:
        """`context` is for the validators of the kinds' options."""
        self._kinds = kinds
        self._problems = problems
        self._context = context

    def read(self, owner: str, value: Value, document: Document, at: KeyPath, timing: Timing) -> tuple[Check, ...]:
        """The checks of the target or reference `owner`, whose mapping `value` stands at `at`."""
        items = value.get("checks") if isinstance(value, Map) else None
        if not isinstance(items, Seq):
            return ()  # the owner's own validation has said so
        names: dict[str, KeyPath] = {}
        checks = []
        for position, item in enumerate(items):
            place = (*at, "checks", position)
            check = self._check(owner, item, document, place, timing)
            if check is None:
                continue
            if check.name in names:
                line = document.line(names[check.name])
                message = f'line {line} has a check named {quoted(check.name)} too; give one of them another "name:"'
                self._problems.append(document.problem(place, Code.DUPLICATE_CHECK, message))
            names.setdefault(check.name, place)
            checks.append(check)
        return tuple(checks)

    def _check(self, owner: str, item: Value, document: Document, at: KeyPath, timing: Timing) -> Check | None:
        if not isinstance(item, Map):
            validate(CheckEntry, item, document, at, self._problems)
            return None
        kind = self._kind(item, document, at)
        entry: CheckEntry | None = _NOTHING_BESIDE
        if len(item) > 1:
            common = Map(item.line)
            common.update((key, item[key]) for key in COMMON_KEYS if key in item)
            entry = validate(CheckEntry, common, document, at, self._problems)
        options = self._options(kind, item, document, at) if kind is not None else None
        if kind is None or entry is None or options is None:
            return None
        timing = timing.refined(entry.interval, entry.timeout, at)
        if timing.timeout_seconds > timing.interval_seconds:
            self._problems.append(_timing_problem(timing, document))
        least = kind.least_timeout(options) if kind.least_timeout is not None else 0.0
        if least > timing.timeout_seconds:
            needed, given = format_duration(least), format_duration(timing.timeout_seconds)
            message = f"needs {needed} with these options, and the timeout is {given}; lengthen the timeout or ask less"
            self._problems.append(document.problem((*at, kind.name), Code.TIMEOUT_TOO_SHORT, message))
        return Check(
            target=owner,
            name=entry.name or kind.name,
            kind=kind.name,
            interval_seconds=timing.interval_seconds,
            timeout_seconds=timing.timeout_seconds,
            options=options,
            prober=kind.prober(options),
        )

    def _kind(self, item: Map, document: Document, at: KeyPath) -> Kind | None:
        """The one kind that the check names."""
        if len(item) == 1 and (only := self._kinds.get(next(iter(item)))) is not None:
            return only
        named = [key for key in item if key in self._kinds]
        others = [key for key in item if key not in self._kinds and key not in COMMON_KEYS]
        if len(named) > 1:
            message = f"a check is of one kind, and this one names {listed(named, 'and')}; make each a list item"
            self._problems.append(document.problem(at, Code.CHECK_OF_TWO_KINDS, message))
            return None
        kind = self._kinds[named[0]] if named else None
        for key in others:
            if kind is not None and key in known_keys(kind.options, ()):
                message = f'an option of {kind.name}; move it into the mapping under "{kind.name}:"'
                code = Code.OPTION_BESIDE_KIND
            else:
                known = COMMON_KEYS if kind is not None else (*self._kinds, *COMMON_KEYS)
                message = f"unknown key; {suggestion(key, known)}"
                code = Code.CHECK_UNKNOWN_KEY
            self._problems.append(document.problem((*at, key), code, message))
        if kind is None and not others:
            message = f"no kind of probe; add one of {', '.join(self._kinds)}"
            self._problems.append(document.problem(at, Code.CHECK_WITHOUT_KIND, message))
        return kind

    def _options(self, kind: Kind, item: Map, document: Document, at: KeyPath) -> object | None:
        place = (*at, kind.name)
        value = item[kind.name]
        fields = kind.options.model_fields
        if value is None:
            if known_keys(kind.options, ()) & item.keys():
                return None  # the options stand beside the kind, which has been said
            value = Map(document.line(place))
        if isinstance(value, Map) and (misplaced := [key for key in COMMON_KEYS if key in value and key not in fields]):
            for key in misplaced:
                message = f'belongs beside "{kind.name}:", not inside it; move it out'
                self._problems.append(document.problem((*place, key), Code.COMMON_KEY_INSIDE_KIND, message))
            rest = Map(value.line)
            rest.update((key, inner) for key, inner in value.items() if key not in misplaced)
            value = rest
        return validate(kind.options, value, document, place, self._problems, context=self._context)


def _timing_problem(timing: Timing, document: Document) -> Problem:
    """The timeout is longer than the interval."""
    # Said once, at the closest place that has a say: defaults that disagree are not each check's mistake.
    at = max(timing.timeout_at, timing.interval_at, key=len)
    timeout, interval = format_duration(timing.timeout_seconds), format_duration(timing.interval_seconds)
    message = f"the timeout {timeout} is longer than the interval {interval}; shorten it or lengthen the interval"
    return document.problem(at, Code.TIMEOUT_OVER_INTERVAL, message)


def options_of(kind: Kind, options: Mapping[str, object], source: str) -> object:
    """Options of `kind` that come from elsewhere than a file, for instance from a URL on a command line.

    Raises ConfigError, whose lines name `source` in place of a file.
    """
    text = json.dumps({kind.name: options}, ensure_ascii=False).encode("utf-8", "replace")  # JSON is YAML
    document = parse_document(source, text)
    problems: list[Problem] = []
    made = validate(kind.options, document.root[kind.name], document, (kind.name,), problems)
    if problems:
        raise ConfigError(replace(problem, line=0, key=problem.key.partition(".")[2]) for problem in problems)
    return made
