"""The JSON schemas: they describe what the agent accepts, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from prober.blackbox.kind import KINDS
from prober.config import SHIPPED, json_schema
from prober.config.parse import parse_document, read_document
from prober.config.schema import SchemaKind

GOLDEN = Path(__file__).parent.parent / "golden" / "config"
FILES = get_args(SchemaKind)
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def fits(value: Any, schema: Any, root: Any) -> bool:
    """Whether `value` is valid, by the keywords of JSON Schema that our schemas use."""
    unknown = set(schema) - {
        *("$ref", "$defs", "$schema", "title", "description", "default", "examples", "format", "type", "enum", "const"),
        *("anyOf", "oneOf", "properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
    assert not unknown, f"keywords that this test does not know: {unknown}"
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in schema and not any(fits(value, option, root) for option in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(value, option, root) for option in schema["oneOf"]) != 1:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema:
        wanted = TYPES[schema["type"]]
        if not isinstance(value, wanted) or (isinstance(value, bool) and schema["type"] != "boolean"):  # type: ignore[arg-type]
            return False
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return False
        return "pattern" not in schema or re.search(schema["pattern"], value) is not None
    if isinstance(value, int | float):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        above, below = schema.get("exclusiveMinimum", value - 1), schema.get("exclusiveMaximum", value + 1)
        return bool(low <= value <= high and above < value < below)
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return False
        places = schema.get("prefixItems", [])
        places = [*places, *[schema.get("items", {})] * (len(value) - len(places))]
        return all(fits(item, place, root) for item, place in zip(value, places, strict=True))
    if isinstance(value, dict):
        return _mapping_fits(value, schema, root)
    return True


def _mapping_fits(value: dict[str, Any], schema: Any, root: Any) -> bool:
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    if not set(schema.get("required", ())) <= value.keys():
        return False
    for key, item in value.items():
        matching = [inner for pattern, inner in patterns.items() if re.search(pattern, key)]
        inner = properties.get(key, matching[0] if matching else schema.get("additionalProperties", True))
        if inner is False or (isinstance(inner, dict) and not fits(item, inner, root)):
            return False
    return True


@pytest.mark.parametrize("file", FILES)
def test_a_schema_is_whole(file: SchemaKind) -> None:
    schema = json_schema(file)
    text = json.dumps(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    used = set(re.findall(r'"#/\$defs/([^"]+)"', text))
    assert used == set(schema["$defs"])
    for name, definition in {"": schema, **schema["$defs"]}.items():
        for key, field in definition.get("properties", {}).items():
            described = field.get("description") or "$ref" in field
            assert described, f"{name}.{key} has no description"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("north-korea.yml", "targets"),
        ("incidents/north-korea-2014.yml", "targets"),
        ("references.yml", "references"),
        *((f"incidents/{path.name}", "world") for path in sorted((SHIPPED / "incidents").glob("2*.yml"))),
    ],
)
def test_the_shipped_files_are_valid(name: str, file: SchemaKind) -> None:
    schema = json_schema(file)
    assert fits(read_document(SHIPPED / name).root, schema, schema)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "vantage: tokyo",
        "vantage: {name: tokyo, index: 0, of: 3}",
        "listen: ':9911'\ntargets: [a.yml]\nreferences: r.yml\nlog: {format: json}\nopt_out: [192.0.2.0/24]",
    ],
)
def test_good_settings_are_valid(text: str) -> None:
    schema = json_schema("settings")
    assert fits(yaml.safe_load(text), schema, schema)


@pytest.mark.parametrize(
    "text",
    [
        "world: W\nstart: 2014-12-19T00:00:00Z\nend: 2014-12-24\ntargets: t.yml",
        "world: W\nstart: 2014-12-19\nend: 2014-12-24\ntargets: [a.yml, b.yml]\nvantages: [{name: a}, b]\n"
        "conditions: [{from: 2014-12-19T00:00:00.5Z, to: 2014-12-20, loss: [0.1, 0.5], match: {site: [a, b]}}]\n"
        "observer: [{at: 2014-12-20, clock_step: -1h, vantage: a}]",
    ],
)
def test_good_worlds_are_valid(text: str) -> None:
    schema = json_schema("world")
    assert fits(parse_document("w.yml", text.encode()).root, schema, schema)


@pytest.mark.parametrize(
    ("fixture", "file"),
    [
        ("unknown-keys", "targets"),
        ("missing-keys", "targets"),
        ("wrong-types", "targets"),
        ("empty-lists", "targets"),
        ("no-checks", "targets"),
        ("names", "targets"),
        ("durations", "targets"),
        ("number-bounds", "targets"),
        ("choices", "targets"),
        ("kinds", "targets"),
        ("keys-in-the-wrong-place", "targets"),
        ("references", "references"),
        ("settings", "settings"),
        ("world/world", "world"),
        ("world-times/world", "world"),
        ("world-whole/world", "world"),
        ("world-whole/untitled", "world"),
    ],
)
def test_bad_files_are_not_valid(fixture: str, file: SchemaKind) -> None:
    schema = json_schema(file)
    assert not fits(read_document(GOLDEN / f"{fixture}.yml").root, schema, schema)


def test_every_kind_is_a_way_to_write_a_check() -> None:
    options = json_schema("targets")["$defs"]["Check"]["oneOf"]
    assert [option["required"] for option in options] == [[name] for name in KINDS]
    assert all({"name", "interval", "timeout"} <= option["properties"].keys() for option in options)
