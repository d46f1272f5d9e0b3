"""What the API is told to do: the operations that change something."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, NotRequired

import orjson
import structlog
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

from millstream.api.operation import Call, Operation, Parameter
from millstream.api.reads import NODE, node_of
from millstream.project import Project
from millstream.status.shapes import OrderShape, RewoundShape, SettledShape
from millstream.worker.letters import letter_of, settle
from millstream.worker.node_orders import request_runs, start_nodes, stop_nodes
from streams.model.dead_letter import DeadLetterState

STDERR_CHARS = 4_000  # the end of a traceback, in one line of the log
REWIND_KEYS = frozenset({"to", "topic", "partition", "no_swap", "drop_older"})


_logger = structlog.get_logger(__name__)


class RewindBody(TypedDict):
    """As the options of `millstream rewind`."""

    to: str
    topic: NotRequired[str]
    partition: NotRequired[int]
    no_swap: NotRequired[bool]
    drop_older: NotRequired[bool]


def _trigger(call: Call) -> OrderShape:
    node = node_of(call)
    if node.errors:
        raise HTTPException(409, f"{node.node_id} has an error: {node.errors[0]}")
    return request_runs(call.context.store, [node])[0]


def _stop(call: Call) -> OrderShape:
    return stop_nodes(call.context.store, [node_of(call)])[0]


def _start(call: Call) -> OrderShape:
    return start_nodes(call.context.store, [node_of(call)])[0]


def _retry(call: Call) -> SettledShape:
    with call.context.store.read() as tx:
        letter = letter_of(tx, call.text("letter"))
    settled = settle(call.context.store, [letter], DeadLetterState.RETRYING)
    if not settled:
        raise HTTPException(409, f"the dead letter is {letter.state} already")
    return {"letters": settled, "state": "retrying"}


def _rewind(call: Call) -> RewoundShape:
    """By the command, in a process of its own: the node's code does not run in the service's. With -P, since a node
    file of the folder it starts in may be called as a module of the library."""
    node_id, project = node_of(call).node_id, call.context.project
    words = [sys.executable, "-P", "-m", "millstream", "rewind", node_id, *_options(call.body), "--json"]
    words += ["--project", str(project.directory)]
    done = subprocess.run(
        words, env=_environment(project), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        rewound: RewoundShape = orjson.loads(done.stdout)
        return rewound
    message = _message(done.stderr)
    if message is None:
        _logger.error("a rewind failed", node=node_id, exit_code=done.returncode, stderr=done.stderr[-STDERR_CHARS:])
        message = "the rewind failed, and the service's log says how; the live table is as it was"
    raise HTTPException(400 if done.returncode == 2 else 409, message)


def _options(body: Any) -> list[str]:
    unknown = sorted(set(body) - REWIND_KEYS)
    if unknown:
        raise HTTPException(400, f"`{unknown[0]}` is unknown here: give {', '.join(sorted(REWIND_KEYS))}")
    if not isinstance(body.get("to"), str):
        raise HTTPException(400, '`to` is needed: "earliest", an offset, or a time')
    words = [f"--to={body['to']}"]
    if body.get("topic") is not None:
        words.append(f"--topic={body['topic']}")
    if body.get("partition") is not None:
        if type(body["partition"]) is not int:
            raise HTTPException(400, "`partition` is a whole number")
        words.append(f"--partition={body['partition']}")
    for name in ("no_swap", "drop_older"):
        if type(body.get(name, False)) is not bool:
            raise HTTPException(400, f"`{name}` is true or false")
        if body.get(name):
            words.append(f"--{name.replace('_', '-')}")
    return words


def _environment(project: Project) -> dict[str, str]:
    """The service's own, with the settings that its flags may have set; a URL with a password is no argument."""
    given = {**os.environ, **project.environment, "MILLSTREAM_STORE": project.settings.store}
    if project.settings.schema is not None:
        given["MILLSTREAM_SCHEMA"] = project.settings.schema
    return given


def _message(errors: str) -> str | None:
    """Of the error that the command told, if it told one."""
    for line in reversed(errors.splitlines()):
        try:
            return str(orjson.loads(line)["error"]["message"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return None


OPERATIONS: tuple[Operation, ...] = (
    Operation("POST", "/api/nodes/{node}/trigger", "Ask for a run of a node", OrderShape, _trigger, (NODE,)),
    Operation("POST", "/api/nodes/{node}/stop", "Stop a node at its next checkpoint", OrderShape, _stop, (NODE,)),
    Operation("POST", "/api/nodes/{node}/start", "Let a stopped node run again", OrderShape, _start, (NODE,)),
    Operation(
        "POST",
        "/api/nodes/{node}/rewind",
        "Rebuild a node's table beside the live one; answers when it is swapped in",
        RewoundShape,
        _rewind,
        (NODE,),
        RewindBody,
    ),
    Operation(
        "POST",
        "/api/dead-letters/{letter}/retry",
        "Hand a dead letter back to its node",
        SettledShape,
        _retry,
        (Parameter("letter", "path", "Its id."),),
    ),
)
