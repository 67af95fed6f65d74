from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from duologue.bus.embedded import EmbeddedBus

# Hypothesis draws the same examples every time, and a busy machine is no failure.
settings.load_profile("ci")


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db", partitions=4)
    yield bus
    await bus.close()
