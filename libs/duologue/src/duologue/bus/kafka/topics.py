"""Topics as code: what a cluster must have, compared with what it has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka.errors import (
    BrokerResponseError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from duologue.bus.dead_letters import REPLAYS
from duologue.bus.kafka.client import MOST_MESSAGE_BYTES, KafkaClients
from duologue.bus.kafka.options import KAFKA, KafkaOptions
from duologue.bus.kafka.rights import require_rights, rights_of
from duologue.contracts.topics import TOPICS, Topic
from duologue.core.problems import WrongSetting

_DAY_MS = 86_400_000
_DAYS = 7
_DEAD_LETTER_DAYS = 30
# The controller answers for a change before the brokers have heard of it; they do within moments.
_HEARD_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class Wanted:
    """A topic as it should be; `settings` by Kafka's names."""

    name: str
    partitions: int
    replicas: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """Something of a topic that is not as it should be.

    `kind`: `missing`, `partitions` and `setting` are mended by `apply`. `more_partitions` and `replicas` are left
    alone: partitions can't be taken away, and moving replicas is the business of who runs the cluster.
    """

    kind: str
    topic: Wanted
    what: str
    setting: str = ""

    @property
    def is_mended(self) -> bool:
        return self.kind in ("missing", "partitions", "setting")

    @property
    def is_harmless(self) -> bool:
        return self.kind == "more_partitions"


class Topics:
    """The topics of a cluster. All of it blocks, and raises `WrongSetting` with what the brokers refused."""

    def __init__(self, admin: KafkaAdminClient) -> None:
        self._admin = admin

    @classmethod
    def of(cls, url: str, options: KafkaOptions) -> Topics:
        servers = url.removeprefix(KAFKA)
        if servers == url or not servers:
            raise WrongSetting(f"{url!r} is no bus on Kafka, such as {KAFKA}host:9092 (setting bus.url)")
        clients = KafkaClients(servers.split(","), options, "duologue-topics")
        clients.require_admission()
        with _refusals(f"no bus on {servers}"):
            return cls(clients.admin())

    def __enter__(self) -> Topics:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()

    def compare(self, replicas: int = 0, partitions: int = 0) -> list[Difference]:
        """What differs, topic by topic.

        0 replicas: three, or as many as there are brokers. 0 partitions: those of the table.
        """
        with _refusals("topics can't be read"):
            wanted = wanted_topics(replicas or min(len(self._admin.describe_cluster()["brokers"]), 3), partitions)
            found = self._found([topic.name for topic in wanted])
        return [difference for topic in wanted for difference in _differences(topic, found.get(topic.name))]

    def compare_mended(self, replicas: int = 0, partitions: int = 0) -> list[Difference]:
        """What differs once the brokers have heard of what was mended, or after ten seconds."""
        deadline = time.monotonic() + _HEARD_SECONDS
        left = self.compare(replicas, partitions)
        while any(difference.is_mended for difference in left) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
            left = self.compare(replicas, partitions)
        return left

    def require_rights_of(self, service: str) -> None:
        with _refusals("rights can't be read"):
            require_rights(self._admin, rights_of(service))

    def mend(self, difference: Difference) -> None:
        topic = difference.topic
        with _refusals(f"{topic.name} can't be mended"):
            if difference.kind == "missing":
                shape = {"num_partitions": topic.partitions, "replication_factor": topic.replicas}
                self._admin.create_topics({topic.name: {**shape, "configs": topic.settings}}, wait_for_metadata=True)
            elif difference.kind == "partitions":
                self._admin.create_partitions({topic.name: topic.partitions})
            elif difference.kind == "setting":
                changed = {difference.setting: topic.settings[difference.setting]}
                self._admin.alter_configs([ConfigResource("TOPIC", topic.name, changed)])
            else:
                raise ValueError(f"{topic.name} {difference.what}: that is not mended from here")

    def _found(self, names: Sequence[str]) -> dict[str, _Found]:
        """Those that the cluster has."""
        topics = sorted(self._admin.describe_topics(names), key=lambda topic: str(topic["name"]))
        # The names of what we may not see are not in the list of topics, as if it were not there.
        if hidden := [topic["name"] for topic in topics if topic["error_code"] == TopicAuthorizationFailedError.errno]:
            raise WrongSetting(f"right missing: Describe on {', '.join(hidden)}")
        topics = [topic for topic in topics if topic["error_code"] != UnknownTopicOrPartitionError.errno]
        settings = self._settings_of([topic["name"] for topic in topics])
        return {
            topic["name"]: _Found(
                partitions=len(topic["partitions"]),
                replicas=min(len(partition["replica_nodes"]) for partition in topic["partitions"]),
                settings={name: config["value"] for name, config in settings[topic["name"]].items()},
            )
            for topic in topics
        }

    def _settings_of(self, names: Sequence[str]) -> dict[str, Any]:
        if not names:
            return {}
        resources = [ConfigResource("TOPIC", name) for name in names]
        found: dict[str, Any] = self._admin.describe_configs(resources, config_filter="all")["topic"]
        if hidden := [name for name, settings in sorted(found.items()) if not settings]:
            raise WrongSetting(f"right missing: DescribeConfigs on {', '.join(hidden)}")
        return found


def wanted_topics(replicas: int, partitions: int = 0) -> list[Wanted]:
    """All topics, each with the retries and dead letters of its groups."""
    return [
        *(wanted for topic in TOPICS for wanted in _with_asides(topic, replicas, partitions)),
        Wanted(REPLAYS, 1, replicas, _settings(replicas, compacted=True)),
    ]


@dataclass(frozen=True)
class _Found:
    partitions: int
    replicas: int
    settings: Mapping[str, str]


def _with_asides(topic: Topic, replicas: int, partitions: int) -> Iterator[Wanted]:
    count = partitions if partitions and topic.key == "dialogue_id" else topic.partitions
    yield Wanted(topic.name, count, replicas, _settings(replicas, compacted=topic.compacted))
    for group in topic.consumers:
        yield Wanted(topic.retry(group), count, replicas, _settings(replicas))
        yield Wanted(topic.dead_letters(group), min(count, 3), replicas, _settings(replicas, days=_DEAD_LETTER_DAYS))


def _settings(replicas: int, *, days: int = _DAYS, compacted: bool = False) -> dict[str, str]:
    return {
        "cleanup.policy": "compact" if compacted else "delete",
        "retention.ms": "-1" if compacted else str(days * _DAY_MS),
        # A record that was acknowledged survives the loss of a broker.
        "min.insync.replicas": str(max(replicas - 1, 1)),
        "max.message.bytes": str(MOST_MESSAGE_BYTES),
    }


def _differences(wanted: Wanted, found: _Found | None) -> Iterator[Difference]:
    if found is None:
        yield Difference("missing", wanted, f"is missing: {wanted.partitions} partitions, {wanted.replicas} replicas")
        return
    if found.partitions < wanted.partitions:
        yield Difference("partitions", wanted, f"has {found.partitions} partitions, should have {wanted.partitions}")
    elif found.partitions > wanted.partitions:
        yield Difference("more_partitions", wanted, f"has {found.partitions} partitions, more than {wanted.partitions}")
    if found.replicas != wanted.replicas:
        yield Difference("replicas", wanted, f"has {found.replicas} replicas, should have {wanted.replicas}")
    for setting, value in wanted.settings.items():
        if found.settings.get(setting) != value:
            what = f"has {setting}={found.settings.get(setting)}, should have {value}"
            yield Difference("setting", wanted, what, setting)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except BrokerResponseError as error:  # its text is the whole exchange, in the protocol's words
        raise WrongSetting(f"{what}: {error.description}") from error
    except KafkaError as error:
        raise WrongSetting(f"{what}: {error}") from error
