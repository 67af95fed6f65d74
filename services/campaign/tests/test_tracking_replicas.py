"""Two copies of the control plane, and one MLflow that hears of everything once, whichever of them is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc
from services.campaign.tests.test_outage import LEADS, create
from tests.support.eventually import eventually
from tests.support.mlflow_process import MlflowProcess
from tests.support.service_process import ServiceProcess, service_process

CAMPAIGNS = 8
_SECONDS = 240.0

Start = Callable[[], Any]


@pytest.fixture
def start(postgres_url: str, tmp_path: Path, mlflow_of_all: MlflowProcess) -> Start:
    """One more replica."""
    settings = {"database__url": postgres_url, "mlflow__url": mlflow_of_all.url}
    return lambda: service_process("duologue_campaign", tmp_path, **settings)


async def told_of(client: MlflowClient, campaign_ids: list[str]) -> list[int]:
    """How many runs there are of each campaign that has an experiment."""
    experiments = await asyncio.to_thread(client.search_experiments)
    ours = [found for found in experiments if found.tags.get("duologue.campaign_id") in campaign_ids]
    return [len(await asyncio.to_thread(client.search_runs, [found.experiment_id])) for found in ours]


async def tracking(service: ServiceProcess) -> pb.GetTrackingResponse:
    async with service.channel() as channel:
        answer: pb.GetTrackingResponse = await campaign_pb2_grpc.CampaignServiceStub(channel).GetTracking(
            pb.GetTrackingRequest(), timeout=60
        )
        return answer


@pytest.mark.timeout(900)
async def test_when_the_leader_is_killed_while_it_tells_the_other_one_tells_the_rest(
    start: Start, mlflow_of_all: MlflowProcess
) -> None:
    client = MlflowClient(mlflow_of_all.url)
    async with start() as one, start() as other:
        await asyncio.gather(one.serves(), other.serves())
        campaigns = [await create(one, f"campaign {number}") for number in range(CAMPAIGNS)]
        await eventually(lambda: told_of(client, campaigns), "a first campaign is told of", _SECONDS)
        leader, follower = (one, other) if await one.metric(LEADS) else (other, one)
        leader.process.kill()

        async def all_are_told_of() -> bool:
            return (await tracking(follower)).due == 0

        await eventually(all_are_told_of, "all campaigns are told of", _SECONDS)
        assert await told_of(client, campaigns) == [1] * CAMPAIGNS
        assert await tracking(follower) == pb.GetTrackingResponse(url=mlflow_of_all.url)
