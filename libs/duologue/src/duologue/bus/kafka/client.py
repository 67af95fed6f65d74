"""kafka-python's clients as we use them: encrypted, authenticated, exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from duologue.bus.kafka.admission import require_admission
from duologue.bus.kafka.assignor import TopicStickyAssignor
from duologue.bus.kafka.options import KafkaOptions
from duologue.bus.kafka.security import security_of
from duologue.bus.record import MOST_BYTES, MOST_HEADER_BYTES

# With what Kafka keeps beside a record; a topic's max.message.bytes must not be less.
MOST_MESSAGE_BYTES = MOST_BYTES + MOST_HEADER_BYTES + 4096
# An open transaction of a process that died hides what others wrote behind it for as long.
_TRANSACTION_MS = 15_000
_HEARTBEATS_PER_SESSION = 6
_SLACK_SECONDS = 60.0


class KafkaClients:
    """Makes clients of one cluster. `name` is what the brokers' logs call them."""

    def __init__(self, servers: Sequence[str], options: KafkaOptions, name: str) -> None:
        """Raises `WrongSetting` for a file that can't be used."""
        self._options = options
        self._name = name
        self._common: dict[str, Any] = {
            "bootstrap_servers": list(servers),
            "client_id": name,
            "bootstrap_timeout_ms": 10_000,
            "reconnect_backoff_max_ms": 2000,
            "metadata_max_age_ms": 30_000,
            **security_of(options),
        }

    def require_admission(self) -> None:
        """Raises `WrongSetting` where the brokers refuse us. Blocks."""
        require_admission(self._common, self._options)

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(**self._common)

    def reader(self) -> KafkaConsumer:
        """A consumer that is in no group."""
        return self._consumer(group_id=None)

    def member(self, group: str) -> KafkaConsumer:
        """A consumer that joins a group when it polls; before that it can ask for what the group has committed."""
        session_ms = int(self._options.session_seconds * 1000)
        instance = {"group_instance_id": f"{group}-{self._options.instance}"} if self._options.instance else {}
        return self._consumer(
            group_id=group,
            # A member keeps its partitions and its work over a change in the group, but for those that it hands over.
            partition_assignment_strategy=(TopicStickyAssignor,),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // _HEARTBEATS_PER_SESSION,
            # The group waits as long for a member that hands over.
            max_poll_interval_ms=int((self._options.handover_seconds + _SLACK_SECONDS) * 1000),
            **instance,
        )

    def producer(self) -> KafkaProducer:
        """A producer with the same transactional id every time, so that the next one ends what this one leaves open."""
        return KafkaProducer(
            **self._common,
            transactional_id=self._name,
            transaction_timeout_ms=_TRANSACTION_MS,
            max_block_ms=10_000,
            retry_backoff_ms=20,  # the broker still ends one transaction when the next begins
            acks="all",
            batch_size=262_144,
            max_request_size=MOST_MESSAGE_BYTES,
            allow_auto_create_topics=False,
        )

    def _consumer(self, **of_group: Any) -> KafkaConsumer:
        return KafkaConsumer(
            **self._common,
            **of_group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            fetch_max_wait_ms=100,
        )
