"""One request for a training becomes an adapter, or an error that says why not. The process is an imitation."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog

from duologue.bus import Record, Transient
from duologue.bus.codec import decode
from duologue.contracts.topics import TRAINING_COMPLETED
from duologue.contracts.v1 import events_pb2, training_pb2
from duologue.store import ArtifactStore, listing_sha256
from duologue_training.folder import WorkFolder
from duologue_training.local import ChildTrainer
from duologue_training.plan import TrainingRecord
from duologue_training.settings import Settings
from duologue_training.trainings import Trainings
from duologue_training.worker import TrainAdapter
from tests.support.desk import CAMPAIGN_ID, dialogue
from tests.support.eventually import eventually
from tests.support.metrics import told
from tests.support.training_process import calls, install

Order = events_pb2.TrainingRequested


class Bench:
    """The worker, and the imitated process that it starts."""

    def __init__(self, folder: Path, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.artifacts = artifacts
        self.trainings = Trainings()
        self.cancelled = asyncio.Event()
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._path = folder

    def worker(self, *attempts: str, **settings: object) -> TrainAdapter:
        self._path = install(self._folder, *attempts)
        self._monkeypatch.setenv("PYTHONPATH", str(self._path))
        chosen = Settings(work=str(self._folder / "work"), **settings)  # type: ignore[arg-type]
        trainer = ChildTrainer(self.artifacts, chosen)
        return TrainAdapter(self.artifacts, trainer, self.trainings, chosen, self.until_cancelled)

    async def until_cancelled(self, campaign_id: str) -> None:
        assert campaign_id == CAMPAIGN_ID
        await self.cancelled.wait()

    @property
    def under_way(self) -> list[str]:
        """Trainings that have a folder."""
        return sorted(path.name for path in (self._folder / "work").glob("*"))

    @property
    def calls(self) -> list[dict]:
        return calls(self._path)


@pytest.fixture
def bench(tmp_path: Path, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, artifacts, monkeypatch)


def completed(records: list[Record]) -> events_pb2.TrainingCompleted:
    (record,) = records
    assert (record.topic, record.key) == (TRAINING_COMPLETED.name, CAMPAIGN_ID)
    return decode(events_pb2.TrainingCompleted, record)


async def test_an_adapter_is_trained_stored_and_told_of(bench: Bench, order: Order) -> None:
    done = completed(await bench.worker("trains").handle(order))
    assert (done.error, done.training_id, done.campaign_id, done.round) == ("", "desk-r2", CAMPAIGN_ID, 2)
    assert (done.examples, done.steps, done.first_loss, done.last_loss, done.seconds) == (6, 2, 2.5, 1.25, 3.5)
    assert done.artifact.uri == "adapters/desk-r2"
    assert done.adapter.id == "desk-r2"
    assert done.adapter.served_model == str(bench.artifacts.local_path("adapters/desk-r2/merged"))
    assert bench.artifacts.read("adapters/desk-r2/merged/model.safetensors") == b"merged weights"
    fingerprint = done.adapter.fingerprint
    assert bench.artifacts.read(fingerprint.uri, fingerprint.sha256)
    for name in ("adapter/adapter_model.safetensors", "README.md", "training.json"):
        assert bench.artifacts.exists(f"adapters/desk-r2/{name}")


async def test_trainings_are_counted_by_how_they_went(bench: Bench, order: Order) -> None:
    names = (
        ("trainings_total", {"outcome": "done"}),
        ("trainings_total", {"outcome": "failed"}),
        ("training_seconds_count", {}),
    )

    def counted() -> list[float]:
        return [told(f"duologue_{name}", **labels) for name, labels in names]

    worker, before = bench.worker("trains"), counted()
    await worker.handle(order)
    order.base_model, order.adapter_id = "", "desk-r3"
    await worker.handle(order)
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 1]
    assert told("duologue_training_progress_ratio") == 0


async def test_the_plan_has_every_agent_turn_of_all_datasets_and_the_order_s_settings(
    bench: Bench, order: Order
) -> None:
    await bench.worker("trains", threads=2, device="cpu").handle(order)
    (call,) = bench.calls
    plan = call["plan"]
    assert [example["completion"][:11] for example in plan["examples"]] == [
        "Hello, this",
        "Your parcel",
        "Then have a",
    ] * 2
    assert plan["examples"][0]["prompt"][-1] == {
        "role": "user",
        "content": "[Say now: Hello, this is the parcel desk. What is your tracking code?]",
    }
    assert {name: plan[name] for name in ("rank", "alpha", "batch_size", "epochs", "seed", "threads", "device")} == {
        "rank": 4,
        "alpha": 8,
        "batch_size": 2,
        "epochs": 1,
        "seed": 3,
        "threads": 2,
        "device": "cpu",
    }


async def test_an_adapter_that_is_stored_is_told_of_and_not_trained_again(bench: Bench, order: Order) -> None:
    worker = bench.worker("trains")
    first = completed(await worker.handle(order))
    again = completed(await worker.handle(order))
    assert again == first
    assert len(bench.calls) == 1


async def test_a_finished_training_that_can_not_be_stored_is_only_stored_the_next_time(
    bench: Bench, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    worker = bench.worker("trains")
    with monkeypatch.context() as patch:
        patch.setattr(bench.artifacts, "write", full)
        with pytest.raises(Transient, match="no space"):
            await worker.handle(order)
    assert bench.under_way == ["desk-r2"]
    assert completed(await worker.handle(order)).error == ""
    assert len(bench.calls) == 1
    assert bench.under_way == []


async def test_what_was_finished_for_another_plan_is_not_taken_for_this_one(
    bench: Bench, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    worker = bench.worker("trains")
    with monkeypatch.context() as patch:
        patch.setattr(bench.artifacts, "write", full)
        with pytest.raises(Transient):
            await worker.handle(order)
    order.rank = 2
    await worker.handle(order)
    assert [call["plan"]["rank"] for call in bench.calls] == [4, 2]


async def test_a_service_that_starts_removes_what_was_left_unfinished_or_long_ago(
    bench: Bench, order: Order, tmp_path: Path
) -> None:
    work = WorkFolder(tmp_path / "work")
    for name in ("unfinished", "finished", "old"):
        work.of(name).out.mkdir(parents=True)
    for name in ("finished", "old"):
        work.of(name).result.write_text("{}")
    os.utime(work.of("old").result, (0, 0))
    work.sweep()
    assert bench.under_way == ["finished"]
    WorkFolder(tmp_path / "no such folder").sweep()


async def test_the_adapter_s_record_leads_back_to_all_that_it_was_made_of(bench: Bench, order: Order) -> None:
    done = completed(await bench.worker("trains", threads=2).handle(order))
    record = TrainingRecord.model_validate_json(bench.artifacts.read("adapters/desk-r2/training.json"))
    assert (record.campaign_id, record.round, record.base_model) == (CAMPAIGN_ID, 2, "models/base")
    assert record.base_model_sha256 == listing_sha256({"config.json": "c0", "model.safetensors": "5a"})
    assert [(used.dataset_id, used.uri, used.sha256) for used in record.datasets] == [
        (sealed.dataset_id, f"datasets/{sealed.dataset_id}/data.parquet", sealed.data.sha256)
        for sealed in order.datasets
    ]
    asked = {"training_id", "rank", "alpha", "learning_rate", "weight_decay", "batch_size", "epochs", "seed"}
    assert {name: record.plan[name] for name in asked} == {name: getattr(order, name) for name in asked}
    assert record.plan["threads"] == 2
    assert record.result.losses == [2.5, 1.25]
    names = (
        "README.md",
        "adapter/adapter_model.safetensors",
        "fingerprint.json",
        "merged/model.safetensors",
    )
    hashes = {name: bench.artifacts.stored(f"adapters/desk-r2/{name}").sha256 for name in names}
    assert done.artifact.sha256 == record.sha256 == listing_sha256(hashes)


async def test_a_record_that_is_damaged_is_answered_with_an_error_and_the_adapter_left_alone(
    bench: Bench, order: Order
) -> None:
    bench.artifacts.write("adapters/desk-r2/training.json", b"half")
    assert "training.json is no record" in completed(await bench.worker("trains").handle(order)).error
    assert bench.calls == []


async def test_an_adapter_that_is_only_half_stored_is_trained_again(bench: Bench, order: Order) -> None:
    bench.artifacts.write("adapters/desk-r2/fingerprint.json", b"half")
    done = completed(await bench.worker("trains").handle(order))
    assert len(bench.calls) == 1
    assert bench.artifacts.read(done.adapter.fingerprint.uri, done.adapter.fingerprint.sha256) != b"half"


async def test_without_merging_the_adapter_is_served_under_its_id(bench: Bench, order: Order) -> None:
    done = completed(await bench.worker("trains", merge=False).handle(order))
    assert done.adapter.served_model == "desk-r2"
    assert not bench.artifacts.exists("adapters/desk-r2/merged")


@pytest.mark.parametrize("failure", ["killed", "crashes"])
async def test_a_process_that_dies_is_started_again(bench: Bench, order: Order, failure: str) -> None:
    done = completed(await bench.worker(failure, failure, "trains").handle(order))
    assert done.error == ""
    assert len(bench.calls) == 3


async def test_a_process_that_dies_every_time_is_reported_with_its_signal(bench: Bench, order: Order) -> None:
    done = completed(await bench.worker("killed", attempts=2).handle(order))
    assert done.error.startswith("the training process ended with status -9")
    assert len(bench.calls) == 2
    assert not bench.artifacts.exists("adapters/desk-r2/training.json")


async def test_what_the_process_said_last_is_in_the_error(bench: Bench, order: Order) -> None:
    done = completed(await bench.worker("crashes", attempts=1).handle(order))
    assert "MemoryError: no room for the optimizer" in done.error


async def test_a_plan_that_can_never_work_is_reported_at_once(bench: Bench, order: Order) -> None:
    done = completed(await bench.worker("unusable", attempts=5).handle(order))
    assert "base model 'x' can't be loaded" in done.error
    assert len(bench.calls) == 1


async def test_without_a_base_model_no_process_is_started(bench: Bench, order: Order) -> None:
    order.base_model = ""
    done = completed(await bench.worker("trains").handle(order))
    assert "training.base_model" in done.error
    assert bench.calls == []


async def test_datasets_without_any_agent_turn_are_an_error_and_no_endless_retry(
    bench: Bench, order: Order, seal: Callable[..., events_pb2.DatasetSealed]
) -> None:
    del order.datasets[:]
    order.datasets.append(seal("mute", dialogue("m", turns=())))
    done = completed(await bench.worker("trains").handle(order))
    assert "no agent turn" in done.error
    assert bench.calls == []


async def test_a_dataset_that_is_not_there_yet_is_waited_for(bench: Bench, order: Order) -> None:
    order.datasets[1].data.uri = "datasets/late/data.parquet"
    with pytest.raises(Transient, match="late"):
        await bench.worker("trains").handle(order)


async def test_a_dataset_that_was_changed_is_answered_with_an_error(bench: Bench, order: Order) -> None:
    bench.artifacts.write(order.datasets[0].data.uri, b"other bytes")
    assert "SHA-256" in completed(await bench.worker("trains").handle(order)).error
    assert bench.calls == []


@pytest.mark.parametrize("content", ["no parquet", "other columns", "other rows"])
async def test_a_dataset_that_can_not_be_read_is_answered_with_an_error(
    bench: Bench, order: Order, content: str
) -> None:
    file = BytesIO(b"no parquet")
    if content != "no parquet":
        rows = [{"examples" if content == "other rows" else "other": ["text"]}]
        pq.write_table(pa.Table.from_pylist(rows), file)
    stored = bench.artifacts.write("datasets/odd/data.parquet", file.getvalue())
    order.datasets[0].data.uri, order.datasets[0].data.sha256 = stored.uri, stored.sha256
    assert "datasets/odd/data.parquet is no dataset" in completed(await bench.worker("trains").handle(order)).error


@pytest.mark.parametrize("field", ["training_id", "adapter_id"])
async def test_a_name_that_leads_out_of_its_folder_is_answered_with_an_error(
    bench: Bench, order: Order, field: str
) -> None:
    setattr(order, field, "../desk-r2")
    (record,) = await bench.worker("trains").handle(order)
    answer = events_pb2.TrainingCompleted.FromString(record.value)
    assert f'{field}: "../desk-r2" is no name' in answer.error
    assert bench.calls == []


@pytest.mark.parametrize("call", ["exists", "read", "write"])
async def test_while_artifacts_are_read_and_written_the_service_answers(
    bench: Bench, order: Order, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    loop, original = asyncio.get_running_loop(), getattr(bench.artifacts, call)
    answered = []

    def slow(*arguments: object) -> object:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(timeout=20)
        answered.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(bench.artifacts, call, slow)
    assert completed(await bench.worker("trains").handle(order)).error == ""
    assert answered


async def test_a_library_that_chatters_does_no_harm(bench: Bench, order: Order) -> None:
    assert completed(await bench.worker("chatters").handle(order)).error == ""


async def test_no_key_of_the_service_reaches_the_process(
    bench: Bench, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUOLOGUE_DATABASE__URL", "postgresql://me:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    await bench.worker("trains").handle(order)
    (call,) = bench.calls
    assert "secret" not in str(call["environment"])
    assert call["environment"]["HF_HUB_OFFLINE"] == "1"


async def test_progress_is_told_step_by_step_and_done_when_it_is_stored(bench: Bench, order: Order) -> None:
    seen: list[training_pb2.TrainingProgress] = []

    async def watch() -> None:
        async for progress in bench.trainings.watch("desk-r2"):
            seen.append(progress)
            if progress.stage == "done":
                assert bench.artifacts.exists("adapters/desk-r2/training.json")

    watching = asyncio.create_task(watch())
    worker = bench.worker("trains")
    with structlog.testing.capture_logs():
        await worker.handle(order)
    async with asyncio.timeout(10):
        await watching
    stages = [progress.stage for progress in seen]
    assert stages[-1] == "done"
    assert stages == sorted(stages, key=["loading", "training", "merging", "done"].index)
    assert bench.trainings.known() == [seen[-1]]


async def test_a_training_that_failed_says_so_to_those_who_watch(bench: Bench, order: Order) -> None:
    await bench.worker("unusable").handle(order)
    (progress,) = bench.trainings.known()
    assert progress.stage == "failed"
    assert "can't be loaded" in progress.error


@pytest.fixture
async def at_work(bench: Bench, order: Order) -> asyncio.Task[list[Record]]:
    """A worker whose process is in the middle of a training, and goes no further."""
    training = asyncio.create_task(bench.worker("waits").handle(order))

    async def loading() -> bool:
        return [progress.stage for progress in bench.trainings.known()] == ["loading"]

    await eventually(loading, "the process is at work")
    assert psutil.pid_exists(bench.calls[0]["pid"])
    return training


async def test_a_training_whose_campaign_is_cancelled_ends_with_that_for_a_reason(
    bench: Bench, at_work: asyncio.Task[list[Record]]
) -> None:
    bench.cancelled.set()
    assert completed(await at_work).error == "the campaign was cancelled"
    assert not psutil.pid_exists(bench.calls[0]["pid"])
    assert bench.under_way == []


async def test_a_worker_that_is_stopped_takes_its_process_with_it(
    bench: Bench, at_work: asyncio.Task[list[Record]]
) -> None:
    training, pid = at_work, bench.calls[0]["pid"]
    training.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await training
    assert not psutil.pid_exists(pid)
    assert not bench.artifacts.exists("adapters/desk-r2/training.json")


async def test_the_card_says_where_the_adapter_comes_from(bench: Bench, order: Order) -> None:
    await bench.worker("trains").handle(order)
    card = bench.artifacts.read("adapters/desk-r2/README.md").decode()
    assert card.startswith("---\nbase_model: models/base\nlibrary_name: peft\n")
    for said in (
        "| campaign, round | " + CAMPAIGN_ID + ", 2 |",
        "rank 4, alpha 8",
        "learning rate 0.01",
        "| 6 agent turns, loss on the completions only |",
        "| 2.500 to 1.250 over 2 steps |",
        f"| desk-r1 | 1 | 1 of 9 | `{order.datasets[0].data.sha256[:12]}` |",
        "torch 2.15",
        "SHA-256 of its files `" + listing_sha256({"config.json": "c0", "model.safetensors": "5a"})[:12] + "`",
        "after 1 warm-up steps",
    ):
        assert said in card
