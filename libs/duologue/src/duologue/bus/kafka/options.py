"""What a bus on Kafka may be told. Imports nothing of kafka-python, so that settings may name it."""

from __future__ import annotations

from dataclasses import dataclass

# A bus on Kafka: this and the brokers, host:port,host:port.
KAFKA = "kafka://"


@dataclass(frozen=True)
class KafkaOptions:
    """How to reach the brokers, and how to be a member of a group.

    `tls`: with the system's certificate authorities, or with those of `ca_file`. `certificate_file` and `key_file` are
    ours, where the brokers ask for one. `mechanism`: one of SASL's, with name and password, or for OAUTHBEARER the file
    that holds the token. A token's file is read at every connection, the others when the bus opens.

    `instance`: a name that a process keeps over a restart. It comes back to its partitions without the group noticing
    (static membership), if it does within `session_seconds`; a member that is not heard of for longer loses them. One
    that is to hand some over has `handover_seconds` to finish what it has in work.
    """

    tls: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    mechanism: str = ""
    username: str = ""
    password: str = ""
    token_file: str = ""
    instance: str = ""
    session_seconds: float = 30.0
    handover_seconds: float = 300.0
