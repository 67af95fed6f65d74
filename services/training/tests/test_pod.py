"""The process of a Job's pod: an order out of the artifact store, an adapter into it. What trains is an imitation."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from duologue.contracts.v1 import events_pb2
from duologue.store import ArtifactStore
from duologue_training.adapter import is_stored
from duologue_training.order import TrainingOrder
from duologue_training.plan import UNUSABLE, Example, TrainingPlan
from tests.support.eventually import eventually
from tests.support.training_process import calls, install

PLACE = "trainings/desk-r2/order.json"


class PodProcess:
    """`python -m duologue_training.pod`, in the environment that a template gives it and nothing more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder
        self.process: asyncio.subprocess.Process

    async def start(self, *attempts: str, place: str = PLACE, artifacts: str = "", **variables: str) -> None:
        self._path = install(self._folder, *attempts)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "duologue_training.pod",
            place,
            cwd=self._folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(self._path),
                "DUOLOGUE_ARTIFACTS__URL": artifacts or str(self._folder / "artifacts"),
                "DUOLOGUE_WORK": str(self._folder / "work"),
                **variables,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def ends(self) -> tuple[int, str, str]:
        """Status, output and errors."""
        output, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, output.decode(), errors.decode()

    @property
    def calls(self) -> list[dict]:
        return calls(self._path)


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[PodProcess]:
    pod = PodProcess(tmp_path)
    yield pod
    if pod.process.returncode is None:
        pod.process.kill()
        await pod.process.wait()


@pytest.fixture
def ordered(artifacts: ArtifactStore, order: events_pb2.TrainingRequested) -> TrainingOrder:
    """An order that lies in the store."""
    plan = TrainingPlan(
        training_id=order.training_id,
        base_model=order.base_model,
        examples=[Example(prompt=[{"role": "user", "content": "Hello."}], completion="Hello.")] * 6,
        rank=4,
        alpha=8,
        learning_rate=0.01,
        weight_decay=0.01,
        batch_size=2,
        epochs=1,
        warmup_steps=1,
        max_tokens=512,
        seed=3,
        merge=True,
        threads=0,
        device="auto",
    )
    made = TrainingOrder(order, plan)
    artifacts.write(PLACE, made.to_json())
    return made


def test_an_order_comes_out_of_the_store_as_it_went_in(artifacts: ArtifactStore, ordered: TrainingOrder) -> None:
    assert TrainingOrder.from_json(artifacts.read(PLACE)) == ordered


async def test_an_order_becomes_an_adapter_and_only_progress_is_printed(
    pod: PodProcess, artifacts: ArtifactStore, ordered: TrainingOrder
) -> None:
    await pod.start("trains")
    status, output, errors = await pod.ends()
    assert status == 0, errors
    assert [line[:19] for line in output.splitlines()] == [
        '{"stage":"loading",',
        '{"stage":"training"',
        '{"stage":"training"',
        '{"stage":"merging",',
        '{"stage":"done","st',
    ]
    assert is_stored(artifacts, "desk-r2")
    assert artifacts.read("adapters/desk-r2/adapter/adapter_model.safetensors") == b"weights"


async def test_an_adapter_that_is_there_is_not_trained_again(
    pod: PodProcess, artifacts: ArtifactStore, ordered: TrainingOrder
) -> None:
    artifacts.write("adapters/desk-r2/training.json", b"{}")
    await pod.start("trains")
    assert (await pod.ends())[0] == 0
    assert pod.calls == []


async def test_a_store_that_is_away_when_the_training_is_finished_is_waited_for(
    pod: PodProcess, artifacts: ArtifactStore, ordered: TrainingOrder, tmp_path: Path
) -> None:
    (tmp_path / "artifacts/adapters").write_text("in the way of the folder")
    await pod.start("trains", DUOLOGUE_BUS__RETRY_LONGEST_SECONDS="0.1", DUOLOGUE_BUS__RETRY_FIRST_SECONDS="0.1")
    assert pod.process.stderr is not None
    line = (await pod.process.stderr.readline()).decode()
    assert "artifact store does not answer" in line
    (tmp_path / "artifacts/adapters").unlink()
    status, _, errors = await pod.ends()
    assert status == 0, errors
    assert len(pod.calls) == 1
    assert is_stored(artifacts, "desk-r2")


@pytest.mark.parametrize(("what", "status"), [("unusable", UNUSABLE), ("crashes", 1), ("killed", 128 + signal.SIGKILL)])
async def test_how_the_training_process_ended_is_how_the_pod_ends_and_its_last_words_come_last(
    pod: PodProcess, ordered: TrainingOrder, what: str, status: int
) -> None:
    await pod.start(what)
    ended, _, errors = await pod.ends()
    assert ended == status
    assert errors.splitlines()[-1].startswith("the training process ended with status")


async def test_a_pod_that_is_told_to_stop_takes_its_process_with_it(pod: PodProcess, ordered: TrainingOrder) -> None:
    await pod.start("waits")

    async def at_work() -> bool:
        return len(pod.calls) == 1

    await eventually(at_work, "the training process is at work")
    pod.process.send_signal(signal.SIGTERM)
    assert (await pod.ends())[0] == 128 + signal.SIGTERM
    assert not psutil.pid_exists(pod.calls[0]["pid"])


async def test_what_is_no_order_is_said_so_and_not_tried_again(pod: PodProcess, artifacts: ArtifactStore) -> None:
    artifacts.write(PLACE, b'{"request": {}}')
    await pod.start("trains")
    status, _, errors = await pod.ends()
    assert status == UNUSABLE
    assert errors.splitlines()[-1].startswith(f"{PLACE}: this is no order of a training")


async def test_without_an_order_the_usage_is_shown(pod: PodProcess) -> None:
    await pod.start("trains", place="--help")
    assert "usage: python -m duologue_training.pod ORDER" in (await pod.ends())[2]
