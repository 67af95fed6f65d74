"""Running the training process and listening to it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from pydantic import ValidationError

from duologue_training.folder import TrainingFolder
from duologue_training.plan import ProgressLine

log = structlog.get_logger(__name__)

_SHOWN_LINES = 3
# Only what the child needs: no key or password of the service reaches a training.
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
_PASSED_ON_PREFIXES = ("HF_", "TRANSFORMERS_", "CUDA_", "NVIDIA_", "OMP_", "PYTORCH_", "LC_", "SSL_", "REQUESTS_")


class ChildFailed(Exception):
    """The process ended badly. `status` is its exit status, negative for the signal that killed it."""

    def __init__(self, status: int, errors: str) -> None:
        shown = " / ".join(errors.strip().splitlines()[-_SHOWN_LINES:])
        super().__init__(f"the training process ended with status {status}: {shown}")
        self.status = status


async def run_job(folder: TrainingFolder, told: Callable[[ProgressLine], Awaitable[None]]) -> None:
    """Run the training process on a folder that has its plan to its end; `told` is awaited with its progress.

    Raises `ChildFailed`. When cancelled, the process is killed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "duologue_training.job",
        str(folder.path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("the child has no pipes")
    errors = asyncio.create_task(process.stderr.read())
    try:
        async for line in _lines(process.stdout):
            try:
                progress = ProgressLine.model_validate_json(line)
            except ValidationError:
                continue  # a library's chatter
            await told(progress)
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        log.error("training process", errors=(await errors).decode(errors="replace"))
        raise ChildFailed(status, (await errors).decode(errors="replace"))


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines of the process. One that is longer than the reader holds is no line of ours, and left out."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return
        yield line


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
