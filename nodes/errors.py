"""What goes wrong in a project, before any of its code runs.

UsageError (streams.errors)
├── GraphUnreadable      graph.yml is missing or is no YAML: nothing can be known of the project
├── NodeUnknown          a name that no node has: says which is nearest
└── NodeAmbiguous        a short form that several nodes share: lists them
"""

from __future__ import annotations

from collections.abc import Sequence

from streams.errors import UsageError


class GraphUnreadable(UsageError):
    """The file as a whole cannot be read. `line` and `column` count from 1, None where there is no place."""

    code = "graph_unreadable"

    def __init__(
        self, problem: str, *, file: str, line: int | None = None, column: int | None = None, hint: str = ""
    ) -> None:
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        super().__init__(f"{place}: {problem}", hint=hint)
        self.problem = problem
        self.file = file
        self.line = line
        self.column = column


class NodeUnknown(UsageError):
    """No node is called this."""

    code = "node_unknown"


class NodeAmbiguous(UsageError):
    """Several nodes could be meant. `candidates` are names that are not ambiguous."""

    code = "node_ambiguous"

    def __init__(self, name: str, candidates: Sequence[str]) -> None:
        super().__init__(f"{name!r} could mean {', '.join(candidates)}", hint="Give one of these names instead.")
        self.candidates = tuple(candidates)
