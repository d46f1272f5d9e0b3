"""A COMMIT whose outcome is unknown is read back and not reported: writes by hand and the swap of a rewind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, cast

import pytest

from streams.agents.body import RecordBody
from streams.checkpoint.effect import Activation
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.tables import begin_version
from streams.errors import CommitUnknown, StoreUnavailable
from streams.history.rebuild import Rebuild
from streams.history.rewind import Rewind
from streams.history.verify import verify
from streams.model.run import RunStatus
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.user.connection import Connection
from streams.user.table import Table
from tests.contract.engine import Engine, reader, sink
from tests.contract.making import active, records_of, stored, write
from tests.contract.programs import numbers, run_program, write_rows

SPEC = reader("scores", "leads", "scores")


class _NotCommitted(Exception):
    """Ends the transaction underneath without its COMMIT."""


class LosingStore:
    """Loses the outcome of commits that wrote to the ledger: the first `lost` of them, which happen or do not. Then
    it is away for so many transactions: `away` for all, `asked_in_vain` for the next ones."""

    def __init__(
        self, inner: Store, *, lost: int = 1, happens: bool, away: bool = False, asked_in_vain: int = 0
    ) -> None:
        self._inner = inner
        self._happens = happens
        self._away = float("inf") if away else asked_in_vain
        self.left = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def write(self) -> Iterator[Any]:
        if self._away and not self.left:
            self._away -= 1
            raise StoreUnavailable("the store is away")
        loses = False
        with suppress(_NotCommitted), self._inner.write() as tx:
            watched = _Watched(tx)
            yield watched
            loses = watched.checkpoint and self.left > 0
            self._check(loses)
        if loses:
            self.left -= 1
            raise CommitUnknown("the connection was lost in COMMIT", hint="read back what is stored")

    def _check(self, loses: bool) -> None:
        if loses and not self._happens:
            raise _NotCommitted


class _Watched:
    """A transaction; `checkpoint` once it has asked for the ledger."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.checkpoint = False

    def __getattr__(self, name: str) -> Any:
        self.checkpoint |= name == "ledger"
        return getattr(self._inner, name)


class LateStore:
    """The first COMMIT that wrote to the ledger is on its way when the connection to it is lost. It arrives before the
    next transaction that writes, which waits for its locks; who only reads does not see it yet."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._under_way = ExitStack()
        self._is_lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def write(self) -> Iterator[Any]:
        self._under_way.close()
        with ExitStack() as stack:
            watched = _Watched(stack.enter_context(self._inner.write()))
            yield watched
            if watched.checkpoint and not self._is_lost:
                self._is_lost = True
                self._under_way = stack.pop_all()
                raise CommitUnknown("the connection was lost in COMMIT", hint="read back what is stored")


def losing(store: Store, **how: Any) -> Any:
    return cast(Any, LosingStore(store, **how))


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("happens", [True, False])
def test_a_write_by_hand_whose_commit_was_lost_is_there_once(
    store: Store, ambient: ManualAmbient, happens: bool, lost: int
) -> None:
    commit_manually(store, [write("t", [{"v": 0}])], ambient=ambient)
    losses = losing(store, lost=lost, happens=happens)
    committed = commit_manually(losses, [write("t", [{"v": 1}, {"v": 2}])], ambient=ambient)
    assert losses.left == (lost - 1 if happens else 0)
    assert [record["v"] for record in records_of(stored(store, "t"))] == [0, 1, 2]
    assert committed.outcome.rows == 2
    assert verify(store).faults == []


@pytest.mark.parametrize("happens", [True, False])
def test_an_activation_whose_commit_was_lost_is_done_once(store: Store, ambient: ManualAmbient, happens: bool) -> None:
    commit_manually(store, [write("t", [{"v": 0}])], ambient=ambient)
    with store.read() as tx:
        table = tx.tables.table("t")
    assert table is not None
    version = begin_version(store, table, made_by="cli", ambient=ambient).version
    committed = commit_manually(losing(store, happens=happens), [Activation("t", version)], ambient=ambient)
    assert committed.activated == ("t",)
    assert active(store, "t").version == version
    with store.read() as tx:
        assert [each.activation for each in tx.tables.versions("t")] == [1, 2]
        assert tx.rows.query("select count(*) from t", {})[1] == [(0,)]


def test_a_write_by_hand_that_cannot_be_read_back_says_that_its_outcome_is_unknown(
    store: Store, ambient: ManualAmbient
) -> None:
    commit_manually(store, [write("t", [{"v": 0}])], ambient=ambient)
    with pytest.raises(CommitUnknown):
        commit_manually(losing(store, happens=True, away=True), [write("t", [{"v": 1}])], ambient=ambient)


def test_a_program_whose_commit_arrives_late_has_succeeded_and_counts_its_rows(
    store: Store, ambient: ManualAmbient
) -> None:
    write_rows(store, ambient, "in", numbers(0, 3))

    def copy() -> None:
        out = Table("out", "w")
        for record in Table("in").as_stream():
            out.append({"n": record["n"]})

    run = run_program(cast(Any, LateStore(store)), ambient, copy)
    with store.read() as tx:
        kept = tx.runs.get(run.run_id)
    assert kept == run
    assert (run.status, run.rows_in, run.rows_out) == (RunStatus.SUCCEEDED, 3, 3)
    run_program(store, ambient, copy)
    assert [record["n"] for record in records_of(stored(store, "out"))] == [0, 1, 2]
    assert verify(store).faults == []


def test_a_program_goes_on_after_a_checkpoint_whose_outcome_was_not_known(store: Store, ambient: ManualAmbient) -> None:
    write_rows(store, ambient, "in", numbers(0, 4))

    def copy() -> None:
        out, stream = Table("out", "w"), Table("in").as_stream()
        for record in stream:
            out.append({"n": record["n"]})
            if record["n"] % 2:
                stream.checkpoint()

    run = run_program(cast(Any, losing(store, happens=True)), ambient, copy)
    assert (run.status, run.rows_in, run.rows_out) == (RunStatus.SUCCEEDED, 4, 4)
    assert [record["n"] for record in records_of(stored(store, "out"))] == [0, 1, 2, 3]
    assert verify(store).faults == []


class BusyStore(LosingStore):
    """When it has lost a commit, `meanwhile` happens before its writer can ask what became of it."""

    def __init__(self, inner: Store, *, meanwhile: Callable[[], None], happens: bool) -> None:
        super().__init__(inner, happens=happens)
        self._meanwhile = meanwhile

    @contextmanager
    def write(self) -> Iterator[Any]:
        try:
            with super().write() as tx:
                yield tx
        except CommitUnknown:
            self._meanwhile()
            raise


@pytest.mark.parametrize("happens", [True, False])
def test_a_write_whose_commit_was_lost_is_there_once_though_another_of_its_name_came_between(
    store: Store, ambient: ManualAmbient, happens: bool
) -> None:
    def meanwhile() -> None:
        Connection(store, ambient).table("out").append({"n": 100})

    Connection(store, ambient).table("out").append({"n": 0})
    busy = cast(Any, BusyStore(store, meanwhile=meanwhile, happens=happens))
    Connection(busy, ambient).table("out").append({"n": 1})
    assert {record["n"] for record in records_of(stored(store, "out"))} == {0, 1, 100}
    assert len(stored(store, "out").offsets) == 3
    assert verify(store).faults == []


def test_a_program_that_cannot_ask_what_became_of_its_commit_is_not_called_failed(
    store: Store, ambient: ManualAmbient
) -> None:
    write_rows(store, ambient, "in", numbers(0, 3))
    away = LosingStore(store, happens=True, asked_in_vain=1)

    def copy() -> None:
        out = Table("out", "w")
        for record in Table("in").as_stream():
            out.append({"n": record["n"]})

    with pytest.raises(CommitUnknown):
        run_program(cast(Any, away), ambient, copy)
    with store.read() as tx:
        (run,) = tx.runs.last("node", limit=5)
    assert (run.status, run.rows_in, run.rows_out) == (RunStatus.SUCCEEDED, 3, 3)


@pytest.mark.parametrize("happens", [True, False])
def test_a_rewind_whose_swap_was_lost_is_swapped_once(store: Store, ambient: ManualAmbient, happens: bool) -> None:
    engine = Engine(store, ambient)
    engine.append("leads", *({"n": n} for n in range(7)))
    engine.consume(sink("leads"))
    engine.consume(SPEC, lambda record: {"n": record["n"], "by": "old"})
    losses = losing(store, lost=0, happens=happens)
    body = RecordBody(lambda record: {"n": record["n"], "by": "new"})

    class Last:
        """Rebuilds, and from then on commits get lost."""

        def __init__(self, rebuild: Rebuild) -> None:
            self._rebuild = rebuild

        def run(self) -> Any:
            yield from engine.agent(SPEC, body, rebuild=self._rebuild).run()
            losses.left = 1

    done = engine.run(Rewind(SPEC, losses, ambient, make=Last).run())
    assert (done.swapped, losses.left) == (True, 0)
    assert engine.rows("scores") == [{"n": n, "by": "new"} for n in range(7)]
    with store.read() as tx:
        assert tx.agents.live_build("scores") == done.build
        assert len(tx.rows.query("select n from scores", {})[1]) == 7
    engine.append("leads", {"n": 7})
    engine.consume(sink("leads"))
    engine.consume(SPEC, lambda record: {"n": record["n"], "by": "new"})
    assert [row["n"] for row in engine.rows("scores")] == list(range(8))
    assert verify(store, deep=True).faults == []
