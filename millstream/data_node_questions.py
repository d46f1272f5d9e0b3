"""Asking DataNodes of graph.yml what they read and write: in a process of its own, and once for each state of the code.

Answers are kept in `.millstream/data_nodes.json` under a hash of what they follow from; errors are asked again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from nodes.graph.data_nodes import Answer, Question

ASK_S = 60.0
KEPT = Path(".millstream") / "data_nodes.json"
SECRET_PREFIX = "MILLSTREAM_SECRET_"


class Questions:
    """The port `nodes.graph.data_nodes.Ask` of one project. The code sees the environment without its secrets."""

    def __init__(self, project_dir: Path, environment: Mapping[str, str]) -> None:
        self._project_dir = project_dir
        self._environment = {k: v for k, v in environment.items() if not k.startswith(SECRET_PREFIX)}

    def __call__(self, questions: Sequence[Question], tables: frozenset[str]) -> list[Answer]:
        kept = self._read()
        keys = [_key(question) for question in questions]
        open_keys = [place for place, key in enumerate(keys) if key not in kept]
        if open_keys:
            published = {kept[key].identifier: kept[key].storage_hash for key in keys if key in kept}
            found = self._ask([questions[place] for place in open_keys], tables, published)
            fresh = {keys[place]: answer for place, answer in zip(open_keys, found, strict=True)}
            kept = {key: kept[key] for key in keys if key in kept} | fresh
            self._keep({key: answer for key, answer in kept.items() if answer.error is None})
        return [kept[key] for key in keys]

    def _ask(
        self, questions: Sequence[Question], tables: frozenset[str], published: Mapping[str | None, str]
    ) -> list[Answer]:
        request = {
            "project": str(self._project_dir.resolve()),
            "tables": sorted(tables),
            "identifiers": {name: table for name, table in published.items() if name is not None},
            "questions": [asdict(question) for question in questions],
        }
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "nodes.data_node.answering"],
                input=_json(request),
                capture_output=True,
                check=False,
                timeout=ASK_S,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            return [Answer(error=f"it did not say what it reads and writes within {ASK_S:g} s")] * len(questions)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            return [Answer(error=f"its module ends the process: {said[-1] if said else 'without a word'}")] * len(
                questions
            )
        return [Answer(**each) for each in orjson.loads(done.stdout)]

    def _read(self) -> dict[str, Answer]:
        try:
            held: Any = orjson.loads((self._project_dir / KEPT).read_bytes())
            return {key: Answer(**each) for key, each in held.items()}
        except (OSError, ValueError, TypeError):
            return {}  # absent, cut short, or of another version: asked again

    def _keep(self, answers: Mapping[str, Answer]) -> None:
        path = self._project_dir / KEPT
        with suppress(OSError):  # a project that cannot be written to is asked each time
            path.parent.mkdir(exist_ok=True)
            unfinished = path.with_suffix(".new")
            unfinished.write_bytes(orjson.dumps({key: asdict(answer) for key, answer in answers.items()}))
            unfinished.replace(path)


def forget_answers(project_dir: Path) -> None:
    """After something was changed that answers follow from beside the code, such as where an identifier points."""
    (project_dir / KEPT).unlink(missing_ok=True)


def _key(question: Question) -> str:
    return hashlib.sha256(_json(asdict(question))).hexdigest()


def _json(value: object) -> bytes:
    """With whole numbers of any size, infinities, and bytes as a configuration reads them."""
    return json.dumps(value, sort_keys=True, default=_text).encode()


def _text(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
