"""A control plane for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from duologue.contracts.v1 import filtering_pb2_grpc
from tests.support.control_plane import ControlPlane, RecordingFiltering, control_plane
from tests.support.grpc_server import serving


@pytest.fixture
async def plane(tmp_path: Path, database_url: str) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path, database_url) as plane:
        yield plane


@pytest.fixture
def filtering() -> RecordingFiltering:
    return RecordingFiltering()


@pytest.fixture
async def stub(filtering: RecordingFiltering) -> AsyncIterator[filtering_pb2_grpc.FilteringServiceStub]:
    register = filtering_pb2_grpc.add_FilteringServiceServicer_to_server
    async with serving(register, filtering) as address, grpc.aio.insecure_channel(address) as channel:
        yield filtering_pb2_grpc.FilteringServiceStub(channel)
