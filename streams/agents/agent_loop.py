"""Agents: the loop that reads a node's partitions, applies its function, and takes checkpoints.

A loop owns its partitions by epoch, or its build as a whole. It goes through these states:

CLAIMING    raising the epochs; every older owner is fenced from here on
READING     looking at each partition in turn for the next batch
IDLE        nothing to read; waiting for a commit, or a second, whichever comes first
RECOVERING  the store failed, the outcome of a commit is unknown, or a swap found another place than it was read from:
            what is stored decides where to go on, or that the loop was taken over
ENDED       finished, stopped, or fenced; nothing of it may be used again

Nothing of a batch outlives a failure: what was not committed is read again from the stored position. While a checkpoint
is written the next batch may be worked at (`flight`).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from streams.agents.agent_spec import AgentSpec
from streams.agents.body import Body, Failure, Processed, Surroundings
from streams.agents.dedup import Dedup
from streams.agents.feed import Batch, letter_batch
from streams.agents.flight import Flight, Refused
from streams.agents.owned import Owned
from streams.agents.run_book import RunBook
from streams.ambient import Ambient
from streams.beside import beside_of
from streams.checkpoint.checkpoint import Checkpoint, Committed, commit
from streams.checkpoint.effect import Effect, Write
from streams.decisions.retry import FailureHistory, OnError, backoff_s, halves, must_stop
from streams.errors import DataError, Fenced, NodeFailed, PositionInvalid, TransientError
from streams.history.rebuild import Rebuild
from streams.ids import RecordIds
from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.model.ledger import Cause
from streams.model.position import Move, Position
from streams.model.record import Partition
from streams.model.run import RunStatus
from streams.rows.rows import Rows
from streams.store import Store
from streams.wait import Stopped, Task, Wait


class AgentState(enum.Enum):
    """Where a loop stands."""

    CLAIMING = enum.auto()
    READING = enum.auto()
    IDLE = enum.auto()
    RECOVERING = enum.auto()
    ENDED = enum.auto()


TRANSITIONS: Mapping[AgentState, frozenset[AgentState]] = {
    AgentState.CLAIMING: frozenset({AgentState.READING, AgentState.RECOVERING, AgentState.ENDED}),
    AgentState.READING: frozenset({AgentState.IDLE, AgentState.RECOVERING, AgentState.ENDED}),
    AgentState.IDLE: frozenset({AgentState.READING, AgentState.RECOVERING, AgentState.ENDED}),
    AgentState.RECOVERING: frozenset(
        {AgentState.CLAIMING, AgentState.READING, AgentState.RECOVERING, AgentState.ENDED}
    ),
    AgentState.ENDED: frozenset(),
}

IDLE_S = 1.0  # hints may be lost: ask the store this often whatever happens


class Agent:
    """The loop of one agent over some of its partitions, or over all where it is owned whole.

    `partitions` lists those to read; it is asked before every pass, so that a topic may grow and a group may assign
    anew, and must be cheap. `until_idle` ends the loop when nothing is left to read. `rebuild` makes it build anew
    beside the live build (`streams.history.rewind`). `state` gives the node's state changes to commit with a batch.
    """

    def __init__(
        self,
        spec: AgentSpec,
        body: Body,
        store: Store,
        ambient: Ambient,
        *,
        partitions: Callable[[], Sequence[Partition]],
        worker: str = "",
        until_idle: bool = False,
        rebuild: Rebuild | None = None,
        state: Callable[[], Mapping[str, bytes | None]] = dict,
    ) -> None:
        self.spec = spec
        self.state = AgentState.CLAIMING
        self._body = body
        self._store = store
        self._ambient = ambient
        self._partitions = partitions
        self._until_idle = until_idle
        self._state_changes = state
        self._rebuild = rebuild
        self._owned = Owned(spec, store, rebuild=rebuild)
        self._ids: dict[Partition, RecordIds] = {}
        self._history = FailureHistory()
        self._trouble = 0
        self._looked_at_s = ambient.monotonic()
        self._runs = RunBook(spec.name, worker, ambient)
        flies = not spec.whole and not spec.dedup and rebuild is None
        self._flight = Flight(beside_of(store) if flies else None, landed=self._landed)

    @property
    def run_id(self) -> str:
        """The run that the loop is in; "" while there is none."""
        return self._runs.run_id

    def run(self) -> Task[None]:
        """Until stopped, fenced, or (with `until_idle`) nothing is left.

        Raises Fenced, NodeFailed, PositionInvalid, StoreBroken, StoreRefused.
        """
        try:
            yield from self._loop()
        except Stopped:
            self._flight.abandon()
            self._end_run(RunStatus.INTERRUPTED, None)
        except Fenced:
            raise
        except Exception as error:
            self._flight.abandon()
            self._end_run(RunStatus.FAILED, str(error))
            raise
        else:
            self._end_run(RunStatus.SUCCEEDED, None)
        finally:
            self._flight.close()
            self.state = AgentState.ENDED

    def _loop(self) -> Task[None]:
        while True:
            try:
                if self.state in {AgentState.CLAIMING, AgentState.RECOVERING}:
                    self._claim()
                    self._transition_to(AgentState.READING)
                self._assign()
                moved = yield from self._pass()
                if not moved:
                    self._flight.land()
                self._trouble = 0
                if not moved and not (yield from self._retry_letters()):
                    if self._until_idle and set(self._partitions()) == set(self._owned.positions):
                        return
                    yield from self._rest()
            except Fenced:
                if self.state in {AgentState.CLAIMING, AgentState.RECOVERING}:
                    raise  # what is stored names another owner
                self._transition_to(AgentState.RECOVERING)  # or a commit of ours, thought lost, has come through late
            except Refused:
                self._transition_to(AgentState.RECOVERING)  # the batch is read again, and split where it is committed
            except TransientError:
                self._transition_to(AgentState.RECOVERING)
                self._trouble += 1
                yield Wait(backoff_s(self._trouble, self.spec.policy, chance=self._ambient.random()))

    def _rest(self) -> Task[None]:
        self._transition_to(AgentState.IDLE)
        if self._runs.idle(self._ambient.monotonic()):
            self._end_run(RunStatus.SUCCEEDED, None)
        yield Wait(IDLE_S, commits=True)
        self._look_at_ownership()
        self._transition_to(AgentState.READING)

    def _look_at_ownership(self) -> None:
        """Once a second while idle: an agent that has nothing to commit would never learn that it was fenced, and
        leave what it reads to nobody. Raises Fenced."""
        now_s = self._ambient.monotonic()
        if now_s - self._looked_at_s >= IDLE_S:
            self._looked_at_s = now_s
            self._owned.reread()

    def _pass(self) -> Task[bool]:
        """Each partition once; whether any position moved."""
        moved = False
        for partition in sorted(self._owned.positions):
            position = self._owned.positions[partition]
            try:
                batch = self._owned.feed.read(position, records_max=self.spec.records_max, below=self._limit(position))
            except PositionInvalid:
                self._flight.land()
                self._owned.reread()  # raises Fenced where who took over has gone on: what is behind it may be gone
                raise
            if self.spec.dedup and not self._store.log.keeps_ids:
                batch = Dedup(self._store, self._owned.build).without_repeats(batch)
            if batch.after != batch.before:
                yield from self._consume(batch)
                moved = True
        return moved

    def _limit(self, position: Position) -> int | None:
        """How far a rebuild may read: to where the live build stands."""
        if self._rebuild is None:
            return None
        with self._store.read() as tx:
            live = self._rebuild.places(tx).get(position.partition)
        if live is None:
            return position.next_offset
        return live.next_offset if live.version == position.version else None

    def _claim(self) -> None:
        """Raise the epochs on a first claim; after trouble, read back what is stored under the epochs held."""
        if not self._owned.claimed:
            self._owned.claim(self._partitions())
            return
        self._flight.abandon()
        self._owned.reread()
        if self._runs.running is not None:  # a commit that was thought lost may have counted
            with self._store.read() as tx:
                self._runs.stored(tx.runs.get(self._runs.run_id))

    def _assign(self) -> None:
        """Let go of partitions that were taken from us, and own those that are new."""
        wanted = set(self._partitions())
        if wanted != self._owned.positions.keys():
            self._flight.land()
            self._owned.follow(wanted)

    # One batch

    def _consume(self, batch: Batch) -> Task[None]:
        """Process and commit a batch, stretch by stretch. A stretch whose rows a store refuses is halved."""
        if not len(batch):
            self._flight.land()
            self._commit(batch, Processed(0, 0, Rows()), applied=False)
            return
        self._runs.begin(self._ambient)
        stretches = deque([(0, len(batch))])
        while stretches:
            start, stop = stretches.popleft()
            done = yield from self._body.process(batch, start, stop, self._ids_of(batch), self._around())
            if done.stop < stop:
                stretches.appendleft((done.stop, stop))
            self._flight.land()
            if self._flies(batch, done):
                self._take_off(batch, done)
                yield Wait(0.0)
                continue
            refused = self._commit_stretch(batch, done)
            if refused is not None:
                if done.stop < stop:
                    stretches.popleft()
                self._split(batch, start, stop, refused, stretches)
            elif done.halted is not None:
                raise self._halt(batch, done.halted)
            yield Wait(0.0)
        self._flight.refused.discard(batch.partition)

    def _flies(self, batch: Batch, done: Processed) -> bool:
        """Whether nothing is left to decide when this stretch is committed."""
        is_whole = done.stop > done.start and not done.failures and done.halted is None
        return is_whole and self._flight.takes(batch.partition)

    def _take_off(self, batch: Batch, done: Processed) -> None:
        """Write a stretch beside what follows, which goes on from where it will have ended."""
        checkpoint = self._checkpoint(batch, done)
        self._flight.take_off(batch.partition, lambda: commit(self._store, checkpoint, ambient=self._ambient))
        self._owned.moved(checkpoint.moves[0].new)
        self._judge(done)

    # Dead letters handed back

    def _retry_letters(self) -> Task[bool]:
        """Try the dead letters that a person handed back; whether there were any. Rows go to the end of the output."""
        with self._store.read() as tx:
            letters = tx.dead_letters.all(agent=self.spec.name, state=DeadLetterState.RETRYING)
        mine = [each for each in letters if each.build == self._owned.build and each.partition in self._owned.positions]
        for letter in mine:
            batch = letter_batch(self._owned.feed, letter)
            done = yield from self._body.process(batch, 0, len(batch), self._ids_of(batch), self._around())
            failed = done.halted is not None or bool(done.failures)
            if failed or not self._commit_letter(letter, batch, done):
                with self._store.write() as tx:
                    tx.dead_letters.settle(letter.letter_id, old=DeadLetterState.RETRYING, new=DeadLetterState.OPEN)
        return bool(mine)

    def _commit_letter(self, letter: DeadLetter, batch: Batch, done: Processed) -> bool:
        """False where the store refuses a row."""
        owner = self._owned.owner
        assert owner is not None
        checkpoint = Checkpoint(
            build=self._owned.build,
            epoch=owner.epoch,
            code_hash=self.spec.code_hash,
            run_id=self._runs.run_id,
            started_at=self._ambient.now(),
            checkpoint_number=owner.checkpoint_number if self.spec.whole else None,
            segment=owner.segment,
            cause=Cause.RETRY,
            state=self._state_changes(),
            retried=(letter.letter_id,),
            effects=self._effects(batch, done),
            guard=None if self.spec.whole else lambda tx: self._owned.prove(tx, letter.partition),
        )
        try:
            commit(self._store, checkpoint, ambient=self._ambient)
        except DataError:
            return False
        self._owned.counted()
        return True

    def _commit_stretch(self, batch: Batch, done: Processed) -> DataError | None:
        if done.stop == done.start:
            return None
        try:
            self._commit(batch, done)
        except DataError as error:
            return error
        self._judge(done)
        return None

    def _split(self, batch: Batch, start: int, stop: int, error: DataError, stretches: deque[tuple[int, int]]) -> None:
        if stop - start > 1:
            stretches.extendleft(reversed(list(halves(start, stop))))
            return
        failure = Failure(start, 1, error)
        if self.spec.policy.on_error is OnError.STOP:
            raise self._halt(batch, failure)
        done = Processed(start, stop, Rows(), failures=[failure])
        self._commit(batch, done, applied=False)
        self._judge(done)

    def _commit(self, batch: Batch, done: Processed, *, applied: bool = True) -> None:
        """`applied` False: the function's work on these records does not count, nor does what it did to the state."""
        checkpoint = self._checkpoint(batch, done, applied=applied)
        committed = commit(self._store, checkpoint, ambient=self._ambient)
        self._owned.moved(checkpoint.moves[0].new)
        self._landed(committed)

    def _landed(self, committed: Committed) -> None:
        self._runs.stored(committed.run)

    def _checkpoint(self, batch: Batch, done: Processed, *, applied: bool = True) -> Checkpoint:
        owner = self._owned.owner
        assert owner is not None
        move = batch.move(done.start, done.stop)
        old = self._owned.positions[batch.partition]
        move = replace(move, old=replace(move.old, epoch=old.epoch), new=replace(move.new, epoch=old.epoch))
        letters = self._letters(batch, done.failures) if self.spec.policy.on_error is OnError.DEAD_LETTER else []
        letters += self._letters_of_dropped(batch, move)
        return Checkpoint(
            build=self._owned.build,
            epoch=owner.epoch if self.spec.whole else old.epoch,
            code_hash=self.spec.code_hash,
            run_id=self._runs.run_id,
            started_at=self._ambient.now(),
            moves=(move,),
            checkpoint_number=owner.checkpoint_number if self.spec.whole else None,
            segment=owner.segment,
            cause=batch.cause,
            state=self._state_changes() if applied else {},
            dead_letters=tuple(letters),
            seen=batch.ids_between(move.old, move.new),
            effects=self._effects(batch, done),
            run=self._runs.counted(records=done.stop - done.start, dead_letters=len(letters)),
        )

    def _effects(self, batch: Batch, done: Processed) -> tuple[Effect, ...]:
        if self.spec.output is None or not len(done.rows):
            return ()
        return (
            Write(
                self.spec.output,
                done.rows,
                done.record_ids,
                upsert=self.spec.upserts,
                partition=batch.partition.index,
                version=self._rebuild.versions[self.spec.output] if self._rebuild is not None else None,
                options=self.spec.options,
            ),
        )

    def _letters(self, batch: Batch, failures: Iterable[Failure]) -> list[DeadLetter]:
        return [
            DeadLetter(
                letter_id=self._ambient.new_id(),
                build=self._owned.build,
                partition=batch.partition,
                version=batch.before.version,
                offset=batch.offset(failure.index),
                at=self._ambient.now(),
                timestamp=batch.timestamp(failure.index),
                key=batch.key(failure.index),
                attempts=failure.attempts,
                error_type=type(failure.error).__name__,
                message=str(failure.error),
                field=getattr(failure.error, "field", None),
                value=batch.value(failure.index),
            )
            for failure in failures
        ]

    def _letters_of_dropped(self, batch: Batch, move: Move) -> list[DeadLetter]:
        """Records with an id that came with another body before: somebody has to look at them."""
        return [
            DeadLetter(
                letter_id=self._ambient.new_id(),
                build=self._owned.build,
                partition=batch.partition,
                version=batch.before.version,
                offset=each.record.offset,
                at=self._ambient.now(),
                timestamp=each.record.timestamp,
                key=each.record.key,
                attempts=1,
                error_type="IdReused",
                message=each.problem,
                field=None,
                value=each.record.value,
            )
            for each in batch.dropped_between(move.old, move.new)
            if each.problem is not None
        ]

    def _judge(self, done: Processed) -> None:
        """Stop a node that fails too often. What it did so far is committed."""
        policy = self.spec.policy
        at = done.start
        for failure in done.failures:
            self._history = self._history.after(failure.index - at, failed=False, window=policy.window_records)
            self._history = self._history.after(1, failed=True, window=policy.window_records)
            at = failure.index + 1
        self._history = self._history.after(done.stop - at, failed=False, window=policy.window_records)
        reason = must_stop(self._history, policy)
        if reason is not None:
            raise NodeFailed(
                f"{self.spec.name} was stopped: {reason}",
                hint=f"`millstream dead-letters list --node {self.spec.name}` shows them; mend the code or the data, "
                f"then `millstream nodes start {self.spec.name}`",
            )

    def _halt(self, batch: Batch, failure: Failure) -> NodeFailed:
        error = NodeFailed(
            f"{self.spec.name} stopped before offset {batch.offset(failure.index)} of {batch.partition}: "
            f"{failure.error}",
            hint="its policy is on_error: stop; mend the code or the record, then start the node again",
        )
        error.__cause__ = failure.error
        return error

    def _ids_of(self, batch: Batch) -> RecordIds:
        made = self._ids.get(batch.partition)
        if made is None:
            made = self._ids[batch.partition] = RecordIds(str(self._owned.build), str(batch.partition))
        return made

    def _around(self) -> Surroundings:
        return Surroundings(
            self._ambient,
            self.spec.policy,
            self.spec.interval_s,
            self.spec.options.unique_on,
            self.spec.options.declared,
        )

    def _end_run(self, status: RunStatus, error: str | None) -> None:
        run = self._runs.end(status, error, self._ambient)
        if run is None:
            return
        try:
            with self._store.write() as tx:
                tx.runs.save(run)
        except TransientError:
            return  # the store is away; the run is marked interrupted at the next start

    def _transition_to(self, state: AgentState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"an agent cannot go from {self.state.name} to {state.name}")
        self.state = state
