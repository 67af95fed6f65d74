"""A real broker that asks who is there: the right credentials, the wrong ones, those that have expired, and rights."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from kafka.admin import ACLOperation, ConfigResource, ResourceType

from duologue.bus import Record, open_bus
from duologue.bus.kafka.client import KafkaClients
from duologue.bus.kafka.options import KafkaOptions
from duologue.bus.kafka.rights import NAMES, rights_of
from duologue.contracts.topics import CAMPAIGN_CANCELLED, DIALOGUE_GENERATED, DIALOGUE_SCORED
from duologue.core.problems import WrongSetting
from tests.support.brokers.secured import ELSEWHERE, EXPIRED, MUTUAL, PLAIN, SCRAM, TLS, TOKEN, SecuredBroker
from tests.support.certificates import Authority, Certificate
from tests.support.command import duologue
from tests.support.eventually import soon
from tests.support.requirements import ROOT

TOPIC = ResourceType.TOPIC
READ, WRITE = ACLOperation.READ, ACLOperation.WRITE
PASSWORD, WRONG_PASSWORD = "s3cret-right", "s3cret-wrong"
PATIENCE_SECONDS = 60
GROUP = DIALOGUE_GENERATED.consumer_group("scoring")


@dataclass(frozen=True)
class World:
    """The broker, and what its users have to show."""

    broker: SecuredBroker
    folder: Path
    client: Certificate
    expired: Certificate
    stranger: Certificate

    def tls(self, **more: str) -> KafkaOptions:
        return KafkaOptions(tls=True, ca_file=str(self.broker.authority.file), **more)

    def certificate(self, certificate: Certificate) -> KafkaOptions:
        return self.tls(certificate_file=str(certificate.certificate), key_file=str(certificate.key))

    def scram(self, user: str, password: str = PASSWORD) -> KafkaOptions:
        return self.tls(mechanism="SCRAM-SHA-512", username=user, password=password)

    def token(self, name: str, text: str) -> KafkaOptions:
        file = self.folder / f"{name}.token"
        file.write_text(text + "\n")
        return self.tls(mechanism="OAUTHBEARER", token_file=str(file))

    def shown_token(self, options: KafkaOptions) -> str:
        return Path(options.token_file).read_text().strip() if options.token_file else "no token at all"

    async def opens(self, listener: str, options: KafkaOptions) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            bus = await open_bus(self.broker.url(listener), options)
        await bus.close()

    async def refusal(self, listener: str, options: KafkaOptions, service: str = "") -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(WrongSetting) as caught:
                await open_bus(self.broker.url(listener), options, service)
        return str(caught.value)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("secured")
    broker = SecuredBroker.start(folder)
    for user in ("alice", "bob"):
        broker.add_user(user, PASSWORD)
    for user in ("alice", "client", "carol", "ANONYMOUS"):
        allow_everything(broker, user)
    authority = broker.authority
    yield World(
        broker,
        folder,
        client=authority.issue("client"),
        expired=authority.issue("expired", is_expired=True),
        stranger=Authority(folder, "stranger").issue("client"),
    )
    broker.close()


@pytest.fixture(scope="module")
def topics(world: World) -> None:
    """All topics are there."""
    with pytest.MonkeyPatch.context() as patch:
        set_bus(patch, f"kafka://{world.broker.cluster.bootstrap}", KafkaOptions())
        assert duologue("topics", "apply", "--partitions", 1).status == 0


def allow_everything(broker: SecuredBroker, user: str) -> None:
    broker.allow(user, TOPIC, "duologue.", READ, WRITE)
    broker.allow(user, ResourceType.GROUP, GROUP, READ)
    broker.allow(user, ResourceType.TRANSACTIONAL_ID, "duologue-", WRITE)


def set_bus(patch: pytest.MonkeyPatch, url: str, options: KafkaOptions) -> None:
    for name, value in variables(url, options).items():
        patch.setenv(name, value)


def variables(url: str, options: KafkaOptions) -> dict[str, str]:
    """The same as settings."""
    names = ("tls", "ca_file", "certificate_file", "key_file", "mechanism", "username", "password", "token_file")
    shown = {name: str(getattr(options, name)) for name in names}
    return {"DUOLOGUE_BUS_URL": url, **{f"DUOLOGUE_KAFKA__{name.upper()}": value for name, value in shown.items()}}


RIGHT: dict[str, tuple[str, Callable[[World], KafkaOptions]]] = {
    "an authority that signed the broker's": (TLS, lambda world: world.tls()),
    "a certificate": (MUTUAL, lambda world: world.certificate(world.client)),
    "a password": (SCRAM, lambda world: world.scram("alice")),
    "a token": (TOKEN, lambda world: world.token("right", world.broker.tokens.issue("carol", 3600))),
}
WRONG: dict[str, tuple[str, Callable[[World], KafkaOptions], str]] = {
    "an authority that did not sign the broker's": (
        TLS,
        lambda world: replace(world.tls(), ca_file=str(world.folder / "stranger.pem")),
        "not trusted: unable to get local issuer certificate (setting kafka.ca_file)",
    ),
    "the system's authorities": (TLS, lambda _: KafkaOptions(tls=True), "(setting kafka.ca_file)"),
    "another host's certificate": (
        ELSEWHERE,
        World.tls,
        "certificate is not valid for '127.0.0.1' (the host in setting bus.url)",
    ),
    "a broker whose certificate has expired": (
        EXPIRED,
        World.tls,
        "not trusted: certificate has expired (it must be renewed)",
    ),
    "no TLS": (TLS, lambda _: KafkaOptions(), "speaks TLS only (set kafka.tls to true)"),
    "TLS where there is none": (PLAIN, World.tls, "does not speak TLS there (set kafka.tls to false"),
    "no certificate": (
        MUTUAL,
        World.tls,
        "asks for a certificate: bad certificate (setting kafka.certificate_file)",
    ),
    "a certificate that has expired": (
        MUTUAL,
        lambda world: world.certificate(world.expired),
        "refuses our certificate: certificate unknown (setting kafka.certificate_file)",
    ),
    "a certificate of another authority": (
        MUTUAL,
        lambda world: world.certificate(world.stranger),
        "refuses our certificate: certificate unknown (setting kafka.certificate_file)",
    ),
    "a wrong password": (
        SCRAM,
        lambda world: world.scram("alice", WRONG_PASSWORD),
        "refuses user 'alice' with this password (settings kafka.username and kafka.password)",
    ),
    "a user whom nobody knows": (SCRAM, lambda world: world.scram("mallory"), "refuses user 'mallory'"),
    "another mechanism": (
        SCRAM,
        lambda world: replace(world.scram("alice"), mechanism="SCRAM-SHA-256"),
        "does not take SCRAM-SHA-256 there (setting kafka.mechanism)",
    ),
    "no name": (SCRAM, World.tls, "hangs up on a client that does not say who it is (setting kafka.mechanism)"),
    "a name where nobody asks": (TLS, lambda world: world.scram("alice"), 'set kafka.mechanism to ""'),
    "a token that has expired": (
        TOKEN,
        lambda world: world.token("expired", world.broker.tokens.issue("carol", -60)),
        "expired.token, which expired at 20",
    ),
    "a token that nobody signed": (
        TOKEN,
        lambda world: world.token("forged", world.broker.tokens.issue("carol", 3600)[:-20] + "A" * 20),
        "forged.token (setting kafka.token_file)",
    ),
    "an empty token file": (
        TOKEN,
        lambda world: world.token("empty", ""),
        "empty.token is empty, and should hold a token (setting kafka.token_file)",
    ),
    "no token file": (
        TOKEN,
        lambda world: world.tls(mechanism="OAUTHBEARER", token_file="/nowhere/token"),  # noqa: S106
        "/nowhere/token can't be used: No such file or directory (setting kafka.token_file)",
    ),
    "another's key": (
        MUTUAL,
        lambda world: replace(world.certificate(world.client), key_file=str(world.stranger.key)),
        "(settings kafka.certificate_file and kafka.key_file)",
    ),
}


@pytest.mark.parametrize("what", RIGHT)
async def test_who_shows_the_right_thing_is_let_in(world: World, what: str) -> None:
    listener, options = RIGHT[what]
    await world.opens(listener, options(world))


@pytest.mark.parametrize("what", WRONG)
async def test_who_shows_anything_else_hears_which_setting_to_mend(world: World, what: str) -> None:
    listener, options, said = WRONG[what]
    refusal = await world.refusal(listener, options(world))
    assert said in refusal
    assert "s3cret" not in refusal


@pytest.mark.parametrize("what", ["a wrong password", "a token that has expired", "no certificate", "no TLS"])
def test_the_command_says_it_on_one_line(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    listener, options, said = WRONG[what]
    set_bus(monkeypatch, world.broker.url(listener), options(world))
    done = duologue("topics", "check")
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("what", ["a wrong password", "a token that nobody signed", "a certificate that has expired"])
async def test_a_service_ends_with_one_line_that_holds_no_secret(world: World, what: str) -> None:
    listener, options, said = WRONG[what]
    shown = options(world)
    status, errors = await end_of_service(world.broker.url(listener), shown)
    assert status == 2
    assert said in errors
    assert len(errors.splitlines()) == 1
    assert "s3cret" not in errors
    assert world.shown_token(shown) not in errors


async def end_of_service(url: str, options: KafkaOptions) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.tiny_service",
        cwd=ROOT,
        env={**os.environ, **variables(url, options), "DUOLOGUE_LOG__LEVEL": "debug"},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_a_token_that_is_refreshed_in_time_keeps_us_in(world: World, topics: None) -> None:
    lifetime = 5
    options = world.token("short", world.broker.tokens.issue("carol", lifetime))
    expired_at = time.time() + lifetime + 1
    bus = await open_bus(world.broker.url(TOKEN), options)
    world.token("short", world.broker.tokens.issue("carol", 3600))
    while time.time() < expired_at:  # the broker hangs up on a session that outlives its token
        await bus.publish([Record(DIALOGUE_SCORED.name, "key", b"value")])
    await bus.publish([Record(DIALOGUE_SCORED.name, "key", b"value")])
    await bus.close()


def test_a_renewed_certificate_is_shown_to_the_next_broker(world: World) -> None:
    ours = world.broker.authority.issue("renewed")
    ours.replace_with(world.expired)
    clients = KafkaClients([world.broker.cluster.bootstrap_of(MUTUAL)], world.certificate(ours), "test")
    with pytest.raises(WrongSetting, match="refuses our certificate"):
        clients.require_admission()
    ours.replace_with(world.client)
    clients.require_admission()
    ours.key.write_text("half of a")
    with pytest.raises(WrongSetting, match=r"kafka\.key_file"):
        KafkaClients([world.broker.cluster.bootstrap_of(MUTUAL)], world.certificate(ours), "test")


def test_a_key_under_a_passphrase_is_refused_and_not_asked_for(world: World) -> None:
    ours = world.broker.authority.issue("locked")
    ours.lock()
    with pytest.raises(WrongSetting, match=r"kafka\.key_file"):
        KafkaClients(["127.0.0.1:9"], world.certificate(ours), "test")


async def test_every_right_that_a_service_lacks_is_named(
    world: World, topics: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = world.scram("bob")
    set_bus(monkeypatch, world.broker.url(SCRAM), bob)
    assert "right missing: Write on transactional ids that begin with duologue-" in await world.refusal(SCRAM, bob)
    checked = duologue("topics", "check")
    assert checked.status == 2
    assert checked.err.startswith("right missing: Describe on duologue.")
    assert DIALOGUE_GENERATED.name in checked.err

    world.broker.allow("bob", ResourceType.TRANSACTIONAL_ID, "duologue-", WRITE)
    lacks = await world.refusal(SCRAM, bob, "scoring")
    assert set(lacks.splitlines()) == {
        f"right missing: Read on topic {CAMPAIGN_CANCELLED.name}",
        f"right missing: Read on topic {DIALOGUE_GENERATED.name}",
        f"right missing: Read on topic {DIALOGUE_GENERATED.retry('scoring')}",
        f"right missing: Write on topic {DIALOGUE_SCORED.name}",
        f"right missing: Write on topic {DIALOGUE_GENERATED.retry('scoring')}",
        f"right missing: Write on topic {DIALOGUE_GENERATED.dead_letters('scoring')}",
        f"right missing: Read on the consumer group {GROUP}",
    }
    assert set(duologue("topics", "check", "--service", "scoring").err.splitlines()) == set(lacks.splitlines())

    world.broker.allow("bob", TOPIC, "duologue.", READ)
    world.broker.allow("bob", ResourceType.GROUP, GROUP, ACLOperation.DESCRIBE)
    assert f"Write on topic {DIALOGUE_SCORED.name}" in await world.refusal(SCRAM, bob, "scoring")
    checked = duologue("topics", "check")
    assert checked.status == 2
    assert checked.err.startswith("right missing: DescribeConfigs on duologue.")
    world.broker.allow("bob", TOPIC, "duologue.", ACLOperation.DESCRIBE_CONFIGS, WRITE)
    assert duologue("topics", "check", "--service", "scoring", "--partitions", 1).err == ""
    assert "There is no service 'scorign'" in duologue("topics", "check", "--service", "scorign").err

    # The broker does not tell whether we may join a group before we do.
    bus = await open_bus(world.broker.url(SCRAM), bob, "scoring")
    subscription = await bus.subscribe(GROUP, [DIALOGUE_GENERATED.name])
    with pytest.raises(WrongSetting, match=f"right missing: Read on the consumer group {re.escape(GROUP)}"):
        await subscription.fetch(1)
    await bus.close()


async def test_who_may_not_read_a_topic_that_he_follows_hears_which_right_is_missing(
    world: World, topics: None
) -> None:
    world.broker.add_user("deaf", PASSWORD)
    world.broker.allow("deaf", ResourceType.TRANSACTIONAL_ID, NAMES, WRITE)
    world.broker.allow("deaf", TOPIC, CAMPAIGN_CANCELLED.name, ACLOperation.DESCRIBE)
    bus = await open_bus(world.broker.url(SCRAM), world.scram("deaf"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(WrongSetting, match=f"right missing: .*{re.escape(CAMPAIGN_CANCELLED.name)}"):
            await anext(bus.follow(CAMPAIGN_CANCELLED.name))
    await bus.close()


async def test_the_rights_that_a_service_is_said_to_need_are_enough(world: World, topics: None) -> None:
    broker, rights = world.broker, rights_of("scoring")
    broker.add_user("scorer", PASSWORD)
    for operation, names in ((READ, rights.reads), (WRITE, rights.writes)):
        for name in names:
            broker.allow("scorer", TOPIC, name, operation)
    for group in rights.groups:
        broker.allow("scorer", ResourceType.GROUP, group, READ)
    broker.allow("scorer", ResourceType.TRANSACTIONAL_ID, NAMES, WRITE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        others = await open_bus(broker.url(PLAIN))
        await others.publish([Record(DIALOGUE_GENERATED.name, "rights", b"generated")])
        bus = await open_bus(broker.url(SCRAM), world.scram("scorer"), "scoring")
        subscription = await bus.subscribe(GROUP, [DIALOGUE_GENERATED.name, DIALOGUE_GENERATED.retry("scoring")])
        (delivery,) = await subscription.fetch(1)
        names = (DIALOGUE_SCORED.name, DIALOGUE_GENERATED.retry("scoring"), DIALOGUE_GENERATED.dead_letters("scoring"))
        await subscription.finish(delivery, [Record(name, "rights", b"caused") for name in names])
        assert await bus.lag(GROUP, DIALOGUE_GENERATED.name) <= 1  # the end of a transaction counts
        async with aclosing(bus.follow(CAMPAIGN_CANCELLED.name)) as followed:
            assert await anext(followed) == []
            await others.publish([Record(CAMPAIGN_CANCELLED.name, "rights", b"cancelled")])
            (heard,) = await anext(followed)
            assert heard.record.value == b"cancelled"
        await bus.close()
        await others.close()


def test_the_rights_that_commands_are_said_to_need_are_enough(
    world: World, topics: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, operation = world.broker, ACLOperation
    for user in ("keeper", "reader"):
        broker.add_user(user, PASSWORD)
    alters = (operation.CREATE, operation.ALTER, operation.ALTER_CONFIGS, operation.DESCRIBE_CONFIGS)
    broker.allow("keeper", TOPIC, "duologue.", *alters)
    set_bus(monkeypatch, broker.url(SCRAM), world.scram("keeper"))
    admin = broker.admin()
    retry = DIALOGUE_SCORED.retry("filtering")
    admin.delete_topics([retry])
    admin.alter_configs([ConfigResource("TOPIC", DIALOGUE_SCORED.name, {"retention.ms": "1000"})])
    soon(lambda: retry not in admin.list_topics(), "the topic is gone")
    admin.close()
    applied = duologue("topics", "apply", "--partitions", 2)
    assert (applied.status, applied.err) == (0, "")

    broker.allow("reader", ResourceType.TRANSACTIONAL_ID, NAMES, WRITE)
    broker.allow("reader", TOPIC, "duologue.", READ)
    set_bus(monkeypatch, broker.url(SCRAM), world.scram("reader"))
    listed = duologue("dlq", "list")
    assert (listed.status, listed.err) == (0, "")


async def test_a_topic_that_a_service_writes_to_must_be_there_when_it_starts(world: World, topics: None) -> None:
    admin = world.broker.admin()
    name = DIALOGUE_GENERATED.dead_letters("scoring")
    admin.delete_topics([name])
    soon(lambda: name not in admin.list_topics(), "the topic is gone")
    try:
        refusal = await world.refusal(SCRAM, world.scram("alice"), "scoring")
    finally:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        admin.close()
    assert refusal == f"topics are missing: {name}; `duologue topics apply` makes them"
