"""What pydantic finds wrong, in plain words and with a remedy. The one place that knows pydantic's error types.

An error of a custom type, and the text of a ValueError that a validator raises, are written for people already (what is
wrong; remedy) and are taken as they are.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, to_json
from pydantic_core.core_schema import ErrorType

from prober.config.document import Document, Map, Seq, Value
from prober.config.problems import KeyPath, Problem, listed, quoted
from prober.duration import format_duration, parse_duration

Model = TypeVar("Model", bound=BaseModel)
_WORDS_LISTED_MAX: Final = 20
_WORDS_COMPARED_MAX: Final = 500
_WORD_LENGTH_MAX: Final = 100

Context: TypeAlias = Mapping[str, Any]
Schema: TypeAlias = Mapping[str, Any]


def validate(
    model: type[Model],
    value: Value,
    document: Document,
    at: KeyPath,
    problems: list[Problem],
    *,
    apart: str | None = None,
    directory: Path | None = None,
    context: Mapping[str, Any] | None = None,
    as_json: bool = True,
) -> Model | None:
    """`value`, which stands at `at`, as a `model`, with a problem for each thing that is wrong; None if it is no such.

    Where only keys are unknown, there is a model all the same: who must not go on with it looks at `problems`.

    It goes through JSON, because pydantic's strict mode then means what a file means: a list may become a tuple, a text
    an enum, but no text a number. The items of the list `apart` are only counted: they are validated one by one
    elsewhere. Paths are taken as relative to `directory`. `context` is for the model's validators. Without `as_json`
    the values go to the model as they are: one whose fields read the texts of a file themselves.
    """
    data: object = value
    if isinstance(value, Map):
        data = plain = dict[str, object](value)  # JSON is made of a plain dict in half the time
        if apart is not None and isinstance(items := value.get(apart), Seq):
            plain[apart] = [0] * len(items)
    given = context if directory is None else {**(context or {}), "directory": directory}
    try:
        return _made_of(data, model, given, as_json)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    problems.extend(_problems(model, value, document, at, details))
    if any(detail["type"] != "extra_forbidden" for detail in details):
        return None
    # Only unknown keys: what the known ones say is looked at all the same, so that all mistakes come to light at once.
    for detail in details:
        data = _without(data, detail["loc"])
    try:
        return _made_of(data, model, given, as_json)
    except ValidationError:
        return None


def _made_of(data: object, model: type[Model], context: Context | None, as_json: bool) -> Model:
    if as_json:
        return model.model_validate_json(_json(data), context=context)
    return model.model_validate(data, context=context)


def _json(data: object) -> bytes | str:
    try:
        return to_json(data)  # in a fifth of the time
    except PydanticSerializationError:  # half of a surrogate pair, which JSON has an escape for
        return json.dumps(data)


def _without(data: object, place: Sequence[str | int]) -> object:
    """A copy of `data` that lacks what stands at `place`; the same if nothing does."""
    if not place:
        return data
    key, rest = place[0], place[1:]
    if isinstance(data, Mapping) and key in data:
        inner = {name: value for name, value in data.items() if name != key or rest}
        return {**inner, key: _without(data[key], rest)} if rest else inner
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return [_without(item, rest) if number == key else item for number, item in enumerate(data)]
    return data


def _problems(
    model: type[BaseModel], value: Value, document: Document, at: KeyPath, details: list[ErrorDetails]
) -> Iterator[Problem]:
    """One problem per place: of what the members of a union say, the first that is not about the type counts."""
    places: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in details:
        places.setdefault(_place(value, detail), []).append(detail)
    above = {place[:depth] for place in places for depth in range(len(place))}
    misspelt: set[KeyPath] = set()  # the keys that unknown ones resemble: these are not missing as well
    for place, found in places.items():
        if found[0]["type"] == "extra_forbidden":
            known = known_keys(model, place[:-1])
            misspelt.update((*place[:-1], key) for key in close_to(str(place[-1]), known))
            message = f"unknown key; {suggestion(str(place[-1]), known)}"
            yield document.problem(at + place, "extra_forbidden", message)
    for place, found in places.items():
        detail = next((d for d in found if d["type"] not in _WRONG_TYPE), found[0])
        code = detail["type"]
        if code == "extra_forbidden" or (code == "missing" and place in misspelt):
            continue
        if code in _WRONG_TYPE and place in above:
            continue  # another member of the union took it, and has found what is wrong inside
        if code == "missing":
            message = f'missing; add "{place[-1]}:"'
        elif code in _WRONG_TYPE:
            wanted = dict.fromkeys(_WRONG_TYPE[d["type"]] for d in found)
            message = _wrong_type(listed(wanted), _at(value, place))
        else:
            message = message_of(detail, _at(value, place))
        yield document.problem(at + place, code, message)


def _place(value: Value, detail: ErrorDetails) -> KeyPath:
    """Where in `value` an error is. pydantic's path also names members of unions and functions; they are left out."""
    place: list[str | int] = []
    parts = detail["loc"]
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if isinstance(value, Map):
            if part in value:
                place.append(part)
                value = value[str(part)]
            elif last and detail["type"] == "missing":
                place.append(part)
        elif isinstance(value, Seq) and isinstance(part, int) and part < len(value):
            place.append(part)
            value = value[part]
    return tuple(place)


def _at(value: Value, place: KeyPath) -> Value:
    for part in place:
        if isinstance(value, Map):
            value = value.get(str(part))
        elif isinstance(value, Seq) and isinstance(part, int):
            value = value[part]
    return value


def message_of(detail: ErrorDetails, value: Value) -> str:
    """The message for one pydantic error about `value`, which is what the file holds there."""
    code = detail["type"]
    context: Context = detail.get("ctx", {})
    if code in MESSAGES:
        return MESSAGES[code](context, value)
    if code in get_args(ErrorType):
        return f"not accepted here ({code.replace('_', ' ')}); see the schema that prober prints"
    return detail["msg"]  # a custom type's own text


_WRONG_TYPE: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def _wrong_type(wanted: str, value: Value) -> str:
    """`value` is of another type than `wanted`."""
    if value is None:
        return f"has no value and must be {wanted}; write the value, or remove the key"
    remedy = "write a value of that type"
    if wanted == "text" and isinstance(value, bool | int | float):
        remedy = f'put it in quotes: "{_as_written(value)}"'
    elif wanted == "true or false":
        remedy = "write one of these without quotes"
    elif wanted == "a list":
        remedy = 'write "- " before each item' if isinstance(value, Map) else f"put it in brackets: [{_short(value)}]"
    elif wanted == "a mapping":
        remedy = "write {key: value}"
    elif wanted in ("a number", "a whole number") and isinstance(value, str):
        remedy = "write digits without quotes"
    elif isinstance(value, Map | Seq):
        remedy = "write one value"
    return f"must be {wanted}, not {_type_of(value)}; {remedy}"


def _type_of(value: Value) -> str:
    if isinstance(value, bool):
        return _as_written(value)
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, Map):
        return "a mapping"
    return "a list" if isinstance(value, Seq) else "text"


def _as_written(value: bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(value: Value) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def _bound(context: Context, name: str, value: Value) -> str:
    """A bound as the value is written: a duration's bound as a duration."""
    bound = float(context[name])
    if isinstance(value, str):
        try:
            parse_duration(value)
        except ValueError:
            pass
        else:
            return format_duration(bound)
    return f"{bound:g}" if abs(bound) < 1e6 else f"{bound:.0f}"


def _choice(context: Context, value: Value) -> str:
    words = str(context["expected"]).replace("'", '"')
    return f"must be {words}; write one of these"


def _words(context: Context) -> list[str]:
    return re.findall("'([^']+)'", str(context["expected"]))


def _size(context: Context, name: str) -> int:
    return int(context[name])


MESSAGES: Final[Mapping[str, Callable[[Context, Value], str]]] = {
    "literal_error": _choice,
    "enum": lambda c, v: f"{quoted(v)} is no such word; {suggestion(str(v), _words(c))}",
    "greater_than": lambda c, v: f"must be more than {_bound(c, 'gt', v)}; write a larger value",
    "greater_than_equal": lambda c, v: f"must be at least {_bound(c, 'ge', v)}; write a larger value",
    "less_than": lambda c, v: f"must be less than {_bound(c, 'lt', v)}; write a smaller value",
    "less_than_equal": lambda c, v: f"must be at most {_bound(c, 'le', v)}; write a smaller value",
    "string_too_short": lambda c, _v: f"must have at least {_count(_size(c, 'min_length'), 'character')}; write more",
    "string_too_long": lambda c, _v: f"must have at most {_count(_size(c, 'max_length'), 'character')}; shorten it",
    "too_short": lambda c, _v: f"must have at least {_count(_size(c, 'min_length'), 'item')}; add one",
    "too_long": lambda c, _v: f"must have at most {_count(_size(c, 'max_length'), 'item')}; remove some",
    "value_error": lambda c, _v: str(c["error"]),
}
"""What each of pydantic's error types means to the author of a file."""

PYDANTIC_CODES: Final = frozenset({"missing", "extra_forbidden", *MESSAGES, *_WRONG_TYPE})
"""The error types of pydantic that have words of their own."""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def suggestion(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the known one that it resembles, or all of them."""
    words = sorted(known)
    for close in close_to(word, words):
        return f"did you mean {quoted(close)}?"
    if len(words) > _WORDS_LISTED_MAX:
        words = [*words[:_WORDS_LISTED_MAX], "..."]
    return f"known here: {', '.join(words)}" if words else "remove it"


def close_to(word: str, known: Iterable[str]) -> list[str]:
    """The one of `known` that `word` resembles, if there is one."""
    words = sorted(known)
    if len(words) > _WORDS_COMPARED_MAX:
        return []  # a comparison takes some ten microseconds, and every target may have a wrong name
    return difflib.get_close_matches(word[:_WORD_LENGTH_MAX].lower(), words, n=1, cutoff=0.7)


def known_keys(model: type[BaseModel], path: KeyPath) -> set[str]:
    """The keys that the mapping at `path` inside a `model` may have, by the model's JSON schema."""
    root = _schema(model)
    found = [root]
    for part in path:
        found = [inner for schema in found for inner in _inside(schema, part, root)]
    return {str(key) for schema in found for option in _options(schema, root) for key in option.get("properties", ())}


@cache
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _options(schema: Schema, root: Schema) -> Iterator[Schema]:
    """The schema itself, or the ones that it refers to or offers."""
    if "$ref" in schema:
        yield from _options(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _options(option, root)
    yield schema


def _inside(schema: Schema, part: str | int, root: Schema) -> Iterator[Schema]:
    """The schemas of the item `part`."""
    for option in _options(schema, root):
        if isinstance(part, int):
            inner = option.get("items")
        else:
            inner = option.get("properties", {}).get(part, option.get("additionalProperties"))
            yield from option.get("patternProperties", {}).values()  # a mapping with keys of one form: any will do
        if isinstance(inner, Mapping):
            yield inner
