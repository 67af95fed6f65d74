"""What a real MLflow server hears of campaigns and releases: all of it, once, and nobody waits for it."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from mlflow.tracking import MlflowClient
from sqlalchemy import delete

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.store import ArtifactStore, Term
from duologue_campaign.mlflow_server import NotTold, ServerUnavailable
from duologue_campaign.settings import PriceSettings
from duologue_campaign.tables import ToldRow
from duologue_campaign.tracking import Tracking
from services.campaign.tests.test_canaries import begin
from services.campaign.tests.test_releases import promote, roll_back
from tests.support.answering_server import AnsweringServer
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.mlflow_process import MlflowProcess

PRICES = PriceSettings.model_validate({"models": {"*": {"prompt": 1.0, "completion": 2.0}}})
STORE = "s3://team/duologue"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path, prices=PRICES) as plane:
        plane.artifacts = ArtifactStore(STORE)  # nothing is read
        yield plane


@pytest.fixture
def mlflow(mlflow_of_all: MlflowProcess) -> Seen:
    return Seen(mlflow_of_all.url)


class Seen:
    """What the server has, as a person would look at it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = MlflowClient(url, url)

    def experiment(self, campaign_id: str) -> Any:
        (experiment,) = self.client.search_experiments(filter_string=f"tags.`duologue.campaign_id` = '{campaign_id}'")
        return experiment

    def runs(self, campaign_id: str) -> list[Any]:
        """By round."""
        runs = self.client.search_runs([self.experiment(campaign_id).experiment_id])
        return sorted(runs, key=lambda run: int(run.data.tags["duologue.round"]))

    def versions(self, agent: str) -> dict[str, Any]:
        """By adapter; each is there once."""
        found = self.client.search_model_versions(f"name = '{agent}'")
        versions = {version.tags["duologue.adapter_id"]: version for version in found}
        assert len(versions) == len(found)
        return versions

    def aliases(self, agent: str) -> dict[str, str]:
        """Ids of adapters."""
        by_number = {str(version.version): name for name, version in self.versions(agent).items()}
        aliases = self.client.get_registered_model(agent).aliases
        return {alias: by_number[str(number)] for alias, number in aliases.items()}

    def everything(self, campaign_id: str, agent: str) -> Any:
        """All that must not be there twice, with the ids that the server gave."""
        runs = self.runs(campaign_id)
        histories = {
            (run.info.run_id, name): len(self.client.get_metric_history(run.info.run_id, name))
            for run in runs
            for name in run.data.metrics
        }
        inputs = [len(run.inputs.dataset_inputs) for run in runs]
        versions = {name: version.version for name, version in self.versions(agent).items()}
        return self.experiment(campaign_id).experiment_id, histories, inputs, versions, self.aliases(agent)


async def played_out(plane: ControlPlane, **changes: Any) -> tuple[World, str]:
    """A campaign of two rounds that is over, of an agent that no other test has."""
    agent = f"desk_{uuid.uuid4().hex[:8]}"
    world = World(plane, await plane.create(campaign=agent, **{"rounds": 2, **changes}))
    await world.run()
    return world, agent


async def forget(plane: ControlPlane) -> None:
    """As a process that was killed before it could note what it told."""
    await plane.database.run(lambda session: session.execute(delete(ToldRow)))


async def test_a_campaign_is_an_experiment_and_its_rounds_are_runs(plane: ControlPlane, mlflow: Seen) -> None:
    world, agent = await played_out(plane, evaluation={"dialogues": 20})
    campaign = await plane.campaign(world.campaign_id)
    await plane.tracking(url=mlflow.url).look(Term())
    experiment = mlflow.experiment(world.campaign_id)
    assert experiment.name == f"duologue/{agent}-{world.campaign_id[:8]}"
    assert experiment.tags["duologue.state"] == "completed"
    first, second = mlflow.runs(world.campaign_id)
    assert [run.info.run_name for run in (first, second)] == ["round 1", "round 2"]
    assert first.info.status == second.info.status == "FINISHED"
    assert first.info.end_time <= second.info.start_time
    assert first.data.params["spec_version"] == campaign.spec_version
    assert {"training.rank", "decoding.temperature", "gate.metric", "filters", "seed"} <= first.data.params.keys()
    view, metrics = campaign.history[0], first.data.metrics
    assert (metrics["dialogues/kept"], metrics["dialogues/yield"]) == (view.kept, view.kept / view.candidates)
    assert metrics["scores/words"] == view.means["words"]
    comparison = next(found for found in view.evaluation.comparisons if found.metric == "subgoals_relative")
    gain = [metrics[f"gate/subgoals_relative/gain{bound}"] for bound in ("", ".low", ".high")]
    assert gain == [comparison.gain.value, comparison.gain.low, comparison.gain.high]
    assert metrics["gate/released"] == view.evaluation.released
    assert first.data.tags["duologue.outcome"] == view.outcome
    each = [run.data.metrics for run in (first, second)]
    assert sum(found["usage/prompt_tokens"] for found in each) == sum(
        expense.usage.prompt_tokens for expense in campaign.expenses
    )
    assert math.isclose(sum(found["cost/total"] for found in each), campaign.cost.amount)
    assert first.data.tags["duologue.currency"] == "EUR"


async def test_a_version_leads_back_to_its_run_and_to_the_datasets_that_it_learnt(
    plane: ControlPlane, mlflow: Seen
) -> None:
    world, agent = await played_out(plane, evaluation={"dialogues": 20})
    await plane.tracking(url=mlflow.url).look(Term())
    first, second = mlflow.runs(world.campaign_id)
    version = mlflow.versions(agent)[mlflow.aliases(agent)["released"]]
    run = {run.info.run_id: run for run in (first, second)}[version.run_id]
    adapter_id = version.tags["duologue.adapter_id"]
    assert version.source == f"{STORE}/adapters/{adapter_id}"
    assert version.tags["duologue.adapter_sha256"] == "a"
    assert version.tags["duologue.fingerprint_url"] == f"{STORE}/adapters/{adapter_id}/fingerprint.json"
    assert run.data.tags["duologue.adapter_id"] == adapter_id
    learnt = [used.dataset for used in second.inputs.dataset_inputs]
    assert [dataset.name for dataset in learnt] == [view.dataset_id for view in await datasets(plane, world)]
    for dataset in learnt:
        assert json.loads(dataset.source) == {"uri": f"{STORE}/datasets/{dataset.name}/data.parquet"}
        assert json.loads(dataset.profile)["manifest_url"] == f"{STORE}/datasets/{dataset.name}/manifest.json"
        assert json.loads(dataset.profile)["sha256"] == "d"


async def datasets(plane: ControlPlane, world: World) -> list[Any]:
    found = (await plane.rpc.ListDatasets(pb.ListDatasetsRequest(campaign=world.campaign_id), None)).datasets
    return sorted((dataset.sealed for dataset in found), key=lambda sealed: sealed.round)


async def test_adapters_of_a_folder_are_versions_too(plane: ControlPlane, mlflow: Seen, tmp_path: Path) -> None:
    _, agent = await played_out(plane, rounds=1, evaluation={"dialogues": 20})
    plane.artifacts = ArtifactStore(str(tmp_path / "artifacts"))
    await plane.tracking(url=mlflow.url).look(Term())
    ((name, version),) = mlflow.versions(agent).items()
    assert version.source == f"duologue:{tmp_path}/artifacts/adapters/{name}"


async def test_aliases_move_with_promotions_canaries_and_rollbacks(plane: ControlPlane, mlflow: Seen) -> None:
    world, agent = await played_out(plane, evaluation={"dialogues": 2})  # too few for the gate
    one, two = [view.adapter_id for view in (await plane.campaign(world.campaign_id)).history]
    tracking = plane.tracking(url=mlflow.url)

    async def aliases() -> dict[str, str]:
        await tracking.look(Term())
        return mlflow.aliases(agent)

    await promote(plane, one)
    assert await aliases() == {"released": one}
    await begin(plane, two, 0.25)
    assert await aliases() == {"released": one, "canary": two}
    await promote(plane, two)
    assert await aliases() == {"released": two}
    assert mlflow.versions(agent)[one].tags["duologue.state"] == "retired"
    await roll_back(plane, agent)
    assert await aliases() == {"released": one}
    await roll_back(plane, agent)
    assert await aliases() == {}
    assert mlflow.versions(agent).keys() == {one, two}


async def test_what_a_round_comes_to_is_told_while_the_campaign_runs(plane: ControlPlane, mlflow: Seen) -> None:
    world = World(plane, await plane.create(campaign=f"desk_{uuid.uuid4().hex[:8]}"))
    tracking = plane.tracking(url=mlflow.url)
    await tracking.look(Term())
    (run,) = mlflow.runs(world.campaign_id)
    assert (run.info.status, run.data.metrics) == ("RUNNING", {})
    await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_EVALUATING)
    await tracking.look(Term())
    (run,) = mlflow.runs(world.campaign_id)
    assert (run.info.status, run.data.tags["duologue.phase"]) == ("RUNNING", "evaluating")
    assert run.data.metrics["dialogues/kept"] == 3
    await plane.rpc.CancelCampaign(pb.CancelCampaignRequest(campaign=world.campaign_id), None)
    await tracking.look(Term())
    (run,) = mlflow.runs(world.campaign_id)
    assert run.info.status == "KILLED"


async def test_what_is_told_again_after_a_crash_is_there_once(plane: ControlPlane, mlflow: Seen) -> None:
    world, agent = await played_out(plane, evaluation={"dialogues": 20})
    await plane.tracking(url=mlflow.url).look(Term())
    before = mlflow.everything(world.campaign_id, agent)
    await forget(plane)
    await plane.tracking(url=mlflow.url).look(Term())
    assert mlflow.everything(world.campaign_id, agent) == before


class Losing(Term):
    """A term that ends after so many looks at it: after so many writes."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    @property
    def holds(self) -> bool:
        self.left -= 1
        return self.left >= 0


async def test_a_leader_that_is_lost_between_any_two_writes_leaves_nothing_out_and_nothing_twice(
    plane: ControlPlane, mlflow: Seen
) -> None:
    world, agent = await played_out(plane, rounds=1, evaluation={"dialogues": 20})
    await promote(plane, (await plane.campaign(world.campaign_id)).history[0].adapter_id)
    writes = 0
    while True:
        term = Losing(writes)
        await plane.tracking(url=mlflow.url).look(term)  # each time another process, that lives a little longer
        if term.left >= 0:
            break
        writes += 1
    assert writes > 1
    (run,) = mlflow.runs(world.campaign_id)
    assert len(run.inputs.dataset_inputs) == 1
    assert mlflow.aliases(agent).keys() == {"released"}


async def test_of_runs_and_versions_that_two_made_at_once_one_is_left(plane: ControlPlane, mlflow: Seen) -> None:
    world, agent = await played_out(plane, rounds=1, evaluation={"dialogues": 20})
    await promote(plane, (await plane.campaign(world.campaign_id)).history[0].adapter_id)
    await plane.tracking(url=mlflow.url).look(Term())
    (run,) = mlflow.runs(world.campaign_id)
    mlflow.client.create_run(run.info.experiment_id, tags=run.data.tags)
    (version,) = mlflow.versions(agent).values()
    mlflow.client.create_model_version(agent, version.source, tags=version.tags, await_creation_for=0)
    await forget(plane)
    await plane.tracking(url=mlflow.url).look(Term())
    (left,) = mlflow.runs(world.campaign_id)
    assert left.data.metrics == run.data.metrics
    assert [found.version for found in mlflow.versions(agent).values()] == [version.version]


async def test_what_a_person_deleted_stays_deleted(plane: ControlPlane, mlflow: Seen) -> None:
    world, _ = await played_out(plane)
    tracking = plane.tracking(url=mlflow.url)
    await tracking.look(Term())
    first, second = mlflow.runs(world.campaign_id)
    mlflow.client.delete_run(first.info.run_id)
    await forget(plane)
    await tracking.look(Term())
    assert [run.info.run_id for run in mlflow.runs(world.campaign_id)] == [second.info.run_id]
    mlflow.client.delete_experiment(second.info.experiment_id)
    await forget(plane)
    await tracking.look(Term())
    assert not mlflow.client.search_experiments(filter_string=f"tags.`duologue.campaign_id` = '{world.campaign_id}'")
    assert (await tracking.status()).due == 0


@pytest.mark.timeout(900)
async def test_a_server_that_is_away_stops_nothing_and_hears_of_everything_once_it_is_back(
    plane: ControlPlane, own_mlflow: MlflowProcess
) -> None:
    tracking, mlflow = plane.tracking(url=own_mlflow.url), Seen(own_mlflow.url)
    await tracking.look(Term())
    own_mlflow.kill()
    world, agent = await played_out(plane, evaluation={"dialogues": 20})
    assert (await plane.campaign(world.campaign_id)).state == pb.CAMPAIGN_STATE_COMPLETED
    with pytest.raises(ServerUnavailable, match=r"setting mlflow\.url"):
        await tracking.look(Term())
    status = await plane.tracking(url=own_mlflow.url).status()
    assert status.due == 2
    assert "does not answer" in status.problem
    own_mlflow.run()
    await tracking.look(Term())
    assert (await tracking.status()).due == 0
    before = mlflow.everything(world.campaign_id, agent)
    assert len(mlflow.runs(world.campaign_id)) == 2
    await tracking.look(Term())
    assert mlflow.everything(world.campaign_id, agent) == before


async def told_once(tracking: Tracking) -> str:
    """What the log says of three looks in vain."""
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(ServerUnavailable) as error:
                await tracking.look(Term())
            tracking._tell_of_outage(error.value)
    (line,) = [line for line in logs if line["log_level"] == "warning"]
    return str(line["reason"])


async def test_a_wrong_url_is_told_once(plane: ControlPlane) -> None:
    await plane.create()
    async with AnsweringServer({}) as server:
        assert f"MLflow at {server.url} (setting mlflow.url)" in await told_once(plane.tracking(url=server.url))


@pytest.mark.timeout(900)
async def test_who_is_not_let_in_is_told_once_and_of_the_variables_to_set(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(auth_config(tmp_path)))
    server = MlflowProcess.start(tmp_path, "--app-name=basic-auth")
    try:
        world = World(plane, await plane.create(campaign="desk_with_users"))
        tracking = plane.tracking(url=server.url)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "duologue")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        reason = await told_once(tracking)
        assert "refuses us" in reason
        assert "MLFLOW_TRACKING_PASSWORD" in reason
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a password of tests")
        await tracking.look(Term())
        assert len(Seen(server.url).runs(world.campaign_id)) == 1
    finally:
        server.kill()


def auth_config(folder: Path) -> Path:
    file = folder / "auth.ini"
    file.write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder / 'users.db'}\n"
        "admin_username = duologue\nadmin_password = a password of tests\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    return file


async def test_what_the_server_does_not_take_holds_up_nothing_else(
    plane: ControlPlane, mlflow: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds = [(await played_out(plane, rounds=1))[0] for _ in range(2)]
    tracking = plane.tracking(url=mlflow.url)
    tell = tracking._server.tell_campaign

    def picky(campaign: Any, leads: Callable[[], bool]) -> None:
        if campaign.id == worlds[0].campaign_id:
            raise NotTold("no such thing")
        tell(campaign, leads)

    monkeypatch.setattr(tracking._server, "tell_campaign", picky)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            await tracking.look(Term())
    assert [line["name"] for line in logs if line["event"] == "MLflow was not told"] == [worlds[0].campaign_id]
    assert len(mlflow.runs(worlds[1].campaign_id)) == 1
    assert (await tracking.status()).due == 1


async def test_a_campaign_that_is_over_for_long_is_looked_at_no_more(plane: ControlPlane, mlflow: Seen) -> None:
    await played_out(plane)
    tracking = plane.tracking(url=mlflow.url)
    await tracking.look(Term())
    assert len(await plane.database.run(tracking._unsettled)) > 0
    plane.clock.now += 4000
    await tracking.look(Term())
    campaigns = [subject for subject in await plane.database.run(tracking._unsettled) if subject.kind == "campaign"]
    assert campaigns == []


async def test_without_a_server_there_is_nothing_to_do(plane: ControlPlane) -> None:
    await played_out(plane, rounds=1)
    assert plane.tracking().duties == []
    assert (await plane.rpc.GetTracking(pb.GetTrackingRequest(), None)) == pb.GetTrackingResponse()
