"""Traces over real processes and a real collector: a dialogue is one, from the request for it to the decision on it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.spans import OUTCOME
from duologue.contracts.topics import (
    DATASET_SEALED,
    DIALOGUE_FILTERED,
    DIALOGUE_GENERATED,
    DIALOGUE_REQUESTED,
    DIALOGUE_SCORED,
    TRAINING_REQUESTED,
    Topic,
)
from duologue.contracts.v1 import campaign_pb2, campaign_pb2_grpc, events_pb2
from duologue.store import ArtifactStore, WorkflowStore
from duologue.telemetry import TRACEPARENT, trace_of
from tests.support.control_plane import create_request
from tests.support.desk import DESK, requested
from tests.support.desk_models import deciding, obedient
from tests.support.eventually import eventually
from tests.support.model_server import CHAT, ScriptedModelServer
from tests.support.otlp_collector import OtlpCollector, Seen, edges, otlp_collector
from tests.support.requirements import ROOT
from tests.support.service_process import ServiceProcess, service_process

PATIENCE_SECONDS = 120.0
DIALOGUES = 6
_EXEMPLAR = re.compile(r'^(\w+)_bucket\{.*\} \S+ # \{trace_id="(\w+)"\}', re.MULTILINE)


@dataclass
class Cluster:
    """Processes of services on one bus, models that answer at once, and a collector of traces."""

    folder: Path
    bus: EmbeddedBus
    models: ScriptedModelServer
    collector: OtlpCollector
    stack: AsyncExitStack

    async def start(self, module: str, **settings: object) -> ServiceProcess:
        process = service_process(module, self.folder, log__format="json", bus__retry_first_seconds=0.05, **settings)
        return await self.stack.enter_async_context(process)

    async def start_roleplay(self) -> ServiceProcess:
        return await self.start(
            "duologue_roleplay", **self._endpoints("models__client", "models__agent", "models__manager")
        )

    async def start_scoring(self) -> ServiceProcess:
        return await self.start("duologue_scoring", **self._endpoints("judge"))

    async def start_all(self) -> ServiceProcess:
        """The control plane, which is returned, and those whom it needs up to the training, which never ends."""
        filtering = await self.start("duologue_filtering", database__url=f"sqlite:///{self.folder / 'filtering.db'}")
        training = await self.start("tests.support.tiny_service", bus__url=f"sqlite:///{self.folder / 'other.db'}")
        roleplay, scoring = await self.start_roleplay(), await self.start_scoring()
        campaign = await self.start(
            "duologue_campaign",
            database__url=f"sqlite:///{self.folder / 'campaign.db'}",
            filtering__address=f"127.0.0.1:{filtering.port}",
            training__address=f"127.0.0.1:{training.port}",
        )
        for process in (filtering, training, roleplay, scoring, campaign):
            await process.serves()
        return campaign

    def _endpoints(self, *names: str) -> dict[str, str]:
        endpoint = {"url": self.models.url, "server": "openai", "model": "any"}
        return {f"{name}__{key}": value for name in names for key, value in endpoint.items()}

    def store_workflow(self) -> None:
        WorkflowStore(ArtifactStore(str(self.folder / "artifacts"))).put(DESK)

    async def request(self, request: events_pb2.DialogueRequested) -> None:
        """As somebody would who knows nothing of traces."""
        await self.bus.publish([encode(DIALOGUE_REQUESTED, request, "test")])

    async def records(self, topic: str, count: int) -> list[Record]:
        async def claim() -> list[Record]:
            found = [delivery.record async for delivery in self.bus.read(topic)]
            return found if len(found) >= count else []

        return await eventually(claim, f"{count} records are on {topic}", PATIENCE_SECONDS)

    async def spans(self, key: str, *places: tuple[str, str]) -> list[Seen]:
        """Those of a key's trace, as soon as all these are among them."""

        async def claim() -> list[Seen]:
            found = self.collector.trace_of(key)
            return found if {span.place for span in found} >= set(places) else []

        return await eventually(claim, f"the trace of {key} has {places}", PATIENCE_SECONDS)

    def logged(self) -> list[dict[str, Any]]:
        """What all services said."""
        return [json.loads(line) for log in self.folder.glob("*.log") for line in log.read_text().splitlines()]


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    async with AsyncExitStack() as stack:
        bus = await EmbeddedBus.open(tmp_path / "bus.db")
        stack.push_async_callback(bus.close)
        models = await stack.enter_async_context(ScriptedModelServer(obedient, deciding()))
        collector = await stack.enter_async_context(otlp_collector())
        collector.sent_to(monkeypatch)
        yield Cluster(tmp_path, bus, models, collector, stack)


def created(topic: Topic) -> str:
    return f"create {topic.name}"


def processed(topic: Topic) -> str:
    return f"process {topic.name}"


ROAD = {
    (("campaign", created(DIALOGUE_REQUESTED)), ("roleplay", processed(DIALOGUE_REQUESTED))),
    (("roleplay", processed(DIALOGUE_REQUESTED)), ("roleplay", "chat any")),
    (("roleplay", processed(DIALOGUE_REQUESTED)), ("roleplay", "decide any")),
    (("roleplay", processed(DIALOGUE_REQUESTED)), ("roleplay", created(DIALOGUE_GENERATED))),
    (("roleplay", processed(DIALOGUE_REQUESTED)), ("roleplay", f"settle {DIALOGUE_REQUESTED.name}")),
    (("roleplay", created(DIALOGUE_GENERATED)), ("scoring", processed(DIALOGUE_GENERATED))),
    (("scoring", processed(DIALOGUE_GENERATED)), ("scoring", "decide any")),
    (("scoring", processed(DIALOGUE_GENERATED)), ("scoring", created(DIALOGUE_SCORED))),
    (("scoring", created(DIALOGUE_SCORED)), ("filtering", processed(DIALOGUE_SCORED))),
    (("scoring", created(DIALOGUE_SCORED)), ("campaign", processed(DIALOGUE_SCORED))),
    (("filtering", created(DIALOGUE_FILTERED)), ("campaign", processed(DIALOGUE_FILTERED))),
}
END = ("campaign", processed(DIALOGUE_FILTERED))


async def test_every_dialogue_is_one_trace_from_the_request_for_it_to_the_decision_on_it(cluster: Cluster) -> None:
    campaign = await cluster.start_all()
    async with campaign.channel() as channel:
        stub = campaign_pb2_grpc.CampaignServiceStub(channel)
        made = await stub.CreateCampaign(create_request())
        asked = {record.key for record in await cluster.records(DIALOGUE_REQUESTED.name, DIALOGUES)}
        traces = {key: await cluster.spans(key, END, *(place for edge in ROAD for place in edge)) for key in asked}
        assert len(traces) == DIALOGUES
        for spans in traces.values():
            assert edges(spans) >= ROAD
            assert {span.place for span in spans if not span.parent} == {
                ("campaign", created(DIALOGUE_REQUESTED)),
                ("filtering", created(DIALOGUE_FILTERED)),  # when its round is sealed, by nothing of its own
            }
            assert not any(span.failed for span in spans)
        commands = {span.trace for span in cluster.collector.named("duologue.v1.CampaignService/CreateCampaign")}
        begun = [span for spans in traces.values() for span in spans if span.place[1] == created(DIALOGUE_REQUESTED)]
        assert any(commands & set(span.links) for span in begun)

        sent = [span for span in cluster.collector.named("send outbox") if span.service == "campaign"]
        assert {f"{trace_of(key):032x}" for key in asked} <= {trace for span in sent for trace in span.links}
        watch = stub.WatchCampaign(campaign_pb2.WatchCampaignRequest(campaign=made.campaign.id))
        async for told in watch:
            if told.campaign.history[-1].phase == campaign_pb2.ROUND_PHASE_TRAINING:
                break  # of which it has asked for the progress
        watch.cancel()
        of_campaign = await cluster.spans(made.campaign.id, ("campaign", created(TRAINING_REQUESTED)))
    assert edges(of_campaign) >= {
        (("filtering", created(DATASET_SEALED)), ("campaign", processed(DATASET_SEALED))),
    }
    listing = "duologue.v1.TrainingService/ListTrainings"
    expected = {
        (("campaign", "duologue.v1.CampaignService/WatchCampaign"), ("campaign", listing)),
        (("campaign", listing), ("tiny", listing)),
    }

    async def claim() -> bool:
        return edges(cluster.collector.spans) >= expected

    await eventually(claim, "the calls are seen", PATIENCE_SECONDS)


async def test_a_dialogue_is_recorded_everywhere_or_nowhere(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.collector.sent_to(monkeypatch, TRACES_SAMPLER="parentbased_traceidratio", TRACES_SAMPLER_ARG="0.5")
    campaign = await cluster.start_all()
    async with campaign.channel() as channel:
        request = create_request(dialogues=24, concurrency=24)
        await campaign_pb2_grpc.CampaignServiceStub(channel).CreateCampaign(request)
        asked = {record.key for record in await cluster.records(DIALOGUE_REQUESTED.name, 24)}
        await cluster.records(DIALOGUE_FILTERED.name, 24)
    recorded = {key for key in asked if cluster.collector.trace_of(key)}
    assert recorded == {key for key in asked if trace_of(key) % 2**64 < 2**63}
    assert 0 < len(recorded) < len(asked)
    for key in recorded:
        assert edges(await cluster.spans(key, END)) >= ROAD


async def test_requests_to_models_tell_how_much_and_never_what_was_said(cluster: Cluster) -> None:
    await cluster.start_roleplay()
    cluster.store_workflow()
    request = requested()
    await cluster.request(request)
    spans = await cluster.spans(request.dialogue_id, ("roleplay", processed(DIALOGUE_REQUESTED)))
    chats = [span for span in spans if span.name == "chat any"]
    assert chats
    for span in chats:
        assert span.kind == "client"
        assert span.attributes["gen_ai.operation.name"] == "chat"
        assert span.attributes["gen_ai.conversation.id"] == request.dialogue_id
        assert span.attributes["gen_ai.usage.input_tokens"] > 0
        assert span.attributes["gen_ai.usage.output_tokens"] > 0
    shown = json.dumps([span.attributes for span in spans])
    for said in ("parcel", "tracking", "PK-4471"):
        assert said not in shown.replace(DESK.id, "")
    # The model server is told, so that its own spans, where it makes some, are in the trace.
    told = {asked.headers[TRACEPARENT].split("-")[1] for asked in cluster.models.asked(CHAT)}
    assert told == {f"{trace_of(request.dialogue_id):032x}"}


async def test_retries_and_dead_letters_stay_in_the_trace_and_logs_lead_to_it(cluster: Cluster) -> None:
    await cluster.start_roleplay()
    later, never = (str(number) * 8 for number in (1, 2))
    retries, letters = DIALOGUE_REQUESTED.retry("roleplay"), DIALOGUE_REQUESTED.dead_letters("roleplay")
    await cluster.request(requested(dialogue_id=later))
    await cluster.records(retries, 1)  # its workflow is not there yet
    cluster.store_workflow()
    await cluster.request(requested(dialogue_id=never, intention_id="none"))

    spans = await cluster.spans(later, ("roleplay", f"process {retries}"), ("roleplay", created(DIALOGUE_GENERATED)))
    handled = [span for span in spans if span.kind == "consumer"]
    assert [span.attributes["duologue.attempt"] for span in handled] == [*range(1, len(handled) + 1)]
    assert [span.attributes[OUTCOME] for span in handled] == ["retried"] * (len(handled) - 1) + ["done"]
    (letter,) = await cluster.records(letters, 1)
    assert letter.key == never
    (buried,) = [
        span
        for span in await cluster.spans(never, ("roleplay", processed(DIALOGUE_REQUESTED)))
        if span.kind == "consumer"
    ]
    assert (buried.attributes[OUTCOME], buried.failed) == ("dead", True)

    said = {line["event"]: line for line in cluster.logged() if line["event"] in ("will retry", "dead letter")}
    for event, key in (("will retry", later), ("dead letter", never)):
        line = said[event]
        assert (line["trace_id"], line["dialogue_id"]) == (f"{trace_of(key):032x}", key)
        assert line["span_id"] in {span.id for span in cluster.collector.trace_of(key)}


async def test_metrics_lead_to_traces_by_exemplars(cluster: Cluster) -> None:
    roleplay = await cluster.start_roleplay()
    cluster.store_workflow()
    request = requested()
    await cluster.request(request)
    await cluster.spans(request.dialogue_id, ("roleplay", processed(DIALOGUE_REQUESTED)))
    page = f"http://127.0.0.1:{roleplay.metrics_port}/metrics"
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with aiohttp.ClientSession() as client, client.get(page, headers=accept) as answer:
        exemplars = dict(_EXEMPLAR.findall(await answer.text()))
    for name in ("duologue_record_seconds", "duologue_record_age_seconds", "duologue_model_request_seconds"):
        assert exemplars[name] == f"{trace_of(request.dialogue_id):032x}"
