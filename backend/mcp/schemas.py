"""The arguments and results of tools as JSON Schema, taken from the OpenAPI schema so that both promise the same."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from backend.mcp.tools import Tool
from pause_manager.api.http.idempotency import HEADER

Schema = dict[str, Any]

KEY = "idempotencyKey"
"""The argument that stands for the header ``Idempotency-Key``."""
_COMPONENTS, _DEFINITIONS = "#/components/schemas/", "#/$defs/"


@dataclass(frozen=True)
class Operation:
    """A REST operation: its method, its path with ``{names}``, and where each argument belongs."""

    method: str
    path: str
    places: dict[str, str]
    """Argument → ``path``, ``query``, ``header`` or ``body``."""
    takes: Schema
    gives: Schema


@lru_cache(maxsize=1)
def _document() -> Schema:
    found: Schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


@cache
def operation_of(name: str) -> Operation:
    """Return the operation with this id. Raises ``KeyError``."""
    for path, methods in _document()["paths"].items():
        for method, described in methods.items():
            if described["operationId"] == name:
                return _operation(method, path, described)
    raise KeyError(name)


def _operation(method: str, path: str, described: Schema) -> Operation:
    places, properties, required = {}, {}, []
    for one in described.get("parameters", ()):
        name, place = one["name"], one["in"]
        if place == "header":
            if name != HEADER:
                continue
            name = KEY
        places[name] = place
        properties[name] = {**one["schema"], "description": one.get("description", "")}
        required += [name] if one.get("required") else []
    body = _resolved(_json(described.get("requestBody", {})))
    for name, schema in body.get("properties", {}).items():
        places[name] = "body"
        properties[name] = schema
    required += body.get("required", [])
    takes = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Operation(method.upper(), path, places, takes, _resolved(_json(described["responses"]["200"])))


def _json(described: Schema) -> Schema:
    found: Schema = described.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _resolved(schema: Schema) -> Schema:
    """Return the schema that ``schema`` refers to, or ``schema`` itself."""
    if "$ref" not in schema:
        return schema
    found: Schema = _document()["components"]["schemas"][schema["$ref"].removeprefix(_COMPONENTS)]
    return found


def takes(tool: Tool) -> Schema:
    """Return the schema of the arguments of ``tool``."""
    schema = deepcopy(operation_of(tool.operation).takes)
    for name in (*tool.fixed, *tool.hidden):
        schema["properties"].pop(name)
    required = {*schema["required"], *tool.required} - {*tool.fixed}
    if tool.needs_reason:
        schema["properties"]["reason"] |= {"minLength": 1}
        schema["properties"]["reason"].pop("default", None)
        required.add("reason")
    schema["required"] = sorted(required)
    return _self_contained(schema)


def gives(tool: Tool) -> Schema:
    """Return the schema of the result of ``tool``."""
    operation = operation_of(tool.operation)
    schema = deepcopy(operation.gives)
    if "cursor" in operation.places:
        schema["properties"]["next"] = {"type": ["string", "null"], "description": "The `cursor` of the next page."}
    return _self_contained(schema)


def _self_contained(schema: Schema) -> Schema:
    """Return ``schema`` with all definitions that it refers to, directly or not."""
    definitions: Schema = {}
    own = _moved(schema, definitions)
    return {**own, "$defs": definitions} if definitions else own


def _moved(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_moved(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    found = {key: _moved(value, definitions) for key, value in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix(_COMPONENTS)
        found["$ref"] = _DEFINITIONS + name
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _moved(_document()["components"]["schemas"][name], definitions)
    return found
