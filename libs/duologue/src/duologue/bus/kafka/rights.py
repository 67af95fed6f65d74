"""What a service must be allowed to do on a cluster, and what of that it is not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.errors import (
    AuthorizationError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from duologue.contracts.topics import TOPICS
from duologue.core.problems import WrongSetting

# What the names of our clients and the transactional ids of our producers begin with.
NAMES = "duologue-"

_FIRST_GROUP_SECONDS = 10.0
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Rights:
    """Names of topics, and of the groups that read some of them."""

    groups: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def rights_of(service: str) -> Rights:
    """By the table of topics. A service writes to the retries and dead letters of what it consumes, too."""
    consumed = [topic for topic in TOPICS if service in topic.consumers]
    produced = [topic.name for topic in TOPICS if service in topic.producers]
    followed = [topic.name for topic in TOPICS if service in topic.followers]
    retries = [topic.retry(service) for topic in consumed]
    return Rights(
        groups=tuple(topic.consumer_group(service) for topic in consumed),
        reads=(*(topic.name for topic in consumed), *retries, *followed),
        writes=(*produced, *retries, *(topic.dead_letters(service) for topic in consumed)),
    )


def require_rights(admin: KafkaAdminClient, rights: Rights) -> None:
    """Raises `WrongSetting` with every topic and every right that is missing. Blocks."""
    if lacks := [*_lacks(admin, rights)]:
        raise WrongSetting("\n".join(lacks))


def as_missing_right(error: Exception) -> Exception:
    """`WrongSetting` with the right that is missing, for what a broker refuses for that; any other error as it is."""
    if isinstance(error, TransactionalIdAuthorizationFailedError):
        return WrongSetting(f"right missing: Write on transactional ids that begin with {NAMES}")
    if isinstance(error, GroupAuthorizationFailedError):
        return WrongSetting(f"right missing: Read on the consumer group{_named(error.args)}")
    if isinstance(error, TopicAuthorizationFailedError):
        return WrongSetting(f"right missing: Read or Write on topic{_named(error.args)}")
    if isinstance(error, AuthorizationError):
        return WrongSetting(f"right missing: {error.description}")
    return error


def _lacks(admin: KafkaAdminClient, rights: Rights) -> Iterator[str]:
    names = sorted({*rights.reads, *rights.writes})
    found = {topic["name"]: topic for topic in admin.describe_topics(names)} if names else {}
    missing = [
        name for name, topic in sorted(found.items()) if topic["error_code"] == UnknownTopicOrPartitionError.errno
    ]
    if missing:
        yield f"topics are missing: {', '.join(missing)}; `duologue topics apply` makes them"
    for right, topics in (("Read", rights.reads), ("Write", rights.writes)):
        for name in topics:
            if name not in missing and right.upper() not in _allowed(found[name]):
                yield f"right missing: {right} on topic {name}"
    for group in rights.groups:
        if not _may_join(admin, group):
            yield f"right missing: Read on the consumer group {group}"


def _allowed(topic: dict[str, object]) -> Iterable[str]:
    allowed = topic.get("authorized_operations")
    return allowed if isinstance(allowed, list) else ()


def _may_join(admin: KafkaAdminClient, group: str) -> bool:
    """A cluster whose first group this is needs a moment. One that can't tell now tells when we join."""
    deadline = time.monotonic() + _FIRST_GROUP_SECONDS
    while time.monotonic() < deadline:
        try:
            return "AuthorizationFailed" not in (admin.describe_groups([group])[group]["error"] or "")
        except GroupAuthorizationFailedError:
            return False
        except KafkaError as error:
            if not error.retriable:
                raise
            time.sleep(_PAUSE_SECONDS)
    return True


def _named(arguments: tuple[object, ...]) -> str:
    named = next(iter(arguments), "")
    return " " + ", ".join(sorted(map(str, named))) if isinstance(named, (set, frozenset, list)) else f" {named}"
