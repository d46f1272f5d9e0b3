"""Every error that Millstream raises, split by what the caller does with it.

MillstreamError
├── TransientError           retry with backoff: the same call may succeed later
│   ├── StoreUnavailable     the database is away, busy, or full
│   │   └── StoreFull        there is no room for it
│   ├── CommitUnknown        the connection was lost inside COMMIT: read back what is stored
│   └── LogFull              a bounded buffer or the disk is full: answer 503, pause
├── DataError                set the record aside as a dead letter
│   ├── RowRejected          a row that cannot be stored: names the field
│   └── RecordRejected       a record that the user's code or its type annotation refuses
└── StopError                stop the agent, the node, or the process; a person decides
    ├── Fenced               another worker owns this now: drop the batch, never retry it
    ├── StoreRefused         not our file, made by a newer version, another project's: left untouched
    ├── StoreBroken          a failed fsync, a replaced file, a panic: the process ends
    ├── PositionInvalid      the log was restored, recreated or trimmed under a position
    │   └── PositionLost     retention passed it: what comes next is gone
    ├── NodeFailed           a node's run failed as often as its policy allows
    ├── LeaseHeld            somebody else runs this: names pid and command
    └── UsageError           a wrong name, mode, setting or argument: says what to do
"""

from __future__ import annotations


class MillstreamError(Exception):
    """Root of the tree. `code` is stable for programs; `hint` says what to do next."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TransientError(MillstreamError):
    """The same call may succeed later."""

    code = "transient"


class StoreUnavailable(TransientError):
    """The database could not be reached, was busy past its time limit, or has no room."""

    code = "store_unavailable"


class StoreFull(StoreUnavailable):
    """The disk or the database has no room. Nothing was changed."""

    code = "store_full"


class CommitUnknown(TransientError):
    """The connection was lost while COMMIT was under way: it may or may not have happened."""

    code = "commit_unknown"


class LogFull(TransientError):
    """No room to append. Nothing of the request was written."""

    code = "log_full"


class DataError(MillstreamError):
    """This record or row is at fault; others are not."""

    code = "data"


class RowRejected(DataError):
    """A row that cannot be stored. `field` is the user's name of the field at fault, or None."""

    code = "row_rejected"

    def __init__(self, problem: str, *, field: str | None = None, hint: str = "") -> None:
        super().__init__(f"field {field!r}: {problem}" if field is not None else problem, hint=hint)
        self.field = field
        self.problem = problem


class RecordRejected(DataError):
    """A record that a node's code or type annotation refuses. `field` is the one at fault, or None."""

    code = "record_rejected"

    def __init__(self, message: str, *, field: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field


class StopError(MillstreamError):
    """Nothing here may go on by itself."""

    code = "stopped"


class Fenced(StopError):
    """Another worker has taken over. The batch in hand is dropped and must not be retried."""

    code = "fenced"


class StoreRefused(StopError):
    """The database is not ours to write; it was left as it was."""

    code = "store_refused"


class StoreBroken(StopError):
    """Durability can no longer be promised: the process must end and recover from disk."""

    code = "store_broken"


class PositionInvalid(StopError):
    """A stored position does not fit the topic that it is in."""

    code = "position_invalid"


class PositionLost(PositionInvalid):
    """What comes next at the position is gone: retention was faster than this reader."""

    code = "position_lost"


class NodeFailed(StopError):
    """A node stopped by its failure policy."""

    code = "node_failed"


class LeaseHeld(StopError):
    """Another process runs this node."""

    code = "lease_held"


class UsageError(StopError):
    """Called with a wrong name, mode, setting or argument."""

    code = "usage"
