"""curator: `MultiTurnAgents`, as in its examples of agents: one call is one dialogue, several of them run in threads.

The other way would be `curator.LLM` over all dialogues, once for every turn; here it is slower.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import litellm.litellm_core_utils.default_encoding  # noqa: F401  has the tokens that curator's OpenAI backend would fetch
from bespokelabs.curator.agent.agent import Agent, MultiTurnAgents
from measurement import AGENT, CLIENT, TURN_PAIRS, measure


class Clerk(Agent):
    def prompt(self, row: dict[str, str]) -> list[dict[str, str]]:
        return [{"role": "system", "content": AGENT}, {"role": "user", "content": row["prompt"]}]


class Client(Agent):
    def prompt(self, row: dict[str, str]) -> list[dict[str, str]]:
        return [{"role": "system", "content": CLIENT}, {"role": "user", "content": row["prompt"]}]


class CuratorPeer:
    def __init__(self, url: str, concurrency: int, folder: Path) -> None:
        settings = {
            "model_name": "stub",
            "backend": "openai",
            "backend_params": {"base_url": f"{url}/v1", "api_key": "none"},
            "generation_params": {"temperature": 0.8, "top_p": 0.95, "max_tokens": 100},
        }
        self._clerk = Clerk(name="clerk", **settings)
        self._client = Client(name="client", **settings)
        self._folder = folder
        self._pool = ThreadPoolExecutor(concurrency)
        self._numbers = itertools.count()

    def play(self, dialogues: int) -> int:
        return sum(self._pool.map(self._talk, itertools.islice(self._numbers, dialogues)))

    def _talk(self, number: int) -> int:
        opening = f"Good morning, I come about my bicycle, my ticket has the number {number}."
        talk = MultiTurnAgents(self._client, self._clerk, max_length=2 * TURN_PAIRS, seed_message=opening)
        response = talk(working_dir=str(self._folder / str(number)))
        utterances = len(response.dataset)
        assert utterances == 2 * TURN_PAIRS  # the opening is not among them
        return utterances


if __name__ == "__main__":
    measure(CuratorPeer)
