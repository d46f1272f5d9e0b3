"""One simulated run: a store, senders, workers that come and go, and the faults of its seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from streams import crash_points
from streams.agents.agent_loop import Agent
from streams.agents.agent_spec import AgentSpec
from streams.agents.body import Body, FrameBody, RecordBody
from streams.agents.partitions import partitions_of
from streams.decisions.retry import FailurePolicy
from streams.errors import Fenced, PositionInvalid, TransientError, UsageError
from streams.history.rebuild import Rebuild
from streams.history.rewind import Rewind
from streams.log import AppendRequest, Entry
from streams.model.dead_letter import DeadLetterState
from streams.model.position import Position
from streams.model.record import Kind, Partition
from streams.model.table_version import TableOptions
from streams.store import Store, Transaction
from streams.wait import Task
from tests.simulation.faults import Faults
from tests.simulation.faulty_store import Connection, FaultyStore
from tests.simulation.kept import Kept
from tests.simulation.locks import LockOrders
from tests.simulation.programs import PROGRAMS, SOURCE, Runner, spec_of
from tests.simulation.scenario import Landing, Sent, make_record, mapped
from tests.simulation.scheduler import Killed, Process, Scheduler
from tests.simulation.swapper import Swapper
from tests.simulation.tidier import graph_of, tidy_again_and_again
from tests.simulation.worker import Group, Worker

FAULTS_S = 6.0  # for so long things go wrong
HEALING_S = 60.0  # after that, all must be consumed within this
PARTS = (("land", "map"), ("shareA", "shareB", "copy"), ("latest",))  # of the graph: each run has some of them
POLICY = FailurePolicy(backoff_first_s=0.05, backoff_max_s=1.0, consecutive_max=10_000)


class World:
    """The run of one seed on one store."""

    def __init__(self, seed: int, store: Store, *, traced: bool = False) -> None:
        chance = random.Random(seed)
        self.seed = seed
        self.inner = store
        self.scheduler = Scheduler(seed, traced=traced)
        self.faults = Faults.of(chance)
        self.locks = LockOrders()
        self.liveness: set[str] = set()
        self.lease_s = 3.0
        self.blind = chance.random() < 0.5
        self.grouped = chance.random() < 0.3
        self.group = Group(self.lease_s)
        self.partitions = chance.choice([1, 1, 2, 2, 3])
        self.workers_max = chance.randint(1, 3)
        self.swaps = chance.random() < 0.5
        self.rewinds = chance.random() < 0.4
        self.acked: dict[str, bytes] = {}
        self.workers: dict[int, Worker] = {}
        self._lives = 0
        self._senders_left = 0
        self._chance = chance
        self.specs = self._specs(chance)
        self.trouble = chance.random() < 0.6
        self.programs = sorted(name for name in PROGRAMS if chance.random() < 0.25)
        if self.trouble and "resets" in self.programs:
            self.programs.remove("resets")  # it is never cut, so a record that cannot be read would stop it for good
        self.program_records_max = chance.choice([1, 4, 10, 10_000])
        self._growth = random.Random(f"growth of {seed}")  # its own, so that other runs are what they were without it
        self.grows = self._growth.random() < 0.2 and "latest" not in self.specs
        self.kept = Kept()
        self.tidies = random.Random(f"tidying of {seed}").random() < 0.2
        self.scheduler.note(f"{self.faults} {self.partitions} partitions, {self.workers_max} workers")

    # The graph that is simulated

    def _specs(self, chance: random.Random) -> dict[str, tuple[AgentSpec, Callable[[], Body]]]:
        framed = chance.random() < 0.05
        records_max = chance.choice([1, 3, 7, 50])

        def spec(name: str, source: str, kind: Kind, output: str, *, unique_on: tuple[str, ...] = ()) -> AgentSpec:
            return AgentSpec(
                name,
                ((source, kind),),
                output,
                "code",
                options=TableOptions(unique_on=unique_on),
                policy=POLICY,
                records_max=records_max,
            )

        def record_body() -> Body:
            return RecordBody(Landing())

        def mapped_body() -> Body:
            return RecordBody(mapped)

        def frame_body() -> Body:
            return FrameBody(lambda frame: frame)

        specs = {
            "land": (spec("land", "orders", Kind.SOURCE, "landed"), record_body),
            "map": (spec("map", "landed", Kind.TABLE, "mapped"), mapped_body),
            "shareA": (spec("shareA", "orders", Kind.SOURCE, "shared"), record_body),
            "shareB": (spec("shareB", "events", Kind.SOURCE, "shared"), record_body),
            "copy": (spec("copy", "shared", Kind.TABLE, "copied"), frame_body if framed else record_body),
            "latest": (spec("latest", "events", Kind.SOURCE, "latest", unique_on=("k",)), record_body),
        }
        if chance.random() < 0.5:
            specs["latest"] = (replace(specs["latest"][0], whole=True), record_body)
        chosen = {name for part in PARTS if chance.random() < 0.5 for name in part} or {*chance.choice(PARTS)}
        return {name: spec for name, spec in specs.items() if name in chosen}

    def wanted(self) -> frozenset[str]:
        """The names of what workers may run: an agent, or one partition of it."""
        names = set()
        for spec, _ in self.specs.values():
            if spec.whole:
                names.add(spec.name)
            else:
                names |= {f"{spec.name}|{partition.index}" for partition in self.inputs(spec)}
        names.update(self.programs)
        if self.swaps and "copy" in self.specs:
            names.add("swap")
        if self.tidies:
            names.add("tidy")
        return frozenset(names)

    def reading(self) -> dict[str, tuple[tuple[str, Kind], ...]]:
        """What each agent and program reads."""
        return {spec.name: spec.inputs for spec, _ in self.specs.values()} | dict.fromkeys(self.programs, (SOURCE,))

    def inputs(self, spec: AgentSpec) -> list[Partition]:
        """The partitions that an agent reads, as they are now."""
        return partitions_of(self.inner, spec.inputs)

    def task(self, name: str, worker: Worker) -> Task[None]:
        """What a worker runs under this name."""
        if name == "swap":
            return Swapper(
                "swap", "shared", worker.store, worker.process, enough=lambda: self.scheduler.now_s >= FAULTS_S
            ).run()
        if name == "tidy":
            return tidy_again_and_again(worker.store, worker.process, graph_of(self.reading(), ("orders", "events")))
        if name in PROGRAMS:
            return Runner(spec_of(name, records_max=self.program_records_max), worker.store, worker.process).run()
        agent, _, index = name.partition("|")
        return self.agent(agent, worker, only=int(index) if index else None).run()

    def agent(self, name: str, worker: Worker, *, only: int | None = None, rebuild: Rebuild | None = None) -> Agent:
        spec, body = self.specs[name]

        def partitions() -> Sequence[Partition]:
            return [partition for partition in self.inputs(spec) if only is None or partition.index == only]

        return Agent(
            spec,
            body(),
            worker.store,
            worker.process,
            partitions=partitions,
            worker=worker.process.name,
            until_idle=rebuild is not None,
            rebuild=rebuild,
        )

    # What happens

    def run(self) -> None:
        """Let things go wrong for a while, then let everything be consumed."""
        outside = Process("outside", self.scheduler, seed=1, mortal=False)
        records = self._chance.randint(5, 30)
        self.inner.log.ensure_topic("orders", partitions=self.partitions)
        self.inner.log.ensure_topic("events", partitions=self.partitions)
        for topic in ("orders", "events"):
            self._senders_left += 1
            self.scheduler.spawn(f"sender of {topic}", outside, self._sender(topic, records, outside))
        for place in range(self.workers_max):
            self._hire(place)
        self.scheduler.spawn("fate", outside, lambda: self._fate(outside))
        if self.grows:
            self.scheduler.spawn("growth", outside, self._grow)
        crash_points.arm(self._at_crash_point)
        try:
            self.scheduler.run(FAULTS_S)
            self.faults = self.faults.ended()
            self.scheduler.note("the faults end")
            for worker in self.workers.values():
                worker.process.stalled_until_s = 0.0
            self.scheduler.run(FAULTS_S + HEALING_S, done=self.is_consumed)
        finally:
            crash_points.arm(None)
            self.scheduler.close()
            self.workers.clear()

    def _hire(self, place: int) -> None:
        self._lives += 1
        self.workers[place] = Worker(self, f"worker{place}.{self._lives}")

    def _fate(self, outside: Process) -> None:
        """Dead workers come back; now and then one thinks that it owns what it does not, or somebody rewinds."""
        chance = self.scheduler.random
        while True:
            self.scheduler.pause(chance.random() * 2)
            for place, worker in self.workers.items():
                if not worker.process.alive:
                    self._hire(place)
            worker = self.workers[chance.randrange(self.workers_max)]
            if chance.random() < self.faults.usurp:
                worker.usurp(chance.choice(sorted(self.wanted())))
            if chance.random() < 0.3:
                self._hand_back(chance)
            if self.rewinds and "land" in self.specs and self.scheduler.now_s < FAULTS_S and chance.random() < 0.1:
                self._rewind(chance.choice(["land", "map"]), worker)

    def _grow(self) -> None:
        """Both topics get more partitions, one some time after the other. Keys move, so what is merged by key over
        all of them has no order any more that could be foretold: no run with such an agent grows."""
        self.partitions += self._growth.randint(1, 2)
        for topic in self._growth.sample(["orders", "events"], 2):
            self.scheduler.pause(self._growth.random() * FAULTS_S / 2)
            self.inner.log.ensure_topic(topic, partitions=self.partitions)
            self.scheduler.note(f"{topic} grows to {self.partitions} partitions")
            self.committed()

    def _hand_back(self, chance: random.Random) -> None:
        """A person wants a dead letter tried again. It fails again, and must be told of again, once."""
        with self.inner.write() as tx:
            letters = tx.dead_letters.all(state=DeadLetterState.OPEN)
            if letters and self.scheduler.now_s < FAULTS_S:
                letter = chance.choice(letters)
                tx.dead_letters.settle(letter.letter_id, old=DeadLetterState.OPEN, new=DeadLetterState.RETRYING)
                self.scheduler.note(f"dead letter {letter.offset} of {letter.build} is handed back")

    def _rewind(self, name: str, worker: Worker) -> None:
        spec, _ = self.specs[name]

        def run() -> None:
            rewind = Rewind(
                spec,
                worker.store,
                worker.process,
                make=lambda rebuild: self.agent(name, worker, rebuild=rebuild),
            )
            try:
                worker.drive(rewind.run())
            except (Fenced, TransientError, UsageError, PositionInvalid) as error:
                self.scheduler.note(f"a rewind of {name} ends: {error}")

        self.scheduler.note(f"{worker.process.name} rewinds {name}")
        worker.spawn(f"rewind of {name}", run)

    def _sender(self, topic: str, records: int, process: Process) -> Callable[[], None]:
        """Sends each record again until it is acknowledged, and then remembers that it was."""
        chance = self._chance
        log = FaultyStore(self.inner, Connection(self, process)).log
        typed, trouble = chance.random() < 0.5, self.trouble
        sent = [make_record(topic, number, chance, trouble=trouble, typed=typed) for number in range(records)]

        def run() -> None:
            while sent:
                together = [sent.pop(0) for _ in range(min(len(sent), self.scheduler.random.randint(1, 4)))]
                requests = [_request(topic, record, process) for record in together]
                while True:
                    try:
                        answers = log.append(requests)
                        break
                    except TransientError:
                        self.scheduler.pause(0.05)
                assert len(answers) == len(requests)
                for record in together:
                    self.acked[f"{topic}/{record.request_id}"] = record.body
                self.scheduler.pause(self.scheduler.random.random() * FAULTS_S / records)
            self._senders_left -= 1

        return run

    def _at_crash_point(self, name: str) -> None:
        if self.faults.kill_at_crash_point and self.scheduler.random.random() < self.faults.kill_at_crash_point:
            process = self.scheduler.current().process
            if process.mortal:
                self.scheduler.note(f"{process.name} dies at {name}")
                self.scheduler.kill(process)
                raise Killed

    def committed(self) -> None:
        """Something was committed: each process gets a hint of it, late, twice, or not at all."""
        chance, faults = self.scheduler.random, self.faults
        if faults.deaf:
            return
        for worker in self.workers.values():
            if faults.hint_lost and chance.random() < faults.hint_lost:
                continue
            self.scheduler.hint(worker.process, chance.random() * 0.02)
            if faults.hint_repeated and chance.random() < faults.hint_repeated:
                self.scheduler.hint(worker.process, chance.random())

    def is_consumed(self) -> bool:
        """Whether every agent has read everything there is, as the store has it."""
        if self._senders_left:
            return False
        with self.inner.read() as tx:
            for name, inputs in self.reading().items():
                build = tx.agents.live_build(name)
                letters = tx.dead_letters.all(agent=name, state=DeadLetterState.RETRYING)
                if build is None or any(letter.build == build for letter in letters):
                    return False
                positions = {position.partition: position for position in tx.agents.positions(build)}
                for partition in partitions_of(self.inner, inputs):
                    position = positions.get(partition) or Position(partition, 0, epoch=0)
                    if not self._is_at_end(tx, position):
                        return False
        return True

    def _is_at_end(self, tx: Transaction, position: Position) -> bool:
        partition = position.partition
        if partition.kind is Kind.SOURCE:
            info = self.inner.log.topic(partition.topic)
            return info is not None and position.next_offset == info.end_offsets[partition.index]
        table = tx.tables.table(partition.topic)
        if table is None or table.active_version is None:
            return True
        if position.version != table.active_version:
            return not any(
                s.end_offset
                for v in tx.tables.versions(table.name)
                for s in tx.tables.sequencers(table.name, v.version)
                if s.key.partition == partition.index
            )
        ends = {s.key.partition: s.end_offset for s in tx.tables.sequencers(table.name, position.version)}
        return position.next_offset >= ends.get(partition.index, 0)


def _request(topic: str, record: Sent, process: Process) -> AppendRequest:
    return AppendRequest(topic, (Entry(record.body, record.key),), process.now(), record.request_id)
