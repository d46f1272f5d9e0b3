"""A model of the whole: hypothesis drives two workers on each store, with crashes, takeovers, rewinds and new versions,
and after every step the tables must be those of a few plain lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from streams import crash_points
from streams.agents import agent_loop
from streams.agents.agent_spec import AgentSpec
from streams.agents.body import RecordBody
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Activation, Write
from streams.checkpoint.tables import begin_version, ensure_table
from streams.errors import Fenced
from streams.history.rebuild import Rebuild
from streams.history.rewind import Rewind
from streams.history.verify import verify
from streams.log import AppendRequest, Entry
from streams.model.position import Build
from streams.model.record import Kind, Partition
from streams.model.table_version import TableOptions
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.wait import Task
from tests.contract.conftest import Opener
from tests.contract.engine import Engine, reader
from tests.contract.making import batch, records_of, stored

BATCH = 3
WORKERS = ("first", "second")
AGENTS = ("land", "copy", "latest", "follow")
STEPS = [name for name in crash_points.NAMES if name.partition(".")[0] in {"checkpoint", "schema", "version"}]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
    st.lists(st.integers(0, 9), max_size=2),
)
RECORDS = st.lists(st.one_of(st.just({}), st.fixed_dictionaries({"v": VALUES})), min_size=1, max_size=7)


class Died(BaseException):
    """The end of a process, as far as one process can play it."""


class Model(RuleBasedStateMachine):
    """`log`, `snapshots` and the places in them are all the model; the rest is the store."""

    open_store: Callable[[], Store]
    examples = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.name = f"e{self.examples}"  # one store for all examples, names of its own for each
        self.ambient = ManualAmbient(seed=self.examples)
        self.stores = {worker: self.open_store() for worker in WORKERS}
        self.tasks: dict[tuple[str, str], Task[None]] = {}
        self.owner: dict[str, str | None] = dict.fromkeys(AGENTS)
        self.log: list[dict[str, Any]] = []
        self.requests: list[tuple[AppendRequest, int]] = []
        self.place = {"land": 0, "copy": 0, "latest": 0}
        self.snapshots: list[list[int]] = []
        self.follow_from: int | None = None
        self.followed = 0

    @initialize()
    def begin(self) -> None:
        with self.stores["first"].write() as tx:
            tx.tables.make_table(self._("snapshot"), table_id=self.ambient.new_id(), options=TableOptions())

    def _(self, name: str) -> str:
        return f"{self.name}_{name}"

    # What the tables must hold

    def _landed(self) -> list[dict[str, Any]]:
        return self.log[: self.place["land"]]

    def _latest(self) -> dict[int, dict[str, Any]]:
        rows: dict[int, dict[str, Any]] = {}
        for record in self.log[: self.place["latest"]]:
            rows.setdefault(record["k"], {}).update(_plain(record))
        return rows

    def _to_follow(self) -> list[int]:
        if self.follow_from is None:
            return []
        return [n for version in self.snapshots[self.follow_from :] for n in version]

    @invariant()
    def tables_hold_what_the_model_says(self) -> None:
        landed = [_plain(record) for record in self._landed()]
        assert self._rows("land") == landed
        assert self._rows("copy") == landed[: self.place["copy"]]
        latest = self._rows("latest")
        assert {row["k"]: row for row in latest} == self._latest()
        assert len(latest) == len(self._latest())
        assert [row["n"] for row in self._rows("follow")] == self._to_follow()[: self.followed]

    def _rows(self, table: str) -> list[dict[str, Any]]:
        with self.stores["first"].read() as tx:
            info = tx.tables.table(self._(table))
        if info is None or info.active_version is None:
            return []
        held = stored(self.stores["first"], self._(table))
        assert list(held.ats) == sorted(held.ats), "the time of commit moved back"
        return [_plain(record) for record in records_of(held)]

    # Rules

    @rule(records=RECORDS, worker=st.sampled_from(WORKERS))
    def append(self, records: list[dict[str, Any]], worker: str) -> None:
        first = len(self.log)
        made = [{"n": first + i, "k": (first + i) % 3, **record} for i, record in enumerate(records)]
        entries = tuple(Entry(orjson.dumps(record)) for record in made)
        request = AppendRequest(self._("land"), entries, self.ambient.now(), request_id=f"{first}")
        self.log += made
        self.requests.append((request, first))
        self._send(worker, request, first, duplicates=0)

    @precondition(lambda self: bool(self.requests))
    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def append_again(self, data: st.DataObject, worker: str) -> None:
        request, first = data.draw(st.sampled_from(self.requests))
        self._send(worker, request, first, duplicates=len(request.entries))

    def _send(self, worker: str, request: AppendRequest, first: int, *, duplicates: int) -> None:
        (answer,) = self.stores[worker].log.append([request])
        assert answer.duplicates == duplicates
        assert [(each.first, each.last) for each in answer.offsets] == [(first, first + len(request.entries) - 1)]

    @rule(agent=st.sampled_from(AGENTS), worker=st.sampled_from(WORKERS), batches=st.integers(1, 3))
    def step(self, agent: str, worker: str, batches: int) -> None:
        """A worker consumes up to so many batches; one that was taken over from is fenced, and changes nothing."""
        if (worker, agent) not in self.tasks:
            self._start(worker, agent)
        task = self.tasks[worker, agent]
        for _ in range(batches):
            there = self._waiting(agent)
            try:
                next(task)
            except StopIteration:
                del self.tasks[worker, agent]
                assert not there or self.owner[agent] != worker
                return
            except Fenced:
                del self.tasks[worker, agent]
                assert self.owner[agent] != worker
                return
            assert there
            assert self.owner[agent] == worker
            self._consumed(agent, there)

    def _start(self, worker: str, agent: str) -> None:
        self.tasks[worker, agent] = self._task(worker, agent)
        self.owner[agent] = worker  # it claims as soon as it moves
        if agent == "follow" and self.follow_from is None:
            self.follow_from = max(len(self.snapshots) - 1, 0)

    def _waiting(self, agent: str) -> int:
        """How many records the next batch holds."""
        if agent != "follow":
            end = len(self.log) if agent == "land" else self.place["land"]
            return min(end - self.place[agent], BATCH)
        done = self.followed
        for version in self.snapshots[self.follow_from or 0 :]:
            if done < len(version):
                return min(len(version) - done, BATCH)
            done -= len(version)
        return 0

    def _consumed(self, agent: str, records: int) -> None:
        if agent == "follow":
            self.followed += records
        else:
            self.place[agent] += records

    @rule(
        agent=st.sampled_from(["land", "copy", "latest"]),
        worker=st.sampled_from(WORKERS),
        point=st.sampled_from(["start.claiming", "start.claimed", *STEPS]),
    )
    def crash(self, agent: str, worker: str, point: str) -> None:
        """A worker dies at its first step of that name: what it was committing is there whole, or not at all."""
        self._abandon(worker)
        task = self._task(worker, agent)
        if point != "start.claiming":
            self.owner[agent] = worker
        crash_points.arm(_die_at(point))
        done = 0
        try:
            with suppress(StopIteration):
                while True:
                    there = self._waiting(agent)
                    next(task)
                    self.owner[agent] = worker
                    self._consumed(agent, there)
                    done += 1
        except Died:
            records = self._waiting(agent)
            if records and point == "checkpoint.committed" and self._stored_place(agent) == self.place[agent] + records:
                self._consumed(agent, records)
            self._reopen(worker)
        finally:
            crash_points.arm(None)
        assert self._stored_place(agent) in {self.place[agent], None}

    def _stored_place(self, agent: str) -> int | None:
        with self.stores["first"].read() as tx:
            name = self._(agent)
            found = tx.agents.positions(tx.agents.live_build(name) or Build(name))
        return found[0].next_offset if found else None

    def _abandon(self, worker: str) -> None:
        """All that the worker has running ends without a word."""
        for key in [key for key in self.tasks if key[0] == worker]:
            del self.tasks[key]

    def _reopen(self, worker: str) -> None:
        self._abandon(worker)
        self.stores[worker].close()
        self.stores[worker] = self.open_store()

    @precondition(lambda self: self.place["copy"] > 0)
    @rule(
        worker=st.sampled_from(WORKERS),
        share=st.one_of(st.none(), st.floats(0, 1)),
        point=st.one_of(st.none(), st.sampled_from([n for n in crash_points.NAMES if n.startswith("rewind.")])),
    )
    def rewind(self, worker: str, share: float | None, point: str | None) -> None:
        """The copy is made anew, from its start or from a place; killed half-way, nothing has happened."""
        store, spec = self.stores[worker], self._spec("copy")
        source = Partition(self._("land"), 0, Kind.TABLE)
        to = None if share is None else {source: int(share * self.place["copy"])}

        def make(rebuild: Rebuild) -> Any:
            return Engine(store, self.ambient).agent(spec, RecordBody(dict), rebuild=rebuild)

        crash_points.arm(_die_at(point) if point is not None else None)
        try:
            Engine(store, self.ambient).run(Rewind(spec, store, self.ambient, make=make, to=to).run())
        except Died:
            if point == "rewind.swapped":
                self.owner["copy"] = None
            self._reopen(worker)
        else:
            self.owner["copy"] = None
        finally:
            crash_points.arm(None)

    @rule(worker=st.sampled_from(WORKERS), rows=st.integers(0, 5), activated=st.booleans())
    def new_version(self, worker: str, rows: int, activated: bool) -> None:
        """A version written in the dark and swapped in, or left behind by a writer that died."""
        store, table = self.stores[worker], self._("snapshot")
        info = ensure_table(store, table, TableOptions(), ambient=self.ambient)
        version = begin_version(store, info, made_by="snapshot", ambient=self.ambient)
        if not activated:
            return
        numbers = list(range(1000 * len(self.snapshots), 1000 * len(self.snapshots) + rows))
        build = Build(self._("snapshot"))
        with store.write() as tx:
            tx.agents.make_build(build, live=True, writes=(table,))
            owner = tx.agents.claim(build)
        write = Write(table, batch({"n": n} for n in numbers), [None] * rows, version=version.version)
        effects = ((write,) if rows else ()) + (Activation(table, version.version),)
        checkpoint = Checkpoint(
            build,
            owner.epoch,
            "code",
            "run",
            self.ambient.now(),
            checkpoint_number=owner.checkpoint_number,
            effects=effects,
        )
        commit(store, checkpoint, ambient=self.ambient)
        self.snapshots.append(numbers)

    @rule(seconds=st.sampled_from([1.0, 60.0, -3600.0, 3600.0]))
    def the_clock_jumps(self, seconds: float) -> None:
        self.ambient.step(seconds)

    # Agents

    def _spec(self, agent: str) -> AgentSpec:
        name = self._(agent)
        if agent == "land":
            return AgentSpec(name, ((name, Kind.SOURCE),), name, "code", records_max=BATCH)
        table = self._("snapshot" if agent == "follow" else "land")
        unique_on = ("k",) if agent == "latest" else ()
        return reader(name, table, name, unique_on=unique_on, records_max=BATCH)

    def _task(self, worker: str, agent: str) -> Task[None]:
        body = RecordBody(_plain if agent == "latest" else dict)  # what a row of a table lacks reads as null
        return Engine(self.stores[worker], self.ambient).agent(self._spec(agent), body).run()

    def teardown(self) -> None:
        crash_points.arm(None)
        found = verify(self.stores["first"], deep=True)
        self.tasks.clear()
        for store in self.stores.values():
            store.close()
        assert found.ok, found.faults


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Without nulls."""
    return {name: value for name, value in record.items() if value is not None}


def _die_at(point: str) -> Callable[[str], None]:
    def act(reached: str) -> None:
        if reached == point:
            crash_points.arm(None)
            raise Died

    return act


EXAMPLES = int(os.environ.get("MILLSTREAM_TEST_EXAMPLES", "15"))
PART = 15  # examples on one store: they recount its whole ledger


@pytest.mark.parametrize("part", range(-(-EXAMPLES // PART)))
def test_two_workers_of_one_store_keep_to_the_model(
    part: int, open_again: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MILLSTREAM_TEST_EXAMPLES sets how many runs; the first part is the same every time.

    The tables are compared after every batch, so nothing is written beside an agent; the simulator has what is.
    """
    monkeypatch.setattr(agent_loop, "beside_of", lambda store: None)

    class OnThisStore(Model):
        open_store = staticmethod(open_again)

    run_state_machine_as_test(
        OnThisStore,
        settings=settings(
            max_examples=PART,
            stateful_step_count=30,
            deadline=None,
            phases=(Phase.generate,),
            derandomize=part == 0,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
