"""One route of the API: what it is called with, what it answers, who may call it. The description is made from these.

`answer` is called on a thread, since it asks the store. What it returns is the JSON of the answer; an error of ours
becomes a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from millstream.api.access import check_access
from millstream.api.answer import json_response
from millstream.api.context import ApiContext

BODY_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of the path or the query. `most` bounds a whole number."""

    name: str
    place: Literal["path", "query"]
    about: str
    kind: Literal["string", "integer"] = "string"
    default: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request, its parameters read. `body` is the JSON object that came, {} where none did."""

    context: ApiContext
    values: Mapping[str, Any]
    body: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.values[name])

    def given(self, name: str) -> str | None:
        """A parameter of the query that may be left out."""
        value = self.values.get(name)
        return None if value is None else str(value)

    def number(self, name: str) -> int:
        """A whole number that has a default."""
        return int(self.values[name])


@dataclass(frozen=True, slots=True)
class Operation:
    """`shape` is the type of the answer; `body` that of the request's, None where there is none."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    shape: Any
    answer: Callable[[Call], Any]
    parameters: Sequence[Parameter] = ()
    body: type[Any] | None = None
    problems: Mapping[int, str] = field(default_factory=dict)

    def route(self, context: ApiContext) -> Route:
        """The route, bound to what it works with. Only GET is open to readers."""

        async def endpoint(request: Request) -> Response:
            check_access(request, context.project.settings)
            values = {each.name: _read(each, request) for each in self.parameters}
            body = await _body(request) if self.body is not None else {}
            value = await run_in_threadpool(self.answer, Call(context, values, body))
            return json_response(value)

        path = self.path
        for each in self.parameters:
            if each.place == "path":
                path = path.replace(f"{{{each.name}}}", f"{{{each.name}:path}}")
        return Route(path, endpoint, methods=[self.method])


def _read(parameter: Parameter, request: Request) -> Any:
    if parameter.place == "path":
        return request.path_params[parameter.name]
    given = request.query_params.get(parameter.name)
    if given is None:
        return parameter.default
    if parameter.kind == "string":
        return given
    if not given.isdecimal() or (parameter.most is not None and not 0 <= int(given) <= parameter.most):
        raise HTTPException(400, f"`{parameter.name}` is a whole number from 0 to {parameter.most}, not {given!r}")
    return int(given)


async def _body(request: Request) -> Mapping[str, Any]:
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > BODY_BYTES_MAX:
            raise HTTPException(413, f"the body is longer than {BODY_BYTES_MAX} bytes")
    if not raw.strip():
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is no JSON: {error.msg}") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is no JSON object")
    return body
