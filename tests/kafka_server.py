"""A real Apache Kafka for the tests and for developers: KRaft brokers in directories of their own.

What a test may ask for (the fixtures are in tests/conftest.py):

- `kafka_bootstrap`: the broker that all tests of a run share. `kafka_topic`: a topic name of this test's alone, and the
  prefix of any other topics, groups and transactional ids that it makes.
- `kafka`: a `KafkaCluster` of one broker that the test owns whole.
- `with temporary_kafka(size, …)`: a cluster made to measure: several brokers, settings, SASL, TLS, a port for a proxy.
  Such a test asks for the fixture `kafka_libraries` too.
- `with proxied_kafka() as (cluster, proxy)`: clients reach the broker through `tests.tcp_proxy`, `cluster.tool` and
  `cluster.direct_bootstrap` go past it.
- `cluster.stop(SIGKILL)`, `.start()`, `.restart(SIGKILL)`, and the same of one of `cluster.brokers`: a restart keeps
  ports and data. A broker ends with the thread that started it, so start it from the test's own.
- `cluster.tool(name, …)`, or `tool(name, bootstrap, …)`: one of Kafka's own command line programs (TOOLS).

`python -m tests.kafka_server keep …` keeps the shared broker; `… run` is a developer's (`make kafka`). The jars come
from Maven Central at first use.
"""

from __future__ import annotations

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

from tests.maven import BUILD, fetch, missing_programs
from tests.shared_server import end_with_parent, free_port, keep
from tests.tcp_proxy import TcpProxy, proxied

POM = Path(__file__).parent / "kafka" / "pom.xml"
LIBS = BUILD / "kafka" / "libs"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
QUORUM_STOP_TIMEOUT_S = 5.0
KEYSTORE = "broker.p12"
KEYSTORE_PASSWORD = "only-for-tests"
TOOL_OPTIONS = ("-Xmx256m", "-XX:TieredStopAtLevel=1")  # they live too short for the second compiler
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
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
}


class KafkaMissingError(Exception):
    """There is no Kafka to test with; the message says what to install or set."""


def check_installed() -> None:
    """Raises KafkaMissingError where neither a broker is named nor one could be started."""
    missing = missing_programs(LIBS)
    if missing:
        raise KafkaMissingError(
            f"Kafka is missing: install {' and '.join(missing)} (openjdk-17-jre-headless, maven), or set "
            "MILLSTREAM_TEST_KAFKA to a broker where topics may be made"
        )


def libraries() -> Path:
    """The folder of Kafka's jars, fetched at first use; several processes may ask at once."""
    check_installed()
    return fetch(LIBS, "-f", str(POM), "dependency:copy-dependencies")


@dataclass(slots=True)
class Broker:
    """One broker, which is a controller too. A restart keeps its ports and its data."""

    cluster: KafkaCluster
    node_id: int
    port: int
    controller_port: int
    direct_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def directory(self) -> Path:
        return self.cluster.directory / f"broker-{self.node_id}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it; `KafkaCluster.wait_until_ready` waits for the answer. Its storage has to be formatted."""
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                _java_command(
                    ["kafka.Kafka", str(self._settings_path)],
                    options=[f"-Xmx{self.cluster.heap_mb}m", self._log4j_option],
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: end_with_parent(signal.SIGKILL),  # noqa: PLW1509 - only a prctl
            )

    def format(self) -> subprocess.Popen[str] | None:
        """Write its settings, and begin to format its storage if it is new."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._settings_path.write_text("".join(f"{key}={value}\n" for key, value in self._settings().items()))
        (self.directory / "log4j2.properties").write_text(LOG4J.format(file=self.directory / "broker.log"))
        if (self.directory / "data" / "meta.properties").exists():
            return None
        words = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._settings_path)]
        command = _java_command(words, options=[*TOOL_OPTIONS, self._log4j_option])
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it: SIGTERM as an operator does, SIGKILL as a crash."""
        self.send_signal(how)
        self.wait_until_ended(STOP_TIMEOUT_S)

    def send_signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def wait_for(self, port: int, deadline: float) -> None:
        """Until something listens there. Raises RuntimeError where the broker ends first, or it takes too long."""
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError as error:
                if not self.is_running or time.monotonic() > deadline:
                    why = "did not answer" if self.is_running else "ended"
                    raise RuntimeError(f"the broker {why}: {error}\n{self.log_text()}") from error
                time.sleep(0.05)
            else:
                return

    def wait_until_ended(self, timeout_s: float | None = None) -> None:
        """Wait for its process; one that has not ended in time is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _settings_path(self) -> Path:
        return self.directory / "server.properties"

    @property
    def _log4j_option(self) -> str:
        return f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}"

    def log_text(self) -> str:
        files = (self.directory / "output", self.directory / "broker.log")
        return "\n".join(file.read_text(errors="replace")[-4000:] for file in files if file.exists())

    def _settings(self) -> dict[str, object]:
        cluster = self.cluster
        copies = min(3, len(cluster.brokers))
        settings: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": self.node_id,
            "log.dirs": self.directory / "data",
            "log.retention.ms": -1,  # records may be dated as a test needs them
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
            # A killed broker may come back once its old session has ended: 9 s of waiting as Kafka is set up.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        }
        return settings | self._listeners() | self._security() | dict(cluster.settings)

    def _listeners(self) -> dict[str, object]:
        """Where a broker advertises a proxy's port, it and our tools keep a listener that is not behind the proxy."""
        cluster = self.cluster
        open_at = {"CLIENT": self.port, "CONTROLLER": self.controller_port}
        advertised = {"CLIENT": cluster.advertised_port or self.port}
        protocols = {"CLIENT": cluster.security_protocol, "CONTROLLER": "PLAINTEXT"}
        if cluster.advertised_port is not None:
            open_at["DIRECT"] = advertised["DIRECT"] = self.direct_port
            protocols["DIRECT"] = "PLAINTEXT"
        voters = (f"{each.node_id}@127.0.0.1:{each.controller_port}" for each in cluster.brokers)
        return {
            "controller.quorum.voters": ",".join(voters),
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in open_at.items()),
            "advertised.listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in advertised.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "inter.broker.listener.name": "DIRECT" if "DIRECT" in open_at else "CLIENT",
            "controller.listener.names": "CONTROLLER",
        }

    def _security(self) -> dict[str, object]:
        cluster = self.cluster
        settings: dict[str, object] = {}
        if cluster.tls:
            settings |= {
                "ssl.keystore.location": cluster.directory / KEYSTORE,
                "ssl.keystore.password": KEYSTORE_PASSWORD,
                "ssl.key.password": KEYSTORE_PASSWORD,
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": cluster.ca_file,
            }
        if cluster.sasl_users:
            users = "".join(f' user_{name}="{password}"' for name, password in cluster.sasl_users.items())
            module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
            settings |= {
                "sasl.enabled.mechanisms": "PLAIN",
                "sasl.mechanism.inter.broker.protocol": "PLAIN",
                "listener.name.client.plain.sasl.jaas.config": (
                    f'{module} username="broker" password="{cluster.sasl_users["broker"]}"{users};'
                ),
            }
        return settings


@dataclass(slots=True)
class KafkaCluster:
    """Brokers under `directory`, on 127.0.0.1. `settings` come on top of each broker's.

    `port` is the broker's, and `advertised_port` is where clients are sent, for a proxy in between (one broker only).
    `sasl_users` turns on SASL/PLAIN, and needs a user `broker`. `tls` turns on TLS with a certificate of its own, which
    a client trusts by `ca_file`; it is for 127.0.0.1 and localhost. Both together are SASL over TLS.
    """

    directory: Path
    size: int = 1
    heap_mb: int = 512
    advertised_port: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    sasl_users: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False
    port: int | None = None
    brokers: list[Broker] = field(init=False, default_factory=list)

    def start(self) -> None:
        """Start all brokers, and return when each answers."""
        assert self.size == 1 or (self.port, self.advertised_port) == (None, None), "one port is for one broker"
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.brokers:
            ports = [self.port or free_port(), *(free_port() for _ in range(self.size - 1))]
            self.brokers = [Broker(self, 1 + place, port, free_port()) for place, port in enumerate(ports)]
        if self.tls and not self.ca_file.exists():
            _make_certificate(self.directory / KEYSTORE, self.ca_file)
        formats = [process for broker in self.brokers if (process := broker.format()) is not None]
        for process in formats:
            output, _ = process.communicate(timeout=START_TIMEOUT_S)
            if process.returncode != 0:
                raise RuntimeError(f"the broker's storage could not be formatted:\n{output}")
        for broker in self.brokers:
            if not broker.is_running:
                broker.start()
        self.wait_until_ready()

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End all at once. Of several, the last to go may not find the quorum that a tidy end needs: it is killed."""
        for broker in self.brokers:
            broker.send_signal(how)
        deadline = time.monotonic() + (STOP_TIMEOUT_S if self.size == 1 else QUORUM_STOP_TIMEOUT_S)
        for broker in self.brokers:
            broker.wait_until_ended(max(0.1, deadline - time.monotonic()))

    def restart(self, how: int = signal.SIGTERM) -> None:
        """Stop all and start them again on the same ports, with their data."""
        self.stop(how)
        self.start()

    @property
    def bootstrap(self) -> str:
        if self.advertised_port is not None:
            return f"127.0.0.1:{self.advertised_port}"
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    @property
    def direct_bootstrap(self) -> str:
        """Past the proxy, where there is one."""
        if self.advertised_port is None:
            return self.bootstrap
        return f"127.0.0.1:{self.brokers[0].direct_port}"

    @property
    def security_protocol(self) -> str:
        return ("SASL_SSL" if self.tls else "SASL_PLAINTEXT") if self.sasl_users else "SSL" if self.tls else "PLAINTEXT"

    @property
    def ca_file(self) -> Path:
        """The certificate that a client of a broker with TLS has to trust, as PEM."""
        return self.directory / "ca.pem"

    def tool(self, name: str, *arguments: str, input_text: str | None = None) -> str:
        """See `tool`."""
        return tool(name, self.direct_bootstrap, *arguments, input_text=input_text)

    def wait_until_ready(self) -> None:
        """A broker's listeners open once it has joined the cluster, one after the other."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for broker in self.brokers:
            ports = (broker.port,) if self.advertised_port is None else (broker.port, broker.direct_port)
            for port in ports:
                broker.wait_for(port, deadline)


def tool(name: str, bootstrap: str, *arguments: str, input_text: str | None = None) -> str:
    """What one of Kafka's own command line tools prints; see TOOLS. Raises RuntimeError where it fails."""
    done = _java([TOOLS[name], "--bootstrap-server", bootstrap, *arguments], input_text=input_text)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _java_command(words: Sequence[str], *, options: Sequence[str] = ()) -> list[str]:
    return ["java", "-Xshare:auto", "-XX:+UseSerialGC", *options, "-cp", f"{libraries()}/*", *words]


def _java(words: Sequence[str], *, input_text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = _java_command(words, options=TOOL_OPTIONS)
    return subprocess.run(command, capture_output=True, text=True, input=input_text, timeout=120)


def _make_certificate(keystore: Path, ca_file: Path) -> None:
    """A key and a certificate that it signs itself, by the keytool that comes with Java."""
    store = ["-keystore", str(keystore), "-storepass", KEYSTORE_PASSWORD, "-alias", "broker"]
    made = ["-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", "-dname", "CN=127.0.0.1", "-validity", "2"]
    names = ["-ext", "san=ip:127.0.0.1,dns:localhost", "-ext", "bc:c=ca:true"]
    for arguments in ([*made, *names], ["-exportcert", "-rfc", "-file", str(ca_file)]):
        done = subprocess.run(["keytool", *arguments, *store], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"keytool failed:\n{done.stdout}{done.stderr}")


@contextmanager
def temporary_kafka(
    size: int = 1,
    *,
    heap_mb: int = 512,
    advertised_port: int | None = None,
    settings: Mapping[str, object] | None = None,
    sasl_users: Mapping[str, str] | None = None,
    tls: bool = False,
    port: int | None = None,
) -> Iterator[KafkaCluster]:
    """A running cluster in a temporary directory, both gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="millstream-kafka-"))
    cluster = KafkaCluster(directory, size, heap_mb, advertised_port, settings or {}, sasl_users or {}, tls, port)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop(signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def proxied_kafka(*, settings: Mapping[str, object] | None = None) -> Iterator[tuple[KafkaCluster, TcpProxy]]:
    """One broker, and the proxy through which its clients are sent to it."""
    port = free_port()
    with proxied(port) as proxy, temporary_kafka(port=port, advertised_port=proxy.port, settings=settings) as cluster:
        yield cluster, proxy


@contextmanager
def _address() -> Iterator[str]:
    # Nobody kills the shared broker, and a busy machine must not make it look dead.
    with temporary_kafka(settings={"broker.session.timeout.ms": 18000}) as cluster:
        yield cluster.bootstrap


def _run(port: int) -> None:
    """A developer's broker, until Ctrl-C; its records stay for the next time."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"port {port} can't be opened: {error.strerror}; try: make kafka PORT={port + 10}")
    cluster = KafkaCluster(BUILD / "kafka" / "data", port=port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print("starting Kafka …", file=sys.stderr, flush=True)
        cluster.start()
        print(f"Kafka listens; Ctrl-C stops it. To use it: log = kafka://{cluster.bootstrap}", flush=True)
        cluster.brokers[0].wait_until_ended()
        sys.exit(f"the broker ended by itself:\n{cluster.brokers[0].log_text()}")
    except KeyboardInterrupt:
        print("stopping Kafka …", file=sys.stderr, flush=True)
    except KafkaMissingError as error:
        sys.exit(str(error))
    finally:
        cluster.stop()


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep(Path(sys.argv[2]), int(sys.argv[3]), _address)
    else:
        _run(int(os.environ.get("PORT", "9092")))
