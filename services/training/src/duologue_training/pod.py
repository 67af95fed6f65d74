"""The pod of a Job: `python -m duologue_training.pod ORDER`. It needs the artifact store and the base model, no more.

ORDER is where in the artifact store the order lies. The training is a child process here too; the adapter is stored
from here, so that weights pass through no other process.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from duologue.bus import Transient
from duologue.runtime import load_settings
from duologue.runtime.failures import classify_errors
from duologue.runtime.logs import configure_logs
from duologue.store import ArtifactStore
from duologue_training.adapter import is_stored, store_adapter
from duologue_training.child import ChildFailed, run_job
from duologue_training.folder import TrainingFolder
from duologue_training.order import TrainingOrder, UnreadableOrder
from duologue_training.plan import UNUSABLE, ProgressLine
from duologue_training.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Before anything is done: the pod looks in the wrong place, or as somebody who may not.
_MISLED = (FileNotFoundError, PermissionError)
_SOON_SECONDS = 60.0
_KILLED = 128  # as shells say it: with the signal's number


class Pod:
    """One attempt at one order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._artifacts = ArtifactStore(settings.artifacts.url, settings.artifacts.s3.options)

    async def carry_out(self, place: str) -> int:
        """The exit status."""
        order = TrainingOrder.from_json(await self._patiently(lambda: self._artifacts.read(place), _MISLED))
        adapter_id = order.request.adapter_id
        if await self._patiently(lambda: is_stored(self._artifacts, adapter_id)):
            return 0  # of an attempt whose pod was killed between its last write and its end
        work = TrainingFolder(Path(self._settings.work) / order.training_id)
        work.begin(order.plan)
        await run_job(work, _tell)
        result = work.read_result()
        await self._patiently(lambda: store_adapter(self._artifacts, order, result, work.out))
        return 0

    async def _patiently(self, call: Callable[[], T], soon: tuple[type[Exception], ...] = ()) -> T:
        """What the artifact store answers; asked again while it does not: hours of a GPU may hang on it.

        Of the errors in `soon` waiting mends little: they are given a minute.
        """
        retry = self._settings.bus.retry
        began, attempt = time.monotonic(), 1
        while True:
            try:
                with classify_errors():
                    return await asyncio.to_thread(call)
            except Transient as error:
                deadline = _SOON_SECONDS if isinstance(error.__cause__, soon) else retry.deadline
                pause = retry.delay(attempt, random.random())
                if time.monotonic() + pause > began + deadline:
                    raise
                log.warning("artifact store does not answer", reason=str(error), again_in_seconds=round(pause, 2))
                await asyncio.sleep(pause)
                attempt += 1


async def _tell(line: ProgressLine) -> None:
    print(line.model_dump_json(), flush=True)


async def _carry_out(place: str, settings: Settings) -> int:
    """Until SIGTERM at the longest: as the first process of a container this one would not even hear it."""
    work = asyncio.create_task(Pod(settings).carry_out(place))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        return _KILLED + signal.SIGTERM
    except ChildFailed as error:
        print(error, file=sys.stderr)
        return error.status if error.status > 0 else _KILLED - error.status
    except UnreadableOrder as error:
        print(f"{place}: {error}", file=sys.stderr)
        return UNUSABLE
    except Transient as error:
        print(f"artifact store: {error}: is it the training service's, and may this pod use it?", file=sys.stderr)
        return UNUSABLE if isinstance(error.__cause__, _MISLED) else 1


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m duologue_training.pod ORDER", file=sys.stderr)
        return 2
    settings = load_settings(Settings, [])
    configure_logs("training", settings.log)
    return asyncio.run(_carry_out(sys.argv[1], settings))


if __name__ == "__main__":
    sys.exit(main())
