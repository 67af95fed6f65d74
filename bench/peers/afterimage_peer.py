"""AfterImage: `ConversationGenerator`, a correspondent and a respondent, written to its JSONL storage.

`generate` draws the length of every dialogue and cancels those that are in flight when there are enough; `go` is what
it calls for each one, with the length that is asked for.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from afterimage import ConversationGenerator
from afterimage.monitoring import GenerationMonitor
from afterimage.storage import JSONLStorage
from afterimage.types import ConversationWithContext
from measurement import AGENT, CLIENT, TURN_PAIRS, measure


class AfterimagePeer:
    def __init__(self, url: str, concurrency: int, folder: Path) -> None:
        self._concurrency = concurrency
        self._storage = JSONLStorage(folder / "dialogues.jsonl")
        self._generator = ConversationGenerator(
            respondent_prompt=AGENT,
            correspondent_prompt=CLIENT,
            api_key="none",
            model_name="stub",
            model_provider_name="local",
            llm_factory_kwargs={"base_url": f"{url}/v1"},
            storage=self._storage,
            monitor=GenerationMonitor(log_dir=folder, metrics_interval=0),
        )

    def play(self, dialogues: int) -> int:
        return asyncio.run(self._play(dialogues))

    async def _play(self, dialogues: int) -> int:
        left = dialogues
        utterances = 0

        async def talk() -> None:
            nonlocal left, utterances
            while left > 0:
                left -= 1
                conversation = await self._generator.go(turns=TURN_PAIRS)
                await self._storage.asave_conversations([ConversationWithContext(conversations=conversation)])
                assert len(conversation) == 2 * TURN_PAIRS
                utterances += len(conversation)

        await asyncio.gather(*(talk() for _ in range(self._concurrency)))
        return utterances


if __name__ == "__main__":
    measure(AfterimagePeer)
