"""Orders for datasets and previews of filters over gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import grpc
import pytest

from duologue.contracts.v1 import filtering_pb2 as pb
from duologue.contracts.v1 import filtering_pb2_grpc
from duologue_filtering.rpc import FilteringRpc
from services.filtering.tests.conftest import House
from tests.support.desk import CAMPAIGN_ID, dialogue, scored
from tests.support.grpc_server import serving

TOP = json.dumps([{"kind": "top", "metric": "subgoals_absolute", "share": 0.5}])


@pytest.fixture
async def service(house: House) -> AsyncIterator[filtering_pb2_grpc.FilteringServiceStub]:
    register = filtering_pb2_grpc.add_FilteringServiceServicer_to_server
    async with (
        serving(register, FilteringRpc(house.database, house.sealer)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield filtering_pb2_grpc.FilteringServiceStub(channel)


def order(**changes: object) -> pb.SealDatasetRequest:
    fields: dict[str, object] = {
        "dataset_id": "desk-r1",
        "campaign_id": CAMPAIGN_ID,
        "round": 1,
        "candidates": 4,
        "filters": TOP,
        "seed": 3,
    }
    return pb.SealDatasetRequest(**(fields | changes))  # type: ignore[arg-type]


async def collect(house: House, first: int, end: int) -> None:
    for number in range(first, end):
        await house.collect.handle(scored(dialogue(f"a{number}"), subgoals_absolute=number))


async def test_an_order_is_carried_out_when_all_candidates_are_there(
    house: House, service: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    async with house.sealing():
        await collect(house, 0, 3)
        await service.SealDataset(order())
        await collect(house, 3, 4)
        sealed = await house.sealed()
        assert (sealed.candidates, sealed.kept) == (4, 2)


async def test_an_order_that_is_repeated_changes_nothing(
    house: House, service: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    await service.SealDataset(order())
    await service.SealDataset(order(filters="[]", candidates=1))
    async with house.sealing():
        await collect(house, 0, 4)
        assert (await house.sealed()).kept == 2


async def test_a_wrong_filter_is_refused_and_nothing_is_ordered(
    house: House, service: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=r"0\.top\.share") as caught:
        await service.SealDataset(order(filters='[{"kind": "top", "share": 2}]', candidates=0))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    async with house.sealing():
        await service.SealDataset(order(dataset_id="other", candidates=0))
        assert (await house.sealed()).dataset_id == "other"
    assert not house.artifacts.exists("datasets/desk-r1/manifest.json")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dataset_id": "../desk"}, "dataset_id"),
        ({"dataset_id": ""}, "dataset_id"),
        ({"dataset_id": "a" * 201}, "dataset_id"),
        ({"campaign_id": ""}, "campaign_id"),
        ({"campaign_id": "c" * 37}, "campaign_id"),
        ({"round": 0}, "round"),
        ({"candidates": -1}, "candidates"),
        ({"candidates": 2**31}, "candidates"),
        ({"seed": 2**31}, "seed"),
    ],
)
async def test_an_order_that_could_not_be_stored_or_sealed_is_refused_by_its_field(
    house: House, service: filtering_pb2_grpc.FilteringServiceStub, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=f"{field}: ") as caught:
        await service.SealDataset(order(**changes))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await service.SealDataset(order())


async def test_a_round_that_is_sealed_is_not_sealed_under_another_name(
    house: House, service: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    await collect(house, 0, 4)
    async with house.sealing() as sealing:
        await service.SealDataset(order())
        await house.sealed()
        with pytest.raises(grpc.aio.AioRpcError, match="desk-r1") as caught:
            await service.SealDataset(order(dataset_id="second"))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert not sealing.done()


async def test_a_preview_tells_what_other_filters_would_keep_and_keeps_nothing(
    house: House, service: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    await collect(house, 0, 4)
    request = pb.PreviewFiltersRequest(campaign_id=CAMPAIGN_ID, round=1, filters=TOP, seed=3)
    response = await service.PreviewFilters(request)
    assert (response.candidates, response.kept, dict(response.dropped_by)) == (4, 2, {"top": 2})
    assert await house.decisions() == {}
    request.round = 2
    assert (await service.PreviewFilters(request)).candidates == 0


async def test_a_preview_of_a_sealed_round_leaves_out_what_came_late(
    house: House, service: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    await collect(house, 0, 4)
    async with house.sealing():
        await service.SealDataset(order())
        await house.sealed()
        await collect(house, 4, 5)
        await house.decided(5)
    request = pb.PreviewFiltersRequest(campaign_id=CAMPAIGN_ID, round=1, filters="[]", seed=3)
    assert (await service.PreviewFilters(request)).candidates == 4


async def test_a_preview_is_what_sealing_then_does(
    house: House, service: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    filters = json.dumps(
        [{"kind": "random", "share": 0.5}, {"kind": "at_least", "metric": "subgoals_absolute", "value": 3}]
    )
    await collect(house, 0, 8)
    preview = await service.PreviewFilters(
        pb.PreviewFiltersRequest(campaign_id=CAMPAIGN_ID, round=1, filters=filters, seed=3)
    )
    async with house.sealing():
        await service.SealDataset(order(candidates=8, filters=filters))
        sealed = await house.sealed()
    assert sealed.kept == preview.kept
    manifest = json.loads(house.artifacts.read(sealed.manifest.uri))
    assert manifest["dropped_by"] == dict(preview.dropped_by)
