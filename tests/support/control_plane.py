"""The control plane without its process: real tables, handlers and state machine, a clock that the test sets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from sqlalchemy import select

import duologue_campaign
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.topics import TOPICS
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import filtering_pb2, filtering_pb2_grpc, training_pb2_grpc
from duologue.store import ArtifactStore, Database, Outbox, WorkflowStore
from duologue_campaign.changes import Changes
from duologue_campaign.driver import Driver
from duologue_campaign.prices import Prices
from duologue_campaign.progress import TrainingProgress
from duologue_campaign.quota import Quota
from duologue_campaign.rpc import CampaignRpc
from duologue_campaign.settings import MlflowSettings, PriceSettings, QuotaSettings, Settings
from duologue_campaign.specs import Specs
from duologue_campaign.spending import Spending
from duologue_campaign.state import StateMachine
from duologue_campaign.tables import OUTBOX, Base, CampaignRow
from duologue_campaign.tracking import Tracking
from duologue_campaign.worker import CampaignEvents
from tests.support.desk import FILES, spec_text

_MESSAGES = {topic.name: topic.message for topic in TOPICS}
_NOBODY = "127.0.0.1:9"


@dataclass
class Clock:
    """Seconds that pass when the test says so; no two moments are the same."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


@dataclass
class ControlPlane:
    """All parts of the service, and what it has asked the others for."""

    database: Database
    bus: EmbeddedBus
    outbox: Outbox
    workflows: WorkflowStore
    clock: Clock
    specs: Specs = field(default_factory=Specs)
    changes: Changes = field(default_factory=Changes)
    prices: PriceSettings = field(default_factory=PriceSettings)
    quota: QuotaSettings = field(default_factory=QuotaSettings)
    artifacts: ArtifactStore = field(default_factory=lambda: ArtifactStore("memory://team/duologue"))

    def __post_init__(self) -> None:
        self.machine = StateMachine(self.outbox, self.specs, "models/base", self.clock)
        self.events = CampaignEvents(
            self.database, self.machine, self.outbox, self.changes, Spending(Prices(self.prices)), self.clock
        )
        training = training_pb2_grpc.TrainingServiceStub(grpc.aio.insecure_channel(_NOBODY))
        self.progress = TrainingProgress([training])
        self.rpc = CampaignRpc(
            self.database,
            self.machine,
            self.specs,
            self.outbox,
            self.changes,
            self.workflows,
            self.progress,
            Prices(self.prices),
            Quota(self.quota),
            self.tracking(),
            self.clock,
        )

    def driver(self, filtering: filtering_pb2_grpc.FilteringServiceAsyncStub | None = None, **settings: Any) -> Driver:
        stub = filtering or filtering_pb2_grpc.FilteringServiceStub(grpc.aio.insecure_channel(_NOBODY))
        return Driver(
            self.database,
            self.machine,
            self.specs,
            self.outbox,
            self.changes,
            stub,
            self.progress,
            Settings(**settings),
            self.clock,
        )

    def tracking(self, **settings: Any) -> Tracking:
        prices = Prices(self.prices)
        return Tracking(self.database, self.specs, prices, self.artifacts, MlflowSettings(**settings), self.clock)

    async def create(self, request_id: str = "", **changes: Any) -> str:
        """The id of a new campaign over the files of `desk`."""
        request = create_request(request_id, **changes)
        return (await self.rpc.CreateCampaign(request, None)).campaign.id

    async def campaign(self, campaign_id: str) -> pb.Campaign:
        return (await self.rpc.GetCampaign(pb.GetCampaignRequest(campaign=campaign_id), None)).campaign

    async def asked(self, kind: type[Message], campaign_id: str = "") -> list[Any]:
        """Messages of one kind that were put into the outbox, in order."""
        rows = await self.database.run(lambda session: session.execute(select(OUTBOX).order_by(OUTBOX.c.id)).all())
        messages = [_MESSAGES[row.topic].FromString(row.value) for row in rows if _MESSAGES[row.topic] is kind]
        return [message for message in messages if not campaign_id or message.campaign_id == campaign_id]

    async def out(self, campaign_id: str) -> int:
        """Dialogues of the present phase that were asked for, are not back and were not given up."""

        def count(session: Any) -> int:
            current = session.get_one(CampaignRow, campaign_id).history[-1]
            return int(current.issued - current.scored - len(current.lost))

        return await self.database.run(count)


def create_request(request_id: str = "", **changes: Any) -> pb.CreateCampaignRequest:
    return pb.CreateCampaignRequest(
        spec=pb.SpecFile(name="desk/campaign.yaml", text=spec_text(**changes)),
        files=[pb.SpecFile(name=name, text=text) for name, text in FILES.items()],
        request_id=request_id,
    )


@asynccontextmanager
async def control_plane(
    folder: Path, url: str = "", prices: PriceSettings | None = None, quota: QuotaSettings | None = None
) -> AsyncIterator[ControlPlane]:
    """On a database, by default a file in the folder, brought up by the migrations."""
    database = Database(url or f"sqlite:///{folder / 'campaign.db'}")
    await database.migrate(Path(duologue_campaign.__file__).parent / "migrations")
    bus = await EmbeddedBus.open(folder / "bus.db")
    workflows = WorkflowStore(ArtifactStore(str(folder / "artifacts")))
    outbox = Outbox(OUTBOX, database, bus)
    yield ControlPlane(
        database, bus, outbox, workflows, Clock(), prices=prices or PriceSettings(), quota=quota or QuotaSettings()
    )
    await bus.close()
    await database.close()


@asynccontextmanager
async def fleeting_control_plane(folder: Path, bus: EmbeddedBus) -> AsyncIterator[ControlPlane]:
    """On a database in memory, for properties of many histories; what it would publish stays in its outbox."""
    database = Database("sqlite://")
    await database.run(lambda session: Base.metadata.create_all(session.connection()))
    workflows = WorkflowStore(ArtifactStore(str(folder / "artifacts")))
    yield ControlPlane(database, bus, Outbox(OUTBOX, database, bus), workflows, Clock())
    await database.close()


class RecordingFiltering(filtering_pb2_grpc.FilteringServiceServicer):
    """An imitation of the filtering service that takes every order; `fails` so many first, with `status`."""

    def __init__(self) -> None:
        self.orders: list[filtering_pb2.SealDatasetRequest] = []
        self.fails = 0
        self.status = grpc.StatusCode.UNAVAILABLE

    async def SealDataset(  # noqa: N802
        self, request: filtering_pb2.SealDatasetRequest, context: Any
    ) -> filtering_pb2.SealDatasetResponse:
        self.orders.append(request)
        if len(self.orders) <= self.fails:
            await context.abort(self.status, "not now")
        return filtering_pb2.SealDatasetResponse()

    @property
    def filters(self) -> list[Any]:
        return [json.loads(order.filters) for order in self.orders]
