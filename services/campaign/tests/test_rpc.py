"""The control plane over gRPC: creating, finding, listing and watching."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc, dialogue_pb2
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane, create_request
from tests.support.desk import DESK, DESK_YAML, FILES, SHOP, spec_text, workflow_ref
from tests.support.grpc_server import serving

Service = campaign_pb2_grpc.CampaignServiceStub
INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture
async def service(plane: ControlPlane) -> AsyncIterator[Service]:
    register = campaign_pb2_grpc.add_CampaignServiceServicer_to_server
    async with serving(register, plane.rpc) as address, grpc.aio.insecure_channel(address) as channel:
        yield Service(channel)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The SQL that is run."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)


async def create(service: Service, request_id: str = "", **changes: Any) -> pb.Campaign:
    return (await service.CreateCampaign(create_request(request_id, **changes))).campaign


async def refused(call: Awaitable[Any], code: grpc.StatusCode) -> str:
    """The details of a call that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value
    return caught.value.details() or ""


async def campaigns(service: Service) -> list[pb.Campaign]:
    return list((await service.ListCampaigns(pb.ListCampaignsRequest())).campaigns)


async def test_a_campaign_that_is_created_runs_and_can_be_found_by_id_prefix_and_name(service: Service) -> None:
    created = await create(service)
    assert created.state == pb.CAMPAIGN_STATE_RUNNING
    assert (created.name, created.rounds, created.history[0].wanted) == ("desk", 1, 6)
    assert created.spec_yaml == spec_text()
    for name in (created.id, created.id[:8], "desk"):
        found = (await service.GetCampaign(pb.GetCampaignRequest(campaign=name))).campaign
        assert found.id == created.id
    created.ClearField("spec_yaml")  # only for who asks for one campaign
    assert await campaigns(service) == [created]


async def test_a_name_stands_for_the_newest_campaign_of_that_name(service: Service) -> None:
    await create(service)
    newest = await create(service)
    assert (await service.GetCampaign(pb.GetCampaignRequest(campaign="desk"))).campaign.id == newest.id


async def test_the_workflows_of_a_campaign_can_be_read_by_the_other_services(
    service: Service, plane: ControlPlane
) -> None:
    await create(service)
    for workflow in (DESK, SHOP):
        assert plane.workflows.get(workflow_ref(workflow)) == workflow


async def test_the_same_request_twice_is_one_campaign(service: Service) -> None:
    first = await create(service, "request-1")
    second = await create(service, "request-1", dialogues=99)
    other = await create(service, "request-2")
    assert second == first
    assert {campaign.id for campaign in await campaigns(service)} == {first.id, other.id}


async def test_the_same_request_many_times_at_once_is_one_campaign(service: Service) -> None:
    created = await asyncio.gather(*(create(service, "request-1") for _ in range(8)))
    assert len({campaign.id for campaign in created}) == 1


async def test_the_same_request_from_two_at_once_is_answered_with_the_first_s_campaign(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL has it: both look, both find nothing, and the second to write breaks the unique key."""
    run = plane.database.run

    async def overtaken(work: Any) -> Any:
        monkeypatch.setattr(plane.database, "run", run)
        await plane.create("request-1")
        raise IntegrityError("INSERT", {}, Exception("unique"))

    monkeypatch.setattr(plane.database, "run", overtaken)
    answered = await plane.create("request-1")
    listed = await plane.rpc.ListCampaigns(pb.ListCampaignsRequest(), None)
    assert [campaign.id for campaign in listed.campaigns] == [answered]


async def test_a_request_id_that_is_too_long_is_refused(service: Service) -> None:
    assert await refused(create(service, "r" * 65), INVALID) == (
        "request_id: has 65 characters\n    Give 64 at most, as a UUID has."
    )
    assert await campaigns(service) == []


@pytest.mark.parametrize(
    ("spec", "files", "said"),
    [
        (spec_text(dialogues=0), FILES, "desk/campaign.yaml:1: dialogues: Input should be greater than"),
        (spec_text(dialogs=3), FILES, 'dialogs is not a known field\n    Did you mean "dialogues"?'),
        ("campaign: desk\ndialogues: [", FILES, "desk/campaign.yaml:2: not valid YAML"),
        ("", FILES, "desk/campaign.yaml:1: expected a mapping"),
        (spec_text(), FILES | {"desk.yaml": DESK_YAML.replace("to: bye,", "to: by,")}, 'desk.yaml:36: edge "nothing"'),
        (spec_text(), {}, "can't read desk.yaml: the file was not sent with the spec"),
        (spec_text(personas={"training": ["people.yaml"], "held_out": ["people.yaml"]}), FILES, "is in both splits"),
    ],
)
async def test_a_wrong_spec_is_refused_with_file_line_and_fix_and_nothing_is_created(
    service: Service, plane: ControlPlane, spec: str, files: dict[str, str], said: str
) -> None:
    request = pb.CreateCampaignRequest(
        spec=pb.SpecFile(name="desk/campaign.yaml", text=spec),
        files=[pb.SpecFile(name=name, text=text) for name, text in files.items()],
    )
    assert said in await refused(service.CreateCampaign(request), INVALID)
    assert await campaigns(service) == []
    with pytest.raises(FileNotFoundError):
        plane.workflows.get(workflow_ref(SHOP))


async def test_a_spec_with_very_many_mistakes_is_refused_with_the_first_of_them(service: Service) -> None:
    broken = DESK_YAML.replace(
        "nodes:\n", "nodes:\n" + "".join(f'  n{i}: {{say: "ü", replies: {{}}}}\n' for i in range(300))
    )
    request = create_request()
    next(file for file in request.files if file.name == "desk.yaml").text = broken
    details = await refused(service.CreateCampaign(request), INVALID)
    assert details.startswith("desk.yaml:")
    assert details.endswith("... and more")


@pytest.mark.parametrize("name", ["nothing", "", "%", "_", "0b0e7a52-6ee1-4c53-9f0e-3a4f1f3b0c1d"])
async def test_what_does_not_exist_is_said_so(service: Service, name: str) -> None:
    await create(service)
    assert f'no campaign "{name}"' in await refused(service.GetCampaign(pb.GetCampaignRequest(campaign=name)), MISSING)
    watch = service.WatchCampaign(pb.WatchCampaignRequest(campaign=name))
    assert f'no campaign "{name}"' in await refused(watch.read(), MISSING)
    for call, noun in [
        (service.PauseCampaign(pb.PauseCampaignRequest(campaign=name)), "campaign"),
        (service.ListDialogues(pb.ListDialoguesRequest(campaign=name)), "campaign"),
        (service.GetDialogue(pb.GetDialogueRequest(dialogue=name)), "dialogue"),
        (service.GetDataset(pb.GetDatasetRequest(dataset=name)), "dataset"),
        (service.GetAdapter(pb.GetAdapterRequest(adapter=name)), "adapter"),
        (service.PromoteAdapter(pb.PromoteAdapterRequest(adapter=name)), "adapter"),
    ]:
        assert f'no {noun} "{name}"' in await refused(call, MISSING)


async def test_the_beginning_of_several_ids_is_refused(service: Service, plane: ControlPlane) -> None:
    world = World(plane, (await create(service, rounds=2)).id)
    await world.run()
    details = await refused(service.GetAdapter(pb.GetAdapterRequest(adapter="desk-r")), INVALID)
    assert '"desk-r" is the beginning of several ids' in details
    assert (await service.GetAdapter(pb.GetAdapterRequest(adapter="desk-r2"))).adapter.round == 2


async def test_pages_hold_every_campaign_once_newest_first(service: Service) -> None:
    created = [(await create(service, dialogues=1)).id for _ in range(5)]
    found: list[str] = []
    token = ""
    sizes = []
    while True:
        page = await service.ListCampaigns(pb.ListCampaignsRequest(page_size=2, page_token=token))
        sizes.append(len(page.campaigns))
        found += [campaign.id for campaign in page.campaigns]
        token = page.next_page_token
        if not token:
            break
    assert found == created[::-1]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    "request_",
    [{"page_size": -1}, {"page_token": "next"}, {"page_token": "-2"}, {"page_token": "²"}, {"page_token": "9" * 40}],
)
async def test_a_page_that_can_not_be_is_refused(service: Service, request_: dict[str, Any]) -> None:
    await create(service)
    for call in (
        service.ListCampaigns(pb.ListCampaignsRequest(**request_)),
        service.ListDialogues(pb.ListDialoguesRequest(campaign="desk", **request_)),
    ):
        assert next(iter(request_)) in await refused(call, INVALID)


async def test_dialogues_are_listed_by_round_split_and_decision_without_their_turns(
    service: Service, plane: ControlPlane
) -> None:
    await World(plane, (await create(service, rounds=2, evaluation={"dialogues": 4})).id).run()

    async def listed(**request: Any) -> list[pb.DialogueRecord]:
        response = await service.ListDialogues(pb.ListDialoguesRequest(campaign="desk", **request))
        return list(response.dialogues)

    everything = await listed()
    assert len(everything) == 2 * (6 + 8)
    assert not any(record.dialogue.turns for record in everything)
    places = [(record.dialogue.round, record.dialogue.split, record.dialogue.index) for record in everything]
    assert places == sorted(places)
    assert len(await listed(round=2)) == 14
    assert len(await listed(round=1, split=dialogue_pb2.SPLIT_EVALUATION)) == 8
    kept = await listed(decision="kept")
    assert [record.dialogue.index for record in kept] == [0, 2, 4] * 2
    assert {record.reason for record in await listed(decision="dropped")} == {"odd"}
    assert await listed(decision="pending") == []
    assert await listed(decision="evaluation") == await listed(split=dialogue_pb2.SPLIT_EVALUATION)
    page = await service.ListDialogues(pb.ListDialoguesRequest(campaign="desk", page_size=20))
    rest = await service.ListDialogues(
        pb.ListDialoguesRequest(campaign="desk", page_size=20, page_token=page.next_page_token)
    )
    assert [*page.dialogues, *rest.dialogues] == everything


async def test_a_dialogue_is_shown_whole_with_its_decision(service: Service, plane: ControlPlane) -> None:
    await World(plane, (await create(service)).id).run()
    records = (await service.ListDialogues(pb.ListDialoguesRequest(campaign="desk"))).dialogues
    for record in records:
        shown = await service.GetDialogue(pb.GetDialogueRequest(dialogue=record.dialogue.id[:13]))
        assert shown.record.dialogue.turns
        assert shown.workflow.id == record.dialogue.provenance.workflow_id
        assert shown.record.decision == record.decision
    evaluated = [record for record in records if record.dialogue.split == dialogue_pb2.SPLIT_EVALUATION]
    assert {record.decision for record in evaluated} == {"evaluation"}


async def test_datasets_and_adapters_are_listed_and_shown(service: Service, plane: ControlPlane) -> None:
    campaign = await create(service)
    await World(plane, campaign.id).run()
    await create(service, campaign="other")
    name = f"desk-r1-{campaign.id[:8]}"
    (dataset,) = (await service.ListDatasets(pb.ListDatasetsRequest(campaign="desk"))).datasets
    assert (dataset.sealed.dataset_id, dataset.sealed.kept, dataset.sealed.candidates) == (name, 3, 6)
    assert (await service.GetDataset(pb.GetDatasetRequest(dataset="desk-r1"))).dataset == dataset
    (adapter,) = (await service.ListAdapters(pb.ListAdaptersRequest())).adapters
    assert (adapter.ref.id, adapter.agent, adapter.state, list(adapter.dataset_ids)) == (
        name,
        "desk",
        "released",
        [name],
    )
    assert adapter.evaluation.released
    for request in (pb.ListDatasetsRequest(campaign="other"), pb.ListAdaptersRequest(campaign="other")):
        listed = await (service.ListDatasets if isinstance(request, pb.ListDatasetsRequest) else service.ListAdapters)(
            request
        )
        assert not list(getattr(listed, "datasets", None) or getattr(listed, "adapters", []))


async def test_watching_shows_every_phase_and_stops_when_the_campaign_is_over(
    service: Service, plane: ControlPlane
) -> None:
    campaign = await create(service)
    world = World(plane, campaign.id)
    seen: list[pb.WatchCampaignResponse] = []
    began = asyncio.Event()

    async def watch() -> None:
        async for response in service.WatchCampaign(pb.WatchCampaignRequest(campaign=campaign.id)):
            seen.append(response)
            began.set()

    async with asyncio.timeout(20):
        watcher = asyncio.create_task(watch())
        await began.wait()
        await world.run()
        await watcher
    over = await plane.campaign(campaign.id)
    for it in (campaign, over):
        it.ClearField("spec_yaml")
    assert seen[0].campaign == campaign
    assert seen[-1].campaign == over
    assert seen[-1].campaign.finished_at
    latest = [response.latest.dialogue.id for response in seen if response.HasField("latest")]
    assert latest
    assert len(latest) == len(set(latest))
    assert all(response.latest.dialogue.turns for response in seen if response.HasField("latest"))


async def test_watching_what_is_over_shows_it_once(service: Service, plane: ControlPlane) -> None:
    campaign = await create(service, dialogues=2)
    await World(plane, campaign.id).run()
    responses = [response async for response in service.WatchCampaign(pb.WatchCampaignRequest(campaign="desk"))]
    assert len(responses) == 1


async def test_neither_a_list_nor_a_watcher_reads_the_spec_and_its_files(
    service: Service, plane: ControlPlane, statements: list[str]
) -> None:
    campaign = await create(service, dialogues=2)
    await World(plane, campaign.id).run()
    statements.clear()
    assert await campaigns(service)
    assert [response async for response in service.WatchCampaign(pb.WatchCampaignRequest(campaign=campaign.id))]
    read = [statement for statement in statements if "FROM campaign" in statement]
    assert read
    assert not any("campaign.files" in statement or "campaign.spec," in statement for statement in read)
