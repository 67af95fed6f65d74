"""What a service must be allowed to do on Kafka, and what is said of a right that is missing."""

import pytest
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)

from duologue.bus.kafka.rights import as_missing_right, rights_of
from duologue.core.problems import WrongSetting


def test_a_service_reads_what_it_consumes_or_follows_and_writes_what_it_causes_or_puts_aside() -> None:
    rights = rights_of("roleplay")
    requested, released = "duologue.dialogue.requested.v1", "duologue.adapter.released.v1"
    followed = "duologue.campaign.cancelled.v1"
    assert set(rights.groups) == {f"{requested}.roleplay", f"{released}.roleplay"}
    retries = {f"{requested}.roleplay.retry", f"{released}.roleplay.retry"}
    assert set(rights.reads) == {requested, released, followed, *retries}
    assert set(rights.writes) == {
        "duologue.dialogue.generated.v1",
        f"{requested}.roleplay.retry",
        f"{requested}.roleplay.dlq",
        f"{released}.roleplay.retry",
        f"{released}.roleplay.dlq",
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TransactionalIdAuthorizationFailedError(), "Write on transactional ids that begin with duologue-"),
        (GroupAuthorizationFailedError("scoring"), "Read on the consumer group scoring"),
        (TopicAuthorizationFailedError({"b", "a"}), "Read or Write on topic a, b"),
        (TopicAuthorizationFailedError("a"), "Read or Write on topic a"),
        (ClusterAuthorizationFailedError(), "not authorized to use an inter-broker or administrative API"),
    ],
)
def test_a_right_that_is_missing_is_a_wrong_setting_that_names_it(error: KafkaError, said: str) -> None:
    refused = as_missing_right(error)
    assert isinstance(refused, WrongSetting)
    assert said in str(refused)


def test_any_other_error_stays_as_it_is() -> None:
    error = KafkaTimeoutError("late")
    assert as_missing_right(error) is error
