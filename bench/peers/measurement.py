"""What every peer's script does when it is called: `python NAME_peer.py URL DIALOGUES CONCURRENCY FOLDER`.

It plays as many dialogues as are played at once, so that all is imported and connected, and then DIALOGUES. The last
line that it prints is a Measurement as JSON. It runs in the peer's own environment, so it needs nothing but Python.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

TURN_PAIRS = 8
AGENT = (
    "You are the clerk of a bicycle workshop. You are calm and exact. You book repairs: ask one question at a time, "
    "what is broken, whether the bicycle was bought here, its frame number, which day suits, whether the chain should "
    "be cleaned, whether the price is fine and how the client can be called. Say only what the clerk says next."
)
CLIENT = (
    "You are a retired teacher, polite to everybody, and always say please and thank you. You want to have the "
    "squeaking brakes of a city bicycle repaired. Its frame number is FR 20417, Thursday suits you, your number is "
    "555 0148. Answer what the clerk asks, and nothing else. Say only what the client says next."
)


class Peer(Protocol):
    """A library that lets two roles talk, set up once."""

    def play(self, dialogues: int) -> int:
        """Play so many whole dialogues and give back how many utterances the model made for them."""


@dataclass(frozen=True)
class Measurement:
    """`turns` of the dialogues that were measured, the seconds and the seconds of CPU that the process took for them.

    `turns_before`: those of the dialogues before them.
    """

    turns: int
    seconds: float
    cpu_seconds: float
    turns_before: int


def measure(set_up: Callable[[str, int, Path], Peer]) -> None:
    """`set_up` gets the server's URL, how many dialogues to play at once, and a folder to write to."""
    url, dialogues, concurrency, folder = sys.argv[1:5]
    peer = set_up(url, int(concurrency), Path(folder))
    turns_before = peer.play(int(concurrency))
    started, cpu_started = time.perf_counter(), time.process_time()
    turns = peer.play(int(dialogues))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    measurement = Measurement(turns, seconds, cpu_seconds, turns_before)
    print(json.dumps(asdict(measurement)), flush=True)
