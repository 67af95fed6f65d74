"""sdialog: two agents with personas and `dialog_with`, as in its quick start.

It has no way of its own to play several dialogues at once: here every thread has a pair of agents, which `dialog_with`
resets.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sdialog
from measurement import AGENT, CLIENT, TURN_PAIRS, measure
from sdialog.agents import Agent
from sdialog.personas import Persona


class SdialogPeer:
    def __init__(self, url: str, concurrency: int, folder: Path) -> None:
        sdialog.config.llm(
            "openai:stub", base_url=f"{url}/v1", api_key="none", temperature=0.8, top_p=0.95, max_tokens=100
        )
        logging.disable(logging.INFO)  # a line for every request
        self._folder = folder
        self._pool = ThreadPoolExecutor(concurrency)
        self._own = threading.local()

    def play(self, dialogues: int) -> int:
        return sum(self._pool.map(self._talk, range(dialogues)))

    def _talk(self, number: int) -> int:
        if not hasattr(self._own, "pair"):
            self._own.pair = [
                Agent(persona=Persona(name="Clerk", role=AGENT), can_finish=False),
                Agent(persona=Persona(name="Client", role=CLIENT), can_finish=False),
            ]
        agent, client = self._own.pair
        dialog = agent.dialog_with(client, max_turns=2 * TURN_PAIRS, keep_bar=False)
        dialog.to_file(self._folder / f"{dialog.id}.json")
        assert len(dialog) == 2 * TURN_PAIRS
        return len(dialog)


if __name__ == "__main__":
    measure(SdialogPeer)
