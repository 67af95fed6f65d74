"""A stub of a model server in a process of its own, that answers at once: `model_process.py ARTIFACTS`.

What it says depends on what it is asked and on nothing else, so that a dialogue comes out the same however often it is
played. It answers as any adapter whose fingerprint lies in the artifacts would. Prints its URL.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.models.fingerprint import Fingerprint
from tests.support.desk_models import deciding, obedient
from tests.support.model_server import ModelRequest, Said, ScriptedModelServer

_ASIDES = ("", " I hope that is enough.", " Please be quick about it, I have to catch a train.", " Thank you.")


class Models:
    """Client, agent and manager of `desk`, and adapters."""

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._decide = deciding()
        self._fingerprints: dict[str, Fingerprint] = {}

    def say(self, request: ModelRequest) -> Said:
        probed = self._answer_to_a_probe(request)
        if probed is not None:
            return Said(probed)
        said = obedient(request)
        aside = _ASIDES[_drawn(f"{request.body.get('seed')}{request.last}") % len(_ASIDES)]
        return Said(said.text + aside, said.is_cut, said.prompt_tokens, said.completion_tokens)

    def decide(self, request: ModelRequest, name: str, question: dict[str, Any]) -> float | str | Mapping[str, float]:
        return self._decide(request, name, question)

    def _answer_to_a_probe(self, request: ModelRequest) -> str | None:
        match Path(str(request.body["model"])).parts:
            case (*_, "adapters", adapter, "merged"):
                pass
            case _:
                return None
        if adapter not in self._fingerprints:
            file = self._artifacts / "adapters" / adapter / "fingerprint.json"
            self._fingerprints[adapter] = Fingerprint.model_validate_json(file.read_bytes())
        probes = self._fingerprints[adapter].probes
        return next((probe.adapter for probe in probes if list(probe.messages) == request.messages), None)


def _drawn(text: str) -> int:
    return zlib.crc32(text.encode())


async def main(artifacts: Path) -> None:
    models = Models(artifacts)
    async with ScriptedModelServer(models.say, models.decide) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
