"""JSON schemas (draft 2020-12) of our files, for editors that complete and check YAML while it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from prober.blackbox.kind import KINDS
from prober.config.files import CheckEntry, ReferenceEntry, ReferencesFile, TargetEntry, TargetsFile
from prober.config.settings import Settings
from prober.config.worlds import ConditionEntry, ObserverEntry, WorldFile
from prober.contract import Kind

SchemaKind: TypeAlias = Literal["settings", "targets", "references", "world"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ROOTS: Final[Mapping[str, type[BaseModel]]] = {
    "settings": Settings,
    "targets": TargetsFile,
    "references": ReferencesFile,
    "world": WorldFile,
}


def json_schema(file: SchemaKind, kinds: Mapping[str, Kind] = KINDS) -> dict[str, Any]:
    """The schema of one kind of file, as a new dict that `json.dumps` takes."""
    root = _ROOTS[file]
    models: list[type[BaseModel]] = [root]
    if file == "world":
        models += [ConditionEntry, ObserverEntry]
    elif file != "settings":
        models += [TargetEntry, ReferenceEntry, CheckEntry, *(kind.options for kind in kinds.values())]
    references, definitions = models_json_schema([(model, "validation") for model in models])
    schemas: dict[str, Any] = definitions["$defs"]
    names = {model: reference["$ref"].rpartition("/")[2] for (model, _mode), reference in references.items()}
    if file == "world":
        for key, row in (("conditions", ConditionEntry), ("observer", ObserverEntry)):
            schemas[names[root]]["properties"][key]["items"] = {"$ref": f"#/$defs/{names[row]}"}
    elif file != "settings":
        # What `Document`s are validated item by item for, `files.py` leaves open; here it is filled in.
        common = schemas.pop(names[CheckEntry])["properties"]
        schemas["Check"] = {
            "description": "One kind of probe with its options, and beside it what all kinds have.",
            "oneOf": [_check(kind, names[kind.options], common) for kind in kinds.values()],
        }
        item = TargetEntry if file == "targets" else ReferenceEntry
        for model in (TargetEntry, ReferenceEntry):
            schemas[names[model]]["properties"]["checks"]["items"] = {"$ref": "#/$defs/Check"}
        schemas[names[root]]["properties"][file]["items"] = {"$ref": f"#/$defs/{names[item]}"}
    top = schemas.pop(names[root])
    used = _used(top, schemas)
    kept = {name: schema for name, schema in schemas.items() if name in used}
    return {"$schema": _DIALECT, **top, "title": f"prober {file}", "$defs": kept}


def _used(schema: Any, schemas: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names of all definitions that `schema` refers to, directly or not."""
    if isinstance(schema, dict):
        name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        if name and name not in seen:
            seen = _used(schemas[name], schemas, seen | {name})
        schema = list(schema.values())
    for inner in schema if isinstance(schema, list) else ():
        seen = _used(inner, schemas, seen)
    return seen


def _check(kind: Kind, options: str, common: Mapping[str, Any]) -> dict[str, Any]:
    """A check of one kind."""
    return {
        "type": "object",
        "properties": {kind.name: {"$ref": f"#/$defs/{options}"}, **common},
        "required": [kind.name],
        "additionalProperties": False,
    }
