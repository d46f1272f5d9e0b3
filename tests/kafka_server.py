"""A real Apache Kafka for the tests and for developers: KRaft brokers in directories of their own.

`KafkaCluster` is one that a test owns whole: it may stop, kill and restart its brokers. `python -m tests.kafka_server
keep …` keeps the one that all tests of a run share; `python -m tests.kafka_server run` is a developer's (`make kafka`).
The jars come from Maven Central at first use.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.shared_server import end_with_parent, free_port, keep

ROOT = Path(__file__).parents[1]
POM = ROOT / "tests" / "kafka" / "pom.xml"
LIBS = ROOT / "build" / "kafka" / "libs"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
CLUSTER_ID = "bWlsbHN0cmVhbS10ZXN0cw"
LOG4J = """status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = {file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
"""
TOOLS = {
    "console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
}


class KafkaMissingError(Exception):
    """There is no Kafka to test with; the message says what to install or set."""


def check_installed() -> None:
    """Raises KafkaMissingError where neither a broker is named nor one could be started."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if missing and not LIBS.exists():
        raise KafkaMissingError(
            f"Kafka is missing: install {' and '.join(missing)} (openjdk-17-jre-headless, maven), or set "
            "KAFKA_BOOTSTRAP to a broker where topics may be made"
        )


def libraries() -> Path:
    """The folder of Kafka's jars, fetched at first use; several processes may ask at once."""
    LIBS.parent.mkdir(parents=True, exist_ok=True)
    with (LIBS.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not LIBS.exists():
            check_installed()
            unfinished = LIBS.with_name("libs.new")
            shutil.rmtree(unfinished, ignore_errors=True)
            command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
            done = subprocess.run([*command, f"-DoutputDirectory={unfinished}"], capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"Maven could not fetch Kafka:\n{done.stdout}{done.stderr}")
            unfinished.rename(LIBS)
    return LIBS


@dataclass(slots=True)
class Broker:
    """One broker, which is a controller too. A restart keeps its ports and its data."""

    cluster: KafkaCluster
    node_id: int
    port: int
    controller_port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def directory(self) -> Path:
        return self.cluster.directory / f"broker-{self.node_id}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it, its storage formatted if it is new; `KafkaCluster.wait_until_ready` waits for the answer."""
        settings = self.directory / "server.properties"
        log4j = self.directory / "log4j2.properties"
        if not settings.exists():
            self.directory.mkdir(parents=True)
            settings.write_text("".join(f"{key}={value}\n" for key, value in self._settings().items()))
            log4j.write_text(LOG4J.format(file=self.directory / "broker.log"))
            done = _java(
                ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(settings)],
                options=[f"-Dlog4j2.configurationFile={log4j}"],
            )
            if done.returncode != 0:
                raise RuntimeError(f"the broker's storage could not be formatted:\n{done.stdout}{done.stderr}")
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                _java_command(
                    ["kafka.Kafka", str(settings)],
                    options=[f"-Xmx{self.cluster.heap_mb}m", "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={log4j}"],
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: end_with_parent(signal.SIGKILL),  # noqa: PLW1509 - only a prctl
            )

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it: SIGTERM as an operator does, SIGKILL as a crash."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        files = (self.directory / "output", self.directory / "broker.log")
        return "\n".join(file.read_text(errors="replace")[-4000:] for file in files if file.exists())

    def _settings(self) -> dict[str, object]:
        cluster = self.cluster
        copies = min(3, len(cluster.brokers))
        voters = ",".join(f"{each.node_id}@127.0.0.1:{each.controller_port}" for each in cluster.brokers)
        settings: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": self.node_id,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{cluster.advertised_port or self.port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.directory / "data",
            "num.partitions": 1,
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 5,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(2, copies),
            "transaction.state.log.num.partitions": 5,
            "default.replication.factor": copies,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        }
        if cluster.sasl_users:
            users = "".join(f' user_{name}="{password}"' for name, password in cluster.sasl_users.items())
            module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
            settings |= {
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT",
                "sasl.enabled.mechanisms": "PLAIN",
                "sasl.mechanism.inter.broker.protocol": "PLAIN",
                "listener.name.plaintext.plain.sasl.jaas.config": (
                    f'{module} username="broker" password="{cluster.sasl_users["broker"]}"{users};'
                ),
            }
        return settings | dict(cluster.settings)


@dataclass(slots=True)
class KafkaCluster:
    """Brokers under `directory`, on 127.0.0.1. `settings` come on top of each broker's.

    `advertised_port` is where clients are sent, for a proxy in between (one broker only). `sasl_users` turns on
    SASL/PLAIN without TLS, and needs a user `broker`.
    """

    directory: Path
    size: int = 1
    heap_mb: int = 512
    advertised_port: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    sasl_users: Mapping[str, str] = field(default_factory=dict)
    brokers: list[Broker] = field(init=False, default_factory=list)

    def start(self) -> None:
        """Start all brokers, and return when each answers."""
        if not self.brokers:
            self.brokers = [Broker(self, 1 + place, free_port(), free_port()) for place in range(self.size)]
        for broker in self.brokers:
            broker.start()
        self.wait_until_ready()

    def stop(self, how: int = signal.SIGTERM) -> None:
        for broker in self.brokers:
            broker.stop(how)

    def restart(self, how: int = signal.SIGTERM) -> None:
        """Stop all and start them again on the same ports, with their data."""
        self.stop(how)
        self.start()

    @property
    def bootstrap(self) -> str:
        if self.advertised_port is not None:
            return f"127.0.0.1:{self.advertised_port}"
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    def wait_until_ready(self) -> None:
        """A broker's listener opens once it has joined the cluster."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for broker in self.brokers:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", broker.port), timeout=1).close()
                except OSError as error:
                    if not broker.is_running or time.monotonic() > deadline:
                        why = "did not answer" if broker.is_running else "ended"
                        raise RuntimeError(f"the broker {why}: {error}\n{broker.log_text()}") from error
                    time.sleep(0.05)
                else:
                    break


def tool(name: str, bootstrap: str, *arguments: str, input_text: str | None = None) -> str:
    """What one of Kafka's own command line tools prints; see TOOLS. Raises RuntimeError where it fails."""
    done = _java([TOOLS[name], "--bootstrap-server", bootstrap, *arguments], input_text=input_text)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _java_command(words: Sequence[str], *, options: Sequence[str] = ()) -> list[str]:
    return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=4", *options, "-cp", f"{libraries()}/*", *words]


def _java(
    words: Sequence[str], *, options: Sequence[str] = (), input_text: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = _java_command(words, options=["-Xmx256m", "-XX:+UseSerialGC", *options])
    return subprocess.run(command, capture_output=True, text=True, input=input_text, timeout=120)


@contextmanager
def temporary_kafka(
    size: int = 1,
    *,
    heap_mb: int = 512,
    advertised_port: int | None = None,
    settings: Mapping[str, object] | None = None,
    sasl_users: Mapping[str, str] | None = None,
) -> Iterator[KafkaCluster]:
    """A running cluster in a temporary directory, both gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="millstream-kafka-"))
    cluster = KafkaCluster(directory, size, heap_mb, advertised_port, settings or {}, sasl_users or {})
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop(signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _address() -> Iterator[str]:
    with temporary_kafka() as cluster:
        yield cluster.bootstrap


def _run(port: int) -> None:
    """A developer's broker, until Ctrl-C; its records stay for the next time."""
    cluster = KafkaCluster(ROOT / "build" / "kafka" / "data")
    cluster.brokers = [Broker(cluster, 1, port, port + 1)]
    print("starting Kafka …", file=sys.stderr, flush=True)
    cluster.start()
    print(f'Kafka listens. In millstream.toml: log = "kafka://{cluster.bootstrap}". Ctrl-C stops it.', flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("stopping Kafka …", file=sys.stderr, flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep(Path(sys.argv[2]), int(sys.argv[3]), _address)
    else:
        _run(int(os.environ.get("PORT", "9092")))
