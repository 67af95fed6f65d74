"""The training service: sealed datasets in, LoRA adapters out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from duologue.contracts.topics import TRAINING_REQUESTED
from duologue.contracts.v1 import events_pb2, training_pb2, training_pb2_grpc
from duologue.runtime import Runtime, load_settings
from duologue.store import ArtifactStore
from duologue_training.folder import WorkFolder
from duologue_training.rpc import TrainingRpc
from duologue_training.settings import Settings
from duologue_training.trainings import Trainings
from duologue_training.worker import TrainAdapter


async def main() -> None:
    settings = load_settings(Settings)
    async with Runtime("training", settings) as runtime:
        trainings = Trainings()
        work = WorkFolder(Path(settings.work))
        work.sweep()
        train = TrainAdapter(ArtifactStore(settings.artifacts.url), work, trainings, settings)

        runtime.serve(
            training_pb2_grpc.add_TrainingServiceServicer_to_server,
            TrainingRpc(trainings),
            training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        )
        # One at a time: a training takes all the processors or the GPU that there is.
        runtime.consume(TRAINING_REQUESTED, events_pb2.TrainingRequested, train.handle, concurrency=1)
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
