"""The training service: sealed datasets in, LoRA adapters out."""

from __future__ import annotations

import asyncio

from duologue.contracts.topics import TRAINING_REQUESTED
from duologue.contracts.v1 import events_pb2, training_pb2, training_pb2_grpc
from duologue.runtime import Runtime, load_settings
from duologue.runtime.cancellations import Cancellations
from duologue.store import ArtifactStore
from duologue_training.rpc import TrainingRpc
from duologue_training.settings import Settings
from duologue_training.trainer import trainer_of
from duologue_training.trainings import Trainings
from duologue_training.worker import TrainAdapter


async def main() -> None:
    settings = load_settings(Settings)
    async with Runtime("training", settings) as runtime:
        artifacts = await runtime.open(ArtifactStore(settings.artifacts.url, settings.artifacts.s3.options))
        trainer = await runtime.open(trainer_of(settings, artifacts))
        trainings, cancellations = Trainings(), Cancellations(runtime.bus)
        train = TrainAdapter(artifacts, trainer, trainings, settings, cancellations.until_cancelled)

        runtime.serve(
            training_pb2_grpc.add_TrainingServiceServicer_to_server,
            TrainingRpc(trainings),
            training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        )
        runtime.run_in_background(cancellations.follow)
        runtime.consume(TRAINING_REQUESTED, events_pb2.TrainingRequested, train.handle, concurrency=trainer.at_once)
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
