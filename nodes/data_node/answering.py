"""`python -P -m nodes.data_node.answering`: asks the classes of a project's DataNodes what they read and write.

A process of its own, so that the project's code runs neither in a service nor in a command. It reads one JSON object
from stdin, `{"project", "tables", "identifiers", "questions": [{"module", "class_name", "config"}]}`, and writes one
array of answers to stdout; what the code prints goes to stderr. `identifiers` are those that other DataNodes of the
graph publish, with their tables.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from nodes.data_node.api_data_node import expecting
from nodes.data_node.entry import build_node, importing_from
from streams.errors import MillstreamError


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """What one node says of itself, or what is wrong with it."""
    try:
        node = build_node(question["module"], question["class_name"], question["config"])
        reads = {name: each.storage_hash for name, each in node.inputs().items()}
    except MillstreamError as error:
        return {"error": f"{error.message}; {error.hint}" if error.hint else error.message}
    except Exception as error:  # noqa: BLE001 - the project's own code: its failure is this node's
        return {"error": f"{type(error).__name__}: {error}"}
    if node.storage_hash in reads.values():
        return {"error": f"{node.update_hash} reads its own table: break the circle in dependencies()"}
    return {
        "update_hash": node.update_hash,
        "storage_hash": node.storage_hash,
        "identifier": node.identifier,
        "reads": reads,
    }


def answer_all(
    questions: Sequence[Mapping[str, Any]], tables: Sequence[str], identifiers: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What each says. One that could not be built is asked again when another has said under which identifier it will
    publish its table."""
    known, found = dict(identifiers), [{"error": ""} for _ in questions]
    while True:
        with expecting(tables, known):
            found = [answer(asked) if "error" in said else said for asked, said in zip(questions, found, strict=True)]
        published = {each["identifier"]: each["storage_hash"] for each in found if each.get("identifier")}
        if published.keys() <= known.keys():
            return found
        known |= published


def main() -> None:
    """One request, one answer."""
    asked = json.load(sys.stdin.buffer)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    project = Path(asked["project"])
    os.chdir(project)
    with importing_from(project):
        answers = answer_all(asked["questions"], asked["tables"], asked["identifiers"])
    out.write(orjson.dumps(answers))
    out.close()


if __name__ == "__main__":
    main()
