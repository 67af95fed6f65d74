"""Commands about campaigns, dialogues and adapters, against a control plane that is served for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from duologue.cli.output import console
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc
from duologue_campaign.settings import PriceSettings
from tests.support.campaign_world import World
from tests.support.command import duologue_beside
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.desk import FILES, spec_text
from tests.support.eventually import eventually
from tests.support.grpc_server import serving


@pytest.fixture
async def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlPlane]:
    """A control plane that the commands find."""
    async with served_plane(tmp_path, monkeypatch, PriceSettings()) as plane:
        yield plane


@pytest.fixture
async def priced_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlPlane]:
    """One with a price table: a dialogue of the desk costs 80 millionths, 7 of them for what was wasted."""
    prices = PriceSettings.model_validate({"models": {"client": {"prompt": 1.4}, "*": {"prompt": 1}}})
    async with served_plane(tmp_path, monkeypatch, prices) as plane:
        yield plane


@asynccontextmanager
async def served_plane(
    folder: Path, monkeypatch: pytest.MonkeyPatch, prices: PriceSettings
) -> AsyncIterator[ControlPlane]:
    async with control_plane(folder, prices=prices) as plane:
        register = campaign_pb2_grpc.add_CampaignServiceServicer_to_server
        async with serving(register, plane.rpc) as address:
            monkeypatch.setenv("DUOLOGUE_ADDRESS", address)
            yield plane


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The campaign file, with the files that it names beside it."""
    folder = tmp_path / "desk"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    file = folder / "campaign.yaml"
    file.write_text(spec_text())
    return file


async def test_a_campaign_is_created_from_its_file_and_listed(plane: ControlPlane, spec: Path) -> None:
    done = await duologue_beside("campaign", "create", spec)
    assert (done.status, done.err) == (0, "")
    listed = await duologue_beside("campaign", "list", "--json")
    (campaign,) = listed.json["campaigns"]
    assert f"Created desk {campaign['id']}" in done.out
    assert f"duologue campaign watch {campaign['id'][:8]}" in done.out
    assert (campaign["name"], campaign["state"]) == ("desk", "CAMPAIGN_STATE_RUNNING")
    assert (campaign["history"][0]["wanted"], campaign["history"][0]["phase"]) == (6, "ROUND_PHASE_GENERATING")
    table = await duologue_beside("campaign", "list")
    for said in (campaign["id"][:8], "running", "generating"):
        assert said in table.out


async def test_a_wrong_campaign_file_is_refused_before_anything_is_sent(plane: ControlPlane, spec: Path) -> None:
    spec.write_text(spec_text(dialogues=0))  # noqa: ASYNC240
    for command in (("campaign", "create"), ("run",)):
        done = await duologue_beside(*command, spec)
        assert (done.status, done.out) == (2, "")
        assert f"{spec}:1: dialogues: Input should be greater than or equal to 1 (got 0)" in done.err
    assert (await duologue_beside("campaign", "list", "--json")).json == {"campaigns": []}


async def test_a_campaign_that_is_over_is_shown_with_all_that_came_of_it(plane: ControlPlane) -> None:
    world = World(plane, await plane.create())
    await world.run()
    done = await duologue_beside("campaign", "show", "desk")
    assert (done.status, done.err) == (0, "")
    for said in (
        f"desk {world.campaign_id}: completed",
        "Round 1: done",
        "subgoals_relative",
        "kept 3 of 6 (50%); dropped by at_most: 3",
        f"dataset desk-r1-{world.campaign_id[:8]}",
        "against the base model, held out, 95% intervals",
        "released: subgoals_relative gains +0.500 [+0.500, +0.500] over 20 pairs",
        "510 tokens (90 written)",
    ):
        assert said in done.out
    document = (await duologue_beside("campaign", "show", world.campaign_id[:8], "--json")).json
    assert document["prompt_tokens"] == 420
    assert document["history"][0]["dropped_by"] == {"at_most": 3}
    assert document["history"][0]["evaluation"]["released"] is True


async def test_a_report_tells_what_the_prefix_caches_had_and_no_cost_without_prices(plane: ControlPlane) -> None:
    await World(plane, await plane.create()).run()
    done = await duologue_beside("campaign", "show", "desk")
    assert "prompt tokens from the prefix cache: agent 40%, client 40%, manager not told" in done.out
    assert "cost" not in done.out
    assert "cost" not in (await duologue_beside("campaign", "show", "desk", "--json")).json


async def test_with_prices_a_campaign_and_a_dialogue_are_shown_with_their_costs(
    priced_plane: ControlPlane,
) -> None:
    await World(priced_plane, await priced_plane.create()).run()
    done = await duologue_beside("campaign", "show", "desk")
    assert "cost 0.00048 EUR (dropped 0.00024, kept 0.00024; of all that, wasted 0.000042)" in done.out
    assert "; 0.00016 EUR per kept dialogue" in done.out
    document = (await duologue_beside("campaign", "show", "desk", "--json")).json
    assert (document["cost"]["amount"], document["cost"]["currency"]) == (0.00048, "EUR")
    (kept, *_) = (await duologue_beside("dialogue", "list", "desk", "--decision", "kept", "--json")).json["dialogues"]
    shown = await duologue_beside("dialogue", "show", kept["dialogue"]["id"])
    assert "prompt tokens from the prefix cache: agent 40%, client 40%, manager not told" in shown.out
    assert "cost 0.00008 EUR" in shown.out
    assert kept["cost"]["amount"] == 0.00008


async def test_a_cost_that_is_not_known_says_which_model_has_no_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = PriceSettings.model_validate({"models": {"agent": {"prompt": 1}, "client": {}}})
    async with served_plane(tmp_path, monkeypatch, table) as plane:
        await World(plane, await plane.create()).run()
        done = await duologue_beside("campaign", "show", "desk")
    assert "cost not known: no price for manager" in done.out


async def test_a_campaign_is_paused_resumed_and_cancelled(plane: ControlPlane) -> None:
    campaign_id = await plane.create()
    for command, said in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        done = await duologue_beside("campaign", command, "desk")
        assert (done.status, done.out) == (0, f"desk {campaign_id[:8]} is {said}\n")
    done = await duologue_beside("campaign", "resume", "desk")
    assert done.status == 1
    assert f"campaign desk ({campaign_id[:8]}) is cancelled" in done.err


@pytest.mark.parametrize(
    ("group", "command"),
    [
        ("campaign", "show"),
        ("campaign", "watch"),
        ("campaign", "pause"),
        ("dialogue", "list"),
        ("dialogue", "show"),
        ("dataset", "show"),
        ("adapter", "show"),
        ("adapter", "promote"),
    ],
)
async def test_what_does_not_exist_is_bad_input(plane: ControlPlane, group: str, command: str) -> None:
    done = await duologue_beside(group, command, "nothing")
    assert done.status == 2
    assert "no " in done.err
    assert '"nothing"' in done.err


async def test_the_beginning_of_several_ids_is_bad_input(plane: ControlPlane) -> None:
    await World(plane, await plane.create(rounds=2)).run()
    done = await duologue_beside("adapter", "show", "desk-r")
    assert done.status == 2
    assert '"desk-r" is the beginning of several ids' in done.err


@pytest.mark.parametrize(("error", "status"), [("", 0), ("no memory", 1)])
async def test_watching_tells_phases_and_dialogues_and_ends_with_the_campaign_s_fate(
    plane: ControlPlane, error: str, status: int
) -> None:
    world = World(plane, await plane.create(), training_error=error)
    watching = asyncio.create_task(duologue_beside("campaign", "watch", world.campaign_id))
    await world.run()
    async with asyncio.timeout(30):
        done = await watching
    assert done.status == status
    assert "round 1: " in done.out
    assert "Round 1: done" in done.out
    assert ("training failed: no memory" in done.out) is bool(error)


async def test_run_creates_a_campaign_watches_it_and_says_what_is_next(plane: ControlPlane, spec: Path) -> None:
    running = asyncio.create_task(duologue_beside("run", spec))
    (campaign_id,) = await eventually(lambda: ids(plane), "the campaign is created")
    async with asyncio.timeout(30):
        await World(plane, campaign_id).run()
        done = await running
    assert done.status == 0
    assert f"Created desk {campaign_id}" in done.out
    assert "completed" in done.out
    assert "Next: duologue dialogue list desk" in done.out


async def ids(plane: ControlPlane) -> list[str]:
    return [campaign.id for campaign in (await plane.rpc.ListCampaigns(pb.ListCampaignsRequest(), None)).campaigns]


async def test_run_goes_on_with_a_campaign_that_is_under_way_from_the_same_files(
    plane: ControlPlane, spec: Path
) -> None:
    campaign_id = await plane.create()
    await duologue_beside("campaign", "pause", "desk")
    running = asyncio.create_task(duologue_beside("run", spec))
    world = World(plane, campaign_id)

    async def over() -> bool:
        return bool((await world.run()).finished_at)

    await eventually(over, "the campaign went on to its end")
    async with asyncio.timeout(30):
        done = await running
    assert done.status == 0
    assert f"Going on with desk {campaign_id}" in done.out
    assert await ids(plane) == [campaign_id]


async def test_run_goes_on_with_a_campaign_however_many_came_after_it(plane: ControlPlane, spec: Path) -> None:
    campaign_id = await plane.create()
    for seed in range(100, 151):
        await plane.create(seed=seed)
    running = asyncio.create_task(duologue_beside("run", spec))
    await World(plane, campaign_id).run()
    async with asyncio.timeout(30):
        done = await running
    assert f"Going on with desk {campaign_id}" in done.out


async def test_lists_fit_on_eighty_columns_with_their_reasons(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(plane, await plane.create(), training_error="the [machine] has no memory left for so long a text")
    await world.run()
    monkeypatch.setattr(console, "width", 80)
    adapters = await duologue_beside("adapter", "list")
    dialogues = await duologue_beside("dialogue", "list", "desk")
    campaigns = await duologue_beside("campaign", "list")
    for done in (adapters, dialogues, campaigns):
        assert max(map(len, done.out.splitlines())) <= 80
    assert f"desk-r1-{world.campaign_id[:8]} " in adapters.out
    assert "[machine]" in adapters.out
    assert dialogues.out.count(" odd") == 3


async def test_dialogues_are_listed_by_decision_and_split(plane: ControlPlane) -> None:
    await World(plane, await plane.create()).run()
    everything = (await duologue_beside("dialogue", "list", "desk", "--json")).json["dialogues"]
    assert len(everything) == 6 + 40
    kept = (await duologue_beside("dialogue", "list", "desk", "--decision", "kept", "--json")).json["dialogues"]
    assert [item["dialogue"]["index"] for item in kept] == [0, 2, 4]
    held_out = await duologue_beside("dialogue", "list", "desk", "--split", "evaluation", "--json")
    assert {item["dialogue"]["provenance"]["workflow_id"] for item in held_out.json["dialogues"]} == {"shoe_shop"}
    assert len((await duologue_beside("dialogue", "list", "desk", "--limit", 5, "--json")).json["dialogues"]) == 5
    table = await duologue_beside("dialogue", "list", "desk", "--decision", "dropped")
    assert table.out.count("odd") == 3


async def test_a_dialogue_is_shown_beside_its_path_with_scores_decisions_and_reason(plane: ControlPlane) -> None:
    await World(plane, await plane.create()).run()
    dropped = (await duologue_beside("dialogue", "list", "desk", "--decision", "dropped", "--json")).json["dialogues"][
        0
    ]
    name = dropped["dialogue"]["id"]
    done = await duologue_beside("dialogue", "show", name[:13])
    assert (done.status, done.err) == (0, "")
    for said in (
        name,
        "training, round 1, #1",
        "workflow parcel_desk@",
        "agent base model",
        "look_up: found",
        "It is PK-4471.",
        "end reason completed; subgoals 3",
        "character of client 0.5, of agent 0.75",
        "dropped: odd",
    ):
        assert said in done.out
    document = (await duologue_beside("dialogue", "show", name, "--json")).json
    assert (document["decision"], document["reason"], document["workflow"]["id"]) == ("dropped", "odd", "parcel_desk")
    assert [turn["role"] for turn in document["dialogue"]["turns"]][:2] == ["ROLE_AGENT", "ROLE_CLIENT"]


async def test_adapters_are_listed_shown_promoted_and_rolled_back(plane: ControlPlane) -> None:
    world = World(plane, await plane.create())
    await world.run()
    name = f"desk-r1-{world.campaign_id[:8]}"
    table = await duologue_beside("adapter", "list")
    assert name in table.out
    assert "released" in table.out
    (adapter,) = (await duologue_beside("adapter", "list", "--campaign", "desk", "--json")).json["adapters"]
    assert (adapter["ref"]["id"], adapter["training"]["examples"]) == (name, 10)
    shown = await duologue_beside("adapter", "show", "desk-r1")
    assert f"{name}: released, agent desk, round 1" in shown.out
    assert (await duologue_beside("adapter", "show", name, "--json")).json["evaluation"]["released"] is True
    done = await duologue_beside("adapter", "rollback", "desk")
    assert (done.status, done.out) == (0, "desk answers with the base model again\n")
    done = await duologue_beside("adapter", "rollback", "desk")
    assert (done.status, "no released adapter to roll back" in done.err) == (1, True)
    done = await duologue_beside("adapter", "promote", name)
    assert (done.status, done.out) == (0, f"desk answers with {name}\n")


async def test_a_canary_is_begun_shown_with_its_figures_and_ended(plane: ControlPlane) -> None:
    world = World(plane, await plane.create())
    await world.run()
    name = f"desk-r1-{world.campaign_id[:8]}"
    await duologue_beside("adapter", "rollback", "desk")
    done = await duologue_beside("adapter", "promote", name, "--canary", "0.5")
    assert (done.status, done.out) == (
        0,
        f"{name} has 0.5 of the training dialogues of desk, the base model the others\n",
    )
    shown = await duologue_beside("adapter", "show", name)
    assert "the gate would not release it: subgoals_relative was measured on no dialogues of both" in shown.out

    second = World(plane, await plane.create(dialogues=60))
    await second.run(lambda campaign: campaign.history[0].phase != pb.ROUND_PHASE_GENERATING)
    assert "canary 0.5" in (await duologue_beside("adapter", "list")).out
    done = await duologue_beside("adapter", "show", name)
    for said in ("canary 0.5", f"canary {name} with 0.5 against the base model", "dialogues", "subgoals_relative"):
        assert said in done.out
    found = (await duologue_beside("adapter", "show", name, "--json")).json["canary"]["evaluation"]["comparisons"][0]
    assert int(found["current_dialogues"]) + int(found["candidate_dialogues"]) == 60

    done = await duologue_beside("adapter", "rollback", "desk")
    assert (done.status, done.out) == (0, f"ended the canary {name}; desk still answers with the base model\n")
    assert ": rollback" in (await duologue_beside("adapter", "show", name)).out


@pytest.mark.parametrize("share", ["0", "1", "-0.5", "nan"])
async def test_a_canary_without_a_share_promotes_nothing(plane: ControlPlane, share: str) -> None:
    done = await duologue_beside("adapter", "promote", "desk-r1", "--canary", share)
    assert (done.status, done.out) == (2, "")
    assert "is no share above 0 and below 1" in done.err
