"""A table of the keys of one model: what may stand there, unless given, meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from prober.config.settings import SHIPPED
from prober.config.types import NAME_PATTERN
from prober.config.worlds import MOMENT_PATTERN
from prober.duration import DURATION_PATTERN, format_duration
from prober.failures import Failure

ANCHORS: Final = {
    "ProbeEndpoint": "probe_endpoint",
    "CheckEntry": "checks",
    "NetworkEntry": "networks",
    "SiteEntry": "sites",
    "TargetEntry": "targets",
    "ReferenceEntry": "references",
    "TlsOptions": "tls",
    "DnsExpect": "dns-expect",
    "HttpExpect": "http-expect",
    "ConditionEntry": "conditions",
    "ObserverEntry": "observer",
    "VantageEntry": "vantages",
    "Check": "checks",
}
"""Model -> the heading of its table, where it is not its own name in small letters."""

ELSEWHERE: Final = {"Judgement": "settings.md#judgement", "Limits": "settings.md#limits"}
"""Models of settings that other files have too."""

_BOUNDS: Final = (
    ("exclusiveMinimum", "above"),
    ("minimum", "at least"),
    ("exclusiveMaximum", "below"),
    ("maximum", "at most"),
)


def table(model: type[BaseModel], properties: Mapping[str, Any], *, here: bool = True) -> str:
    """The keys of `model` in the order in which they are defined. `properties`: of its JSON schema.

    `here`: tables of other models are in the same document, also those of `ELSEWHERE`.
    """
    hints = get_type_hints(model, include_extras=True)
    lines = ["| key | what may stand there | unless given | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        key = field.alias or name
        if not field.description:
            raise ValueError(f"{model.__name__}.{name} has no description")
        kind = _words(properties[key], _bounds_of_durations(hints[name]), here)
        text = " ".join(field.description.split())
        lines.append("| " + " | ".join(map(_cell, (f"`{key}`", kind, _default(field, kind), text))) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _words(schema: Mapping[str, Any], durations: str, here: bool) -> str:
    """What a JSON schema lets stand there, for people."""
    if "anyOf" in schema:
        parts = [_words(part, durations, here) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        target = f"#{anchor(name)}" if here or name not in ELSEWHERE else ELSEWHERE[name]
        return f"[a mapping]({target})"
    if "enum" in schema:
        if set(schema["enum"]) == {str(word) for word in Failure}:
            return "[a failure](failures.md)"
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "string":
        return _text(schema, durations)
    if kind in ("integer", "number"):
        return f"{kind}{_bounds(schema)}"
    if kind == "array":
        return _list(schema, durations, here)
    if kind == "object":
        named = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
        values = next((value for value in named if isinstance(value, dict)), {})
        inner = _words(values, durations, here)
        return f"mapping of names to {inner.replace('[a mapping]', '[mappings]')}"
    return "true or false" if kind == "boolean" else "anything"


def _text(schema: Mapping[str, Any], durations: str) -> str:
    pattern = schema.get("pattern")
    if pattern == DURATION_PATTERN:
        return f"duration{durations}"
    if pattern == NAME_PATTERN:
        return "name"
    if pattern == MOMENT_PATTERN:
        return "time"
    if pattern == DURATION_PATTERN.replace("^", "^-?", 1):
        return "duration, also negative"
    if pattern == "^[A-Z]{2}$":
        return "country code"
    if "RE2" in schema.get("description", ""):
        return "regular expression (RE2)"
    like = f" like {', '.join(f'`{one}`' for one in schema['examples'])}" if "examples" in schema else ""
    most = f", at most {schema['maxLength']} characters" if "maxLength" in schema else ""
    return f"text{like}{most}"


def _list(schema: Mapping[str, Any], durations: str, here: bool) -> str:
    if "prefixItems" in schema:
        inner = _words(schema["prefixItems"][0], durations, here)
        return f"list of two: {inner}"
    inner = _words(schema.get("items", {}), durations, here)
    least = f", at least {schema['minItems']}" if schema.get("minItems") else ""
    most = f", at most {schema['maxItems']}" if schema.get("maxItems") else ""
    return f"list{least}{most} of: {inner}"


def _bounds(schema: Mapping[str, Any]) -> str:
    return "".join(f", {word} {_number(schema[key])}" for key, word in _BOUNDS if key in schema)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _bounds_of_durations(hint: Any) -> str:
    """The limits of a duration: its JSON schema, which speaks of text, cannot have them."""
    found = []
    for item in _metadata(hint):
        for attribute, word in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most")):
            value = getattr(item, attribute, None)
            if value is not None:
                found.append(f", {word} {format_duration(value)}" if value or attribute != "ge" else "")
    return "".join(found)


def _metadata(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        yield from _metadata(inner)
        for item in metadata:
            yield from item.metadata if isinstance(item, FieldInfo) else (item,)
    else:
        for inner in get_args(hint):
            yield from _metadata(inner)


def _default(field: FieldInfo, kind: str) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "-"
    if isinstance(value, BaseModel):
        return "as there"
    return f"`{_yaml(value, is_duration=kind.startswith('duration'))}`"


def _yaml(value: Any, *, is_duration: bool = False) -> str:
    """A value as it is written in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_duration(value) if is_duration else _number(value)
    if isinstance(value, Path) and value.is_relative_to(SHIPPED):
        return f"targets/{value.relative_to(SHIPPED)}"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, BaseModel):
        return _yaml(value.model_dump(exclude_none=True))
    return str(value) or '""'


def anchor(name: str) -> str:
    """The heading that a model's table stands under, as a link's fragment."""
    return ANCHORS.get(name, name.removesuffix("Options").lower())
