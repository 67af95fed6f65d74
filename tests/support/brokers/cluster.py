"""Real Kafka brokers without Docker: the jars come from Maven once, each broker is a JVM of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.support.proxy import Line
from tests.support.requirements import ROOT, missing

VERSION = "4.3.0"
_POM = Path(__file__).with_name("pom.xml")
_JARS = ROOT / ".cache" / f"kafka-{VERSION}"
_START_SECONDS = 90.0
_INSIDE, _CONTROLLER = "INSIDE", "CONTROLLER"
_JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def jars() -> Path:
    """The folder with the broker's jars, fetched on the first use."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        missing("a Kafka broker needs java and mvn")
    if not _JARS.exists():
        _JARS.parent.mkdir(exist_ok=True)
        fetched = Path(tempfile.mkdtemp(dir=_JARS.parent))
        command = ["mvn", "--batch-mode", "--quiet", "--file", str(_POM), "dependency:copy-dependencies"]
        done = subprocess.run([*command, f"-DoutputDirectory={fetched}"], capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(fetched)
            missing(f"Maven could not fetch Kafka: {done.stdout[-500:]}{done.stderr[-500:]}")
        try:
            fetched.rename(_JARS)
        except OSError:  # tests beside these were faster
            shutil.rmtree(fetched)
    return _JARS


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on; all are held until all are found, so that they differ."""
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Broker:
    """One broker, which is a controller too."""

    node: int
    port: int
    front: int
    folder: Path
    # Of the listeners beside the plain one, by name.
    ports: Mapping[str, int]
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"


@dataclass
class KafkaCluster:
    """Brokers on ports of this machine, to be killed, paused and started again one by one."""

    brokers: list[Broker]
    settings: Mapping[str, str] = field(default_factory=dict)
    jvm: Sequence[str] = ()

    @classmethod
    def start(
        cls,
        folder: Path,
        count: int = 1,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        jvm: Sequence[str] = (),
        fronts: Sequence[Line] = (),
        host: str = "127.0.0.1",
    ) -> KafkaCluster:
        """`settings` are added to each broker's, or replace them.

        `listeners`: beside the plain one, by name: their security protocols. `jvm`: options of the broker's. Clients of
        the plain one are sent to `fronts`, if there are any. `host`: the address of this machine to listen on.
        """
        listeners = listeners or {}
        free = iter(free_ports((3 + len(listeners)) * count, host))
        brokers = []
        for node in range(count):
            port = next(free)
            front = fronts[node].port if fronts else port
            ports = {name: next(free) for name in (*listeners, _INSIDE, _CONTROLLER)}
            brokers.append(Broker(node, port, front, folder / f"broker-{node}", ports, host))
        for broker, line in zip(brokers, fronts, strict=False):
            line.target = broker.port
        voters = ",".join(f"{broker.node}@{host}:{broker.ports[_CONTROLLER]}" for broker in brokers)
        cluster = cls(brokers, settings or {}, jvm)
        identity = uuid.uuid4().hex[:22]
        for broker in brokers:
            broker.folder.mkdir(parents=True)
            lines = {**_listeners(broker, listeners), **_settings(broker, voters, count), **cluster.settings}
            file = broker.folder / "server.properties"
            file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
            _java("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(file))
        for broker in brokers:
            cluster.run(broker)
        cluster.wait()
        return cluster

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{broker.host}:{broker.front}" for broker in self.brokers)

    def bootstrap_of(self, listener: str) -> str:
        return ",".join(f"{broker.host}:{broker.ports[listener]}" for broker in self.brokers)

    def run(self, broker: Broker) -> None:
        command = [
            "java",
            *_JVM,
            *self.jvm,
            "-cp",
            f"{jars()}/*",
            "kafka.Kafka",
            str(broker.folder / "server.properties"),
        ]
        with broker.log.open("ab") as log:
            broker.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def wait(self) -> None:
        """Until every broker answers, and has all others for members of the cluster."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            for broker in self.brokers:
                if broker.process is not None and broker.process.poll() is not None:
                    raise RuntimeError(f"broker {broker.node} ended:\n{broker.log.read_text()[-2000:]}")
            if all(self._knows_all(broker) for broker in self.brokers):
                return
            time.sleep(0.1)
        raise TimeoutError(f"no Kafka within {_START_SECONDS:g} s:\n{self.brokers[0].log.read_text()[-2000:]}")

    def _knows_all(self, broker: Broker) -> bool:
        try:
            admin = KafkaAdminClient(bootstrap_servers=f"{broker.host}:{broker.front}", bootstrap_timeout_ms=2000)
        except KafkaError:
            return False
        try:
            return len(admin.describe_cluster()["brokers"]) == len(self.brokers)
        except KafkaError:
            return False
        finally:
            admin.close()

    def delete_topic(self, name: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.delete_topics([name])
        finally:
            admin.close()

    def signal(self, broker: Broker, number: signal.Signals) -> None:
        """SIGKILL, SIGSTOP, SIGCONT. A killed broker is waited for, so that it can be `run` again."""
        assert broker.process is not None
        os.kill(broker.process.pid, number)
        if number is signal.SIGKILL:
            broker.process.wait()

    def close(self) -> None:
        for broker in self.brokers:
            if broker.process is not None and broker.process.poll() is None:
                broker.process.kill()
                broker.process.wait()


def _listeners(broker: Broker, others: Mapping[str, str]) -> dict[str, str]:
    """Clients, brokers and controllers each on a port of their own."""
    protocols = {"PLAINTEXT": "PLAINTEXT", **others, _INSIDE: "PLAINTEXT", _CONTROLLER: "PLAINTEXT"}
    ports = {"PLAINTEXT": broker.port, **broker.ports}
    told = {**ports, "PLAINTEXT": broker.front}
    return {
        "listeners": ",".join(f"{name}://{broker.host}:{port}" for name, port in ports.items()),
        "advertised.listeners": ",".join(
            f"{name}://{broker.host}:{port}" for name, port in told.items() if name != _CONTROLLER
        ),
        "inter.broker.listener.name": _INSIDE,
        "controller.listener.names": _CONTROLLER,
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
    }


def _settings(broker: Broker, voters: str, count: int) -> dict[str, str]:
    replicas = min(count, 3)
    in_sync = max(replicas - 1, 1)
    return {
        "process.roles": "broker,controller",
        "node.id": str(broker.node),
        "controller.quorum.voters": voters,
        "log.dirs": str(broker.folder / "data"),
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": "8",
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.num.partitions": "8",
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": str(replicas),
        # A test does not wait as long as a data centre does.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "500",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }


def _java(main: str, *arguments: str) -> None:
    subprocess.run(
        ["java", *_JVM, "-cp", f"{jars()}/*", main, *arguments], check=True, capture_output=True, timeout=_START_SECONDS
    )
