"""A service that has started a training process, to be killed: `training_parent.py FOLDER`; prints the progress."""

import asyncio
import sys
from pathlib import Path

from duologue_training.child import run_job
from duologue_training.folder import TrainingFolder
from duologue_training.plan import ProgressLine


async def told(line: ProgressLine) -> None:
    print(line.stage, flush=True)


if __name__ == "__main__":
    asyncio.run(run_job(TrainingFolder(Path(sys.argv[1])), told))
