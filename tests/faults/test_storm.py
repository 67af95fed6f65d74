"""The whole system on three brokers and PostgreSQL, two copies of each service, in a storm of faults.

`make test-faults` runs it at length. DUOLOGUE_TEST_DIALOGUES says how many dialogues, DUOLOGUE_TEST_SEED what befalls
whom.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import make_url

from duologue.bus import Bus, open_bus
from duologue.bus.dead_letters import dead_letters
from duologue.bus.kafka.options import KafkaOptions
from duologue.bus.kafka.topics import Topics
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_REQUESTED, DIALOGUE_SCORED, TOPICS, Topic
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc
from duologue.core.dialogue import Split, dialogue_id
from tests.support.brokers.cluster import KafkaCluster
from tests.support.control_plane import create_request
from tests.support.eventually import eventually
from tests.support.fleet import SERVICES, Fleet, instant_models
from tests.support.postgres import PostgresServer, new_schema
from tests.support.proxy import Line
from tests.support.requirements import ROOT, require_ml
from tests.support.storm import Storm, faults_of_broker, faults_of_database

DIALOGUES = int(os.environ.get("DUOLOGUE_TEST_DIALOGUES", "60"))
SEED = int(os.environ.get("DUOLOGUE_TEST_SEED", "20261123"))
# As many as a storm of the short form has on a machine with two cores; on a slower one it would never end.
MOST_FAULTS = max(30, DIALOGUES)
PATIENCE_SECONDS = 600.0 + DIALOGUES
BROKERS = 3
# Of what a service holds, from the first half of the storm to the second.
MOST_GROWTH = 1.2
_NOT_NOW = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True)
class Control:
    """The control plane, whichever copy answers. Asked in threads: see `Copy.serves`."""

    service: campaign_pb2_grpc.CampaignServiceStub

    async def create(self, request: pb.CreateCampaignRequest) -> str:
        async def claim() -> Any:
            return await self._ask(self.service.CreateCampaign, request)

        created = await eventually(claim, "the campaign is created", PATIENCE_SECONDS)
        return str(created.campaign.id)

    async def until(self, campaign_id: str, holds: Callable[[pb.Campaign], bool], what: str) -> pb.Campaign:
        async def claim() -> pb.Campaign | None:
            answer = await self._ask(self.service.GetCampaign, pb.GetCampaignRequest(campaign=campaign_id))
            return answer.campaign if answer and holds(answer.campaign) else None

        found = await eventually(claim, what, PATIENCE_SECONDS)
        assert found is not None
        return found

    async def dialogue_ids(self, campaign_id: str) -> list[str]:
        """Of all training dialogues that came back."""
        request = pb.ListDialoguesRequest(campaign=campaign_id, page_size=500)
        found: list[str] = []
        while True:
            page = await asyncio.to_thread(self.service.ListDialogues, request, timeout=30)
            found += [one.dialogue.id for one in page.dialogues if one.dialogue.split == 1]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def _ask(self, call: Any, request: Any) -> Any:
        """None when nobody answered this time."""
        try:
            return await asyncio.to_thread(call, request, timeout=5)
        except grpc.RpcError as error:
            if error.code() in _NOT_NOW:
                return None
            raise


@contextmanager
def control_of(fleet: Fleet) -> Iterator[Control]:
    with grpc.insecure_channel(fleet.address("campaign")) as channel:
        yield Control(campaign_pb2_grpc.CampaignServiceStub(channel))


def order() -> pb.CreateCampaignRequest:
    """The same campaign with the same id wherever it runs."""
    return create_request(
        f"storm-{SEED}",
        dialogues=DIALOGUES,
        concurrency=64,
        seed=SEED,
        filters=[{"kind": "top", "metric": "words", "share": 0.5}],
        training={"rank": 2, "alpha": 4, "batch_size": 256, "max_tokens": 64},
        evaluation={"dialogues": 20},
    )


def is_sealed(campaign: pb.Campaign) -> bool:
    return bool(campaign.history[-1].dataset_id) and campaign.history[-1].phase > pb.ROUND_PHASE_SEALING


def is_over(campaign: pb.Campaign) -> bool:
    return bool(campaign.finished_at)


def manifest(folder: Path, campaign: pb.Campaign) -> dict[str, Any]:
    file = folder / "artifacts" / "datasets" / campaign.history[-1].dataset_id / "manifest.json"
    return dict(json.loads(file.read_text()))


async def undisturbed(folder: Path) -> dict[str, Any]:
    """What the campaign seals on one machine where nothing goes wrong."""
    services = ("campaign", "roleplay", "scoring", "filtering")
    databases = {name: f"sqlite:///{folder}/{name}.db" for name in ("campaign", "filtering")}
    with instant_models(folder / "artifacts") as models:
        settings = {"BUS__URL": f"sqlite:///{folder}/bus.db", **models_at(models)}
        async with Fleet(folder, dict.fromkeys(services, 1), settings, databases) as fleet:
            with control_of(fleet) as control:
                campaign_id = await control.create(order())
                return manifest(folder, await control.until(campaign_id, is_sealed, "the dataset is sealed"))


def models_at(url: str) -> dict[str, str]:
    parts = ("MODELS__CLIENT", "MODELS__AGENT", "MODELS__MANAGER", "JUDGE")
    return {f"{part}__URL": url for part in parts} | {f"{part}__MODEL": "desk" for part in parts}


def make_topics(url: str) -> None:
    with Topics.of(url, KafkaOptions()) as topics:
        for difference in topics.compare(partitions=8):
            topics.mend(difference)


def base_model(folder: Path) -> Path:
    subprocess.run(
        [require_ml(), ROOT / "tests/support/tiny_llama.py", folder],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return folder


@asynccontextmanager
async def struck_by(storm: Storm) -> AsyncIterator[None]:
    """The storm lasts as long as the block, at most; a part that does not come back ends both."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(storm.run())
        yield
        task.cancel()


def through(line: Line, database: str) -> str:
    return make_url(database).set(port=line.port).render_as_string(hide_password=False)


async def what_is_left(bus: Bus) -> dict[str, int]:
    """Lags by group and topic, where there are any."""
    lags = {
        f"{topic.consumer_group(group)} at {name}": await bus.lag(topic.consumer_group(group), name)
        for topic in TOPICS
        for group in topic.consumers
        for name in (topic.name, topic.retry(group))
    }
    return {place: lag for place, lag in lags.items() if lag}


async def nothing_is_left(bus: Bus) -> None:
    left: dict[str, int] = {}

    async def claim() -> bool:
        nonlocal left
        left = await what_is_left(bus)
        return not left

    try:
        await eventually(claim, "nothing is left on any topic", PATIENCE_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}: {left}") from None


async def ids_on(bus: Bus, topic: Topic) -> Counter[str]:
    return Counter([delivery.record.key async for delivery in bus.read(topic.name)])


@pytest.mark.timeout(4 * PATIENCE_SECONDS)
async def test_whatever_is_killed_stopped_or_cut_off_no_dialogue_is_lost_and_none_comes_twice(tmp_path: Path) -> None:
    print(f"\nseed {SEED}, {DIALOGUES} dialogues", flush=True)
    began = time.monotonic()
    expected = await undisturbed(tmp_path / "undisturbed")
    print(
        f"undisturbed: {expected['kept']} of {expected['candidates']} in {time.monotonic() - began:.0f} s", flush=True
    )

    draw = random.Random(SEED)
    folder = tmp_path / "storm"
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(Line()) for _ in range(BROKERS)]
        cluster = await asyncio.to_thread(KafkaCluster.start, tmp_path / "kafka", BROKERS, fronts=lines)
        stack.callback(cluster.close)
        url = f"kafka://{cluster.bootstrap}"
        await asyncio.to_thread(make_topics, url)
        settings = {
            "BUS__URL": url,
            "KAFKA__SESSION_SECONDS": "6",
            "KAFKA__HANDOVER_SECONDS": "5",
            "BUS__RETRY_LONGEST_SECONDS": "3",
            "BASE_MODEL": str(await asyncio.to_thread(base_model, tmp_path / "model")),
            **models_at(stack.enter_context(instant_models(folder / "artifacts"))),
        }
        line = await stack.enter_async_context(Line())
        server = await asyncio.to_thread(PostgresServer.start)
        stack.callback(server.close)
        line.target = server.port
        databases = {name: through(line, new_schema(server.url)) for name in ("campaign", "filtering")}
        fleet = await stack.enter_async_context(Fleet(folder, dict.fromkeys(SERVICES, 2), settings, databases))
        control = stack.enter_context(control_of(fleet))
        brokers = [
            fault
            for broker, line in zip(cluster.brokers, lines, strict=True)
            for fault in faults_of_broker(cluster, broker, line, draw)
        ]
        began = time.monotonic()
        campaign_id = await control.create(order())
        parts = {"brokers": brokers, "database": faults_of_database(server, line, draw)}
        storm = Storm(fleet, parts, draw, MOST_FAULTS)
        async with struck_by(storm):
            campaign = await control.until(campaign_id, is_over, "the campaign ends")
        print(f"storm: {time.monotonic() - began:.0f} s, {sum(storm.counts.values())} faults", flush=True)
        assert campaign.state == pb.CAMPAIGN_STATE_COMPLETED, campaign.reason
        assert campaign.history[-1].evaluation.adapter_id, campaign.history[-1].outcome

        bus = await open_bus(url, KafkaOptions())
        stack.push_async_callback(bus.close)
        await nothing_is_left(bus)
        print(f"ends that nobody asked for: { {copy.name: copy.ends for copy in fleet.copies if copy.ends} }")
        assert [letter async for letter in dead_letters(bus)] == []
        found = await control.dialogue_ids(campaign_id)
        assert sorted(found) == sorted(dialogue_id(campaign_id, 1, Split.TRAINING, n) for n in range(DIALOGUES))
        assert manifest(folder, campaign) == expected
        requested, generated, scored = [
            await ids_on(bus, topic) for topic in (DIALOGUE_REQUESTED, DIALOGUE_GENERATED, DIALOGUE_SCORED)
        ]
        print(f"requested twice: {sum(count > 1 for count in requested.values())}")
        assert generated == requested
        assert scored == requested
        for service in SERVICES:
            first, second = fleet.memory(service)
            print(
                f"memory of {service}: at most {first / 2**20:.0f} MiB in the first half, {second / 2**20:.0f} after it"
            )
            # Training has nothing to do before the second half.
            assert service == "training" or second < first * MOST_GROWTH, f"{service} grows"
    print(f"whole: {time.monotonic() - began:.0f} s")
