"""The OpenAPI 3.1 document of the API, made of the table of endpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from .endpoints import BY_ROUTE, ENDPOINTS, Endpoint
from .large_answers import JSON
from .parameters import Parameter
from .problems import KINDS, PROBLEM_TYPE, ProblemDetails
from .streams import MEDIA_TYPE as EVENT_STREAM

_REF: Final = "#/components/schemas/{model}"
_PATH: Final = {
    "name": "path",
    "in": "path",
    "required": True,
    "description": "Path of an agent or supervisor; its slashes may be written as they are or as %2F; %2F is the root.",
    "schema": {"type": "string", "minLength": 1},
}
_ALWAYS: Final = ("bad_request", "not_permitted", "internal")
_WITH_BODY: Final = ("too_large", "unsupported_media_type")


@cache
def document() -> bytes:
    """Return the document as JSON."""
    return json.dumps(_document(), separators=(",", ":")).encode()


def _document() -> dict[str, Any]:
    schemas = _Schemas()
    paths = {
        route: {method.lower(): _operation(row, schemas) for method, row in BY_ROUTE[route].items()}
        for route in dict.fromkeys(row.route for row in ENDPOINTS)
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Orchestree control API",
            "version": "1",
            "description": "Look at a running supervision tree and steer it.",
        },
        "servers": [{"url": "/v1"}],
        "paths": paths,
        "components": {"schemas": schemas.found},
    }


class _Schemas:
    """Makes schemas, and keeps what they refer to."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def of(self, kind: Any, mode: str) -> dict[str, Any]:
        schema = TypeAdapter(kind).json_schema(mode=mode, ref_template=_REF)  # type: ignore[arg-type]
        self.found |= schema.pop("$defs", {})
        if "title" in schema and schema.get("type") == "object":
            self.found[schema["title"]] = schema
            return {"$ref": _REF.format(model=schema["title"])}
        return schema


def _operation(row: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(row),
        "summary": row.about,
        "parameters": [*([_PATH] if row.has_path else []), *map(_parameter, row.parameters)],
        "responses": {**_answers(row, schemas), **_refusals(row, schemas)},
        "x-orchestree-command": row.command,
    }
    if row.body is not None:
        schema = schemas.of(row.body, "validation")
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


def _name(row: Endpoint) -> str:
    """Return its command, or its last word if it has none of its own."""
    last = row.route.rpartition("/")[2].removesuffix(".json")
    has_own = [one.command for one in ENDPOINTS].count(row.command) == 1
    return row.command if row.command and has_own else last.replace("{path}", "inspect")


def _parameter(parameter: Parameter) -> Mapping[str, Any]:
    return {"name": parameter.name, "in": "query", "description": parameter.about, "schema": parameter.schema}


def _answers(row: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    answers = {}
    for status, kind in row.answers.items():
        schema = None if kind is None else {"schema": schemas.of(kind, "serialization")}
        content: dict[str, Any] = {} if schema is None else dict.fromkeys(row.texts or (JSON,), schema)
        if row.streams:
            content[EVENT_STREAM] = {}  # there is no schema for such in OpenAPI 3.1
        answers[str(status)] = {"description": _about(row, status), "content": content}
    return answers


def _about(row: Endpoint, status: int) -> str:
    if row.body is not None:
        return "Done, or there was nothing to do." if status == 200 else "Accepted; it goes on."
    return "A stream has the same objects, each as the data of a server-sent event." if row.streams else "The answer."


def _refusals(row: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    codes = (*_ALWAYS, *(_WITH_BODY if row.body else ()), *row.refusals)
    if "conflict" in codes and row.command != "shutdown":
        codes += ("running", "restarting")
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    content = {PROBLEM_TYPE: {"schema": schemas.of(ProblemDetails, "serialization")}}
    return {
        str(status): {"description": "; ".join(f"`{code}`: {KINDS[code].title}" for code in found), "content": content}
        for status, found in sorted(by_status.items())
    }
