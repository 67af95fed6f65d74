"""A service of the smallest kind on the chassis, for tests that start and stop it as a process.

It lists no trainings, and passes a generated dialogue on as a scored one; before that it connects to `hold` and waits
until it is answered there.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_SCORED
from duologue.contracts.v1 import events_pb2, training_pb2, training_pb2_grpc
from duologue.models import Endpoint
from duologue.runtime import Runtime, load_settings
from duologue.runtime.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings):
    model: Endpoint = Endpoint(url="http://127.0.0.1:7421")
    database: DatabaseSettings = DatabaseSettings(url="sqlite:///tiny.db")
    hold: int = Field(0, description="Port of who holds up what is in work.")
    fails: bool = Field(False, description="Whether the work beside fails.")


class Trainings(training_pb2_grpc.TrainingServiceServicer):
    async def ListTrainings(  # noqa: N802
        self, request: training_pb2.ListTrainingsRequest, context: Any
    ) -> training_pb2.ListTrainingsResponse:
        return training_pb2.ListTrainingsResponse()


async def main() -> None:
    settings = load_settings(Settings)

    async def handle(event: events_pb2.DialogueGenerated) -> Sequence[Record]:
        if settings.hold:
            reader, writer = await asyncio.open_connection("127.0.0.1", settings.hold)
            await reader.read(1)
            writer.close()
        scored = events_pb2.DialogueScored(dialogue_id=event.dialogue_id, dialogue=event.dialogue)
        return [encode(DIALOGUE_SCORED, scored, "tiny")]

    async def beside() -> None:
        if settings.fails:
            raise RuntimeError("the work beside failed")
        await asyncio.Event().wait()

    async with Runtime("tiny", settings) as runtime:
        runtime.serve(
            training_pb2_grpc.add_TrainingServiceServicer_to_server,
            Trainings(),
            training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        )
        runtime.consume(DIALOGUE_GENERATED, events_pb2.DialogueGenerated, handle)
        runtime.run_beside(beside())
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
