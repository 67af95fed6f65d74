"""What Prometheus is told of campaigns: what the database says, by whoever leads, after a restart too."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.store import Term
from duologue_campaign import standing as module
from duologue_campaign.prices import Prices
from duologue_campaign.standing import Standing
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane
from tests.support.eventually import eventually


class Scraped:
    """A service's registry, and what it told when it was looked at last."""

    def __init__(self, plane: ControlPlane) -> None:
        self.registry = CollectorRegistry()
        prices = Prices(plane.prices)
        self.standing = Standing(plane.database, plane.specs, prices, self.registry, plane.clock)

    async def look(self) -> None:
        await self.standing.look()

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"duologue_{name}", labels)

    @property
    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in self.registry.collect()
            for sample in family.samples
        }


@pytest.fixture
def scraped(plane: ControlPlane) -> Scraped:
    return Scraped(plane)


async def promoted(plane: ControlPlane, share: float = 0.0) -> str:
    """The adapter of a campaign that ended; let it answer, or have a share."""
    campaign = await World(plane, await plane.create(), measure=lambda _: {"subgoals_relative": 0.5}).run()
    adapter = campaign.history[0].adapter_id
    await plane.rpc.PromoteAdapter(pb.PromoteAdapterRequest(adapter=adapter, canary=share), None)
    return adapter


async def test_a_campaign_that_ended_is_told_of_with_its_round_and_the_gates_verdict(
    plane: ControlPlane, scraped: Scraped
) -> None:
    campaign = await World(plane, await plane.create()).run()
    await scraped.look()
    assert scraped.value("campaigns", state="completed") == 1
    assert scraped.value("campaigns", state="running") == 0
    assert scraped.value("rounds_total", agent="desk") == 1
    assert scraped.value("round_dialogues", agent="desk", round="latest") == 6
    assert scraped.value("round_kept_ratio", agent="desk", round="latest") == 0.5
    (gain,) = [item.gain for item in campaign.history[0].evaluation.comparisons if item.metric == "subgoals_relative"]
    labels = {"agent": "desk", "metric": "subgoals_relative"}
    told = [scraped.value("gate_gain", **labels, bound=bound) for bound in ("low", "value", "high")]
    assert told == [gain.low, gain.value, gain.high]
    assert scraped.value("gate_verdicts_total", agent="desk", verdict="released") == 1
    assert scraped.value("gate_verdicts_total", agent="desk", verdict="refused") == 0
    adapter = campaign.history[0].adapter_id
    released = scraped.value("adapter_released_timestamp_seconds", agent="desk", adapter=adapter)
    assert released == pytest.approx(plane.clock.now, abs=1)


async def test_another_process_on_the_same_database_tells_the_same(plane: ControlPlane, scraped: Scraped) -> None:
    await World(plane, await plane.create(rounds=2)).run()
    after_a_restart = Scraped(plane)
    for each in (scraped, after_a_restart):
        await each.look()
    assert scraped.samples
    assert after_a_restart.samples == scraped.samples


async def test_only_who_leads_tells_of_campaigns(plane: ControlPlane, scraped: Scraped) -> None:
    await plane.create()
    assert scraped.samples == {}
    leading = asyncio.create_task(scraped.standing.report(Term()))

    async def tells() -> bool:
        return scraped.value("campaigns", state="running") == 1

    await eventually(tells, "the leader tells of the campaign")
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    assert scraped.samples == {}


async def test_a_campaign_that_can_not_be_told_of_ends_nothing(
    plane: ControlPlane, scraped: Scraped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    await plane.create()
    looks = 0

    def broken(_: object) -> str:
        nonlocal looks
        looks += 1
        raise ValueError("no spec that this version can read")

    monkeypatch.setattr(plane.specs, "of", broken)
    leading = asyncio.create_task(scraped.standing.report(Term()))

    async def looks_again() -> bool:
        return looks > 1

    await eventually(looks_again, "it looks again")
    assert not leading.done()
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


async def test_a_round_is_told_of_beside_the_one_before_of_another_campaign_too(
    plane: ControlPlane, scraped: Scraped
) -> None:
    for score in (0.25, 0.75):
        await World(plane, await plane.create(), measure=lambda _, score=score: {"subgoals_relative": score}).run()
    await scraped.look()
    means = {
        place: scraped.value("round_score", agent="desk", round=place, metric="subgoals_relative")
        for place in ("latest", "before")
    }
    assert means == {"latest": 0.75, "before": 0.25}


async def test_what_was_asked_for_again_in_vain_is_counted_until_something_comes(
    plane: ControlPlane, scraped: Scraped
) -> None:
    world = World(plane, await plane.create())
    began = plane.clock.now
    await scraped.look()
    labels = {"agent": "desk", "phase": "generating"}
    assert scraped.value("campaigns_running", phase="generating") == 1
    assert scraped.value("campaign_progress_timestamp_seconds", **labels) == pytest.approx(began, abs=1)
    driver = plane.driver(reissue_seconds=600)
    plane.clock.now += 601
    await driver.look()
    await scraped.look()
    assert scraped.value("campaign_reissues", **labels) == 1
    await world.look()
    await world.tell(world.pending.pop(0))
    await scraped.look()
    assert scraped.value("campaign_reissues", **labels) == 0


async def test_a_campaign_that_the_service_paused_is_told_of_and_one_that_a_person_paused_is_not(
    plane: ControlPlane, scraped: Scraped
) -> None:
    by_person = await plane.create(campaign="calm")
    await plane.rpc.PauseCampaign(pb.PauseCampaignRequest(campaign=by_person), None)
    await plane.create(campaign="stuck", dialogues=4)  # all of them are out
    driver = plane.driver(reissue_seconds=600, reissues=0)
    plane.clock.now += 601
    await driver.look()
    await scraped.look()
    assert scraped.value("campaigns", state="paused") == 2
    assert scraped.value("campaigns_paused_by_service", agent="stuck") == 1
    assert scraped.value("campaigns_paused_by_service", agent="calm") == 0


async def test_of_a_budget_the_share_that_is_nearest_to_its_end_is_told(plane: ControlPlane, scraped: Scraped) -> None:
    await plane.create(campaign="free")
    await plane.create(campaign="timed", budget={"seconds": 1000, "tokens": 1_000_000})
    plane.clock.now += 250
    await scraped.look()
    assert scraped.value("campaign_budget_spent_ratio", agent="timed") == pytest.approx(0.25, abs=0.01)
    assert scraped.value("campaign_budget_spent_ratio", agent="free") is None


async def test_a_canary_is_told_of_until_it_answers(plane: ControlPlane, scraped: Scraped) -> None:
    adapter = await promoted(plane, share=0.25)
    await scraped.look()
    assert scraped.value("canary_share_ratio", agent="desk", adapter=adapter) == 0.25
    assert scraped.value("adapter_released_timestamp_seconds", agent="desk", adapter=adapter) is None
    await plane.rpc.PromoteAdapter(pb.PromoteAdapterRequest(adapter=adapter), None)
    await scraped.look()
    assert scraped.value("canary_share_ratio", agent="desk", adapter=adapter) is None
    assert scraped.value("adapter_released_timestamp_seconds", agent="desk", adapter=adapter) is not None


async def test_agents_are_those_of_the_newest_campaigns_and_no_more(
    plane: ControlPlane, scraped: Scraped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_AGENTS", 2)
    for name in ("old", "new", "old", "newest"):
        await plane.create(campaign=name)
    await scraped.look()
    rounds = {name: scraped.value("rounds_total", agent=name) for name in ("old", "new", "newest")}
    assert rounds == {"old": 2, "new": None, "newest": 1}
