"""A service of the smallest kind on the chassis, for tests that start and stop it as a process.

It lists no trainings, watches one for ever, and passes a generated dialogue on as a scored one; before that it
connects to `hold` and waits until it is answered there.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import Field

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_SCORED
from duologue.contracts.v1 import events_pb2, training_pb2, training_pb2_grpc
from duologue.models import Endpoint
from duologue.runtime import Runtime, load_settings
from duologue.runtime.settings import ArtifactSettings, DatabaseSettings, ServiceSettings
from duologue.store import ArtifactStore, Database


class Settings(ServiceSettings):
    model: Endpoint = Endpoint(url="http://127.0.0.1:7421")
    database: DatabaseSettings = DatabaseSettings(url="sqlite:///tiny.db")
    artifacts: ArtifactSettings = ArtifactSettings()
    hold: int = Field(0, description="Port of who holds up what is in work.")
    background: str = Field(
        "runs", pattern="^(runs|fails|ends|fails twice)$", description="What becomes of the work in the background."
    )


class Trainings(training_pb2_grpc.TrainingServiceServicer):
    async def ListTrainings(  # noqa: N802
        self, request: training_pb2.ListTrainingsRequest, context: Any
    ) -> training_pb2.ListTrainingsResponse:
        return training_pb2.ListTrainingsResponse()

    async def WatchTraining(  # noqa: N802
        self, request: training_pb2.WatchTrainingRequest, context: Any
    ) -> AsyncIterator[training_pb2.WatchTrainingResponse]:
        yield training_pb2.WatchTrainingResponse()
        await asyncio.Event().wait()


async def main() -> None:
    settings = load_settings(Settings)

    async def handle(event: events_pb2.DialogueGenerated) -> Sequence[Record]:
        if settings.hold:
            reader, writer = await asyncio.open_connection("127.0.0.1", settings.hold)
            await reader.read(1)
            writer.close()
        scored = events_pb2.DialogueScored(dialogue_id=event.dialogue_id, dialogue=event.dialogue)
        return [encode(DIALOGUE_SCORED, scored, "tiny")]

    async def run() -> None:
        if settings.background.startswith("fails"):
            raise RuntimeError("the work in the background failed")
        if settings.background == "runs":
            await asyncio.Event().wait()

    async def fail_when_told_to_stop() -> None:
        await runtime.stopping.wait()
        if settings.background == "fails twice":
            raise ValueError("and so did the other")
        await asyncio.Event().wait()

    async with Runtime("tiny", settings) as runtime:
        runtime.closing(Database(settings.database.url).close)
        ArtifactStore(settings.artifacts.url)
        runtime.serve(
            training_pb2_grpc.add_TrainingServiceServicer_to_server,
            Trainings(),
            training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        )
        runtime.consume(DIALOGUE_GENERATED, events_pb2.DialogueGenerated, handle)
        runtime.run_in_background(run)
        runtime.run_in_background(fail_when_told_to_stop)
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
