"""The backends that the bus contract is held against.

A backend registers with a fixture `<name>_backend` and its name in the list below.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.bus_backends import Backend, EmbeddedBackend, KafkaBackend

# Hypothesis draws the same examples every time, and a busy machine is no failure.
settings.load_profile("ci")


@pytest.fixture(params=["embedded", "kafka"])
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.getfixturevalue(f"{request.param}_backend")
    return chosen


@pytest.fixture
async def embedded_backend(tmp_path: Path) -> AsyncIterator[Backend]:
    backend = EmbeddedBackend(tmp_path / "bus.db")
    yield backend
    await backend.close()


@pytest.fixture
async def kafka_backend(kafka_servers: str) -> AsyncIterator[Backend]:
    backend = KafkaBackend(kafka_servers)
    yield backend
    await backend.close()
