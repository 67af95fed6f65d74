"""Several processes of filtering on one PostgreSQL, where transactions meet that SQLite has one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

import duologue_filtering
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.v1 import events_pb2
from duologue.contracts.v1 import filtering_pb2 as pb
from duologue.runtime.errors import NotPossible
from duologue.store import ArtifactStore, Database, Leader, Outbox, StoredArtifact, WorkflowStore
from duologue_filtering.filters import Decision
from duologue_filtering.rpc import FilteringRpc
from duologue_filtering.sealing import Sealer
from duologue_filtering.tables import OUTBOX, CandidateRow, SealRow
from duologue_filtering.worker import CollectCandidate
from services.filtering.tests.conftest import House
from tests.support.desk import CAMPAIGN_ID, DESK, dialogue, scored
from tests.support.transactions import held, waits


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


@asynccontextmanager
async def replica(url: str, folder: Path) -> AsyncIterator[House]:
    """All parts of a process, beside the fixture `house`."""
    database = Database(url)
    await database.migrate(Path(duologue_filtering.__file__).parent / "migrations")
    bus = await EmbeddedBus.open(folder / "bus.db")
    artifacts = ArtifactStore(str(folder / "artifacts"))
    workflows = WorkflowStore(artifacts)
    workflows.put(DESK)
    outbox = Outbox(OUTBOX, database, bus)
    sealer = Sealer(database, outbox, artifacts, workflows)
    yield House(database, bus, outbox, artifacts, sealer, CollectCandidate(database, sealer))
    await bus.close()
    await database.close()


def order(**changes: object) -> pb.SealDatasetRequest:
    fields = {"dataset_id": "desk-r1", "campaign_id": CAMPAIGN_ID, "round": 1, "candidates": 4, "filters": "[]"}
    return pb.SealDatasetRequest(**(fields | changes))  # type: ignore[arg-type]


def seal(**changes: object) -> SealRow:
    fields = {"dataset_id": "desk-r1", "campaign_id": CAMPAIGN_ID, "round": 1, "candidates": 4, "filters": "[]"}
    return SealRow(**(fields | {"seed": 0, "sealed": False} | changes))


def candidate(name: str) -> CandidateRow:
    event = scored(dialogue(name), words=10)
    return CandidateRow(
        dialogue_id=name, campaign_id=CAMPAIGN_ID, round=1, scores={"words": 10}, payload=event.SerializeToString()
    )


async def test_a_dialogue_that_comes_to_two_processes_at_once_is_one_candidate_the_first_one(
    house: House, database_url: str
) -> None:
    async with held(database_url, lambda session: session.add(candidate("a0"))):
        second = asyncio.create_task(house.collect.handle(scored(dialogue("a0"), words=99)))
        await waits(house.database)
    await second
    (row,) = await house.candidates()
    assert row.scores["words"] == 10


async def test_an_order_that_comes_to_two_processes_at_once_is_one(house: House, database_url: str) -> None:
    rpc = FilteringRpc(house.database, house.sealer)
    async with held(database_url, lambda session: session.add(seal())):
        second = asyncio.create_task(rpc.SealDataset(order(), None))
        await waits(house.database)
    await second
    assert await house.database.run(lambda session: session.scalar(select(func.count()).select_from(SealRow))) == 1


async def test_of_two_datasets_that_are_asked_for_at_once_of_one_round_the_first_is_sealed(
    house: House, database_url: str
) -> None:
    rpc = FilteringRpc(house.database, house.sealer)
    async with held(database_url, lambda session: session.add(seal())):
        second = asyncio.create_task(rpc.SealDataset(order(dataset_id="second"), None))
        await waits(house.database)
    with pytest.raises(NotPossible, match="goes into dataset desk-r1"):
        await second


async def test_two_that_seal_the_same_round_tell_of_it_once_and_of_the_same(
    house: House, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a leader stood still, and another one took over."""
    for number in range(4):
        await house.collect.handle(scored(dialogue(f"a{number}")))
    await house.order(4)
    async with replica(database_url, tmp_path) as other:
        loop, write_file = asyncio.get_running_loop(), house.artifacts.write_file

        def slow(uri: str, source: Path) -> StoredArtifact:
            """By the time that this one has written, the other has sealed."""
            asyncio.run_coroutine_threadsafe(other.sealer._try("desk-r1"), loop).result(timeout=20)
            return write_file(uri, source)

        monkeypatch.setattr(house.artifacts, "write_file", slow)
        await house.sealer._try("desk-r1")
        assert len(await house.waiting()) == 5  # four decisions and the dataset
        await other.sealer._try("desk-r1")
        assert len(await house.waiting()) == 5


async def test_who_finds_a_dataset_sealed_while_it_writes_leaves_it_at_that(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        await house.collect.handle(scored(dialogue(f"a{number}")))
    await house.order(2)
    write = house.sealer._write

    async def overtaken(row: SealRow, decisions: dict[str, Decision]) -> events_pb2.DatasetSealed:
        def let_go(session: Session) -> None:
            session.get_one(SealRow, "desk-r1").sealed = True
            session.execute(update(CandidateRow).values(payload=None))

        await house.database.run(let_go)
        return await write(row, decisions)

    monkeypatch.setattr(house.sealer, "_write", overtaken)
    with structlog.testing.capture_logs() as logs:
        await house.sealer._try("desk-r1")
    assert logs == []
    assert await house.waiting() == []


async def test_a_dialogue_that_two_find_late_is_told_of_once(house: House, database_url: str) -> None:
    await house.order(0, sealed=True)
    await house.collect.handle(scored(dialogue("late")))
    other = Database(database_url)
    sealer = Sealer(other, Outbox(OUTBOX, other, house.bus), house.artifacts, WorkflowStore(house.artifacts))

    async with held(database_url, house.sealer._tell_late):
        second = asyncio.create_task(other.run(sealer._tell_late))
        await waits(house.database)
    assert await second == 0
    assert len(await house.waiting()) == 1
    await other.close()


async def test_what_comes_while_a_round_is_decided_on_is_in_the_dataset_or_late_but_never_lost(
    house: House, database_url: str
) -> None:
    await house.collect.handle(scored(dialogue("a0")))
    await house.order(1)
    async with house.sealing():
        async with held(database_url, lambda session: session.add(candidate("meanwhile"))):
            await house.sealed()
        decisions = await house.decided(2)
    assert (decisions["a0"].kept, decisions["meanwhile"].dropped_by) == (True, "late")


async def test_of_two_replicas_one_seals_and_what_either_has_heard_of_is_sealed_once(
    house: House, tmp_path: Path, database_url: str
) -> None:
    async with replica(database_url, tmp_path) as other:
        tasks = [
            asyncio.create_task(Leader(each.database, "filtering", each.outbox.relay, each.sealer.run).run())
            for each in (house, other)
        ]
        for number in range(8):
            await (house, other)[number % 2].collect.handle(scored(dialogue(f"a{number}")))
        for round_ in range(2, 5):
            await other.collect.handle(scored(dialogue(f"b{round_}", round=round_)))
            await other.order(1, dataset_id=f"desk-r{round_}", round=round_)
        await other.order(8)
        assert len(await house.decided(11)) == 11
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await house.waiting() == []
