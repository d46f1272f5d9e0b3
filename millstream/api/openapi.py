"""GET /openapi.json: every route of the service, with the shapes of its answers, made from what answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.api.access import check_access
from millstream.api.answer import json_response
from millstream.api.context import ApiContext
from millstream.api.operation import Operation, Parameter
from millstream.api.orders import OPERATIONS as ORDERS
from millstream.api.reads import OPERATIONS as READS
from millstream.status.shapes import AcceptedShape, HealthShape, ProblemShape, ReadyShape

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}


def routes(context: ApiContext) -> Sequence[BaseRoute]:
    async def openapi(request: Request) -> Response:
        check_access(request, context.project.settings)
        return json_response(document())

    return [Route("/openapi.json", openapi)]


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    shapes = _Shapes()
    paths: dict[str, dict[str, Any]] = {}
    for operation in (*READS, *ORDERS):
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, shapes)
    paths.update(_others(shapes))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Millstream", "version": version("millstream")},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(shapes.found.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


class _Shapes:
    """The schemas of types, each once, under `components`."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def of(self, shape: Any) -> dict[str, Any]:
        schema = TypeAdapter(shape).json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        self.found.update(schema.pop("$defs", {}))
        name = schema.get("title", shape.__name__)
        self.found[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}


def _operation(operation: Operation, shapes: _Shapes) -> dict[str, Any]:
    described = _described(operation.summary, {"application/json": {"schema": shapes.of(operation.shape)}}, shapes)
    described["operationId"] = _operation_id(operation)
    described["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        content = {"application/json": {"schema": shapes.of(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _described(summary: str, content: Mapping[str, Any], shapes: _Shapes) -> dict[str, Any]:
    problem = {"description": "A problem", "content": {"application/problem+json": {"schema": shapes.of(ProblemShape)}}}
    return {"summary": summary, "responses": {"200": {"description": summary, "content": content}, "default": problem}}


def _operation_id(operation: Operation) -> str:
    words = operation.path.replace("{", "").replace("}", "").replace("-", "_").split("/")
    return "_".join([operation.method.lower(), *(word for word in words if word and word != "api")])


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.kind}
    if parameter.kind == "integer":
        schema |= {"minimum": 0, "maximum": parameter.most, "default": parameter.default}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.about,
        "schema": schema,
    }


def _others(shapes: _Shapes) -> dict[str, dict[str, Any]]:
    """The routes that are no operations: webhooks stand in front of the router, and streams and texts are no JSON."""

    def told(shape: Any) -> dict[str, Any]:
        return {"application/json": {"schema": shapes.of(shape)}}

    webhook = _described("Take records; answers when they are durable", told(AcceptedShape), shapes)
    webhook["parameters"] = [_parameter(Parameter("name", "path", "The webhook's name."))]
    record = {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
    bodies = {"application/json": {"schema": record}, "application/x-ndjson": {"schema": {"type": "string"}}}
    webhook["requestBody"] = {"required": True, "content": bodies}
    open_to_all: list[Any] = []
    return {
        "/webhooks/{name}": {"post": {**webhook, "operationId": "post_webhook", "security": open_to_all}},
        "/healthz": {"get": {**_described("The process answers", told(HealthShape), shapes), "security": open_to_all}},
        "/readyz": {
            "get": {**_described("The service does its work", told(ReadyShape), shapes), "security": open_to_all}
        },
        "/metrics": {"get": {**_described("Metrics for Prometheus", _TEXT, shapes), "security": open_to_all}},
        "/openapi.json": {
            "get": _described("This document", {"application/json": {"schema": {"type": "object"}}}, shapes)
        },
        "/api/events": {
            "get": _described("Server-sent events: `node`, `lag` and `log`, as they change", _EVENTS, shapes)
        },
    }


def documented() -> Iterable[tuple[str, str]]:
    """(method, path) of every operation of the document."""
    for path, described in document()["paths"].items():
        for method in described:
            yield method.upper(), path
