"""Fixtures of databases, for the tests of the library, the services and what crosses them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, drop_schema, new_schema


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of one real server for all tests, or of the one that DUOLOGUE_TEST_POSTGRES names."""
    if url := os.environ.get("DUOLOGUE_TEST_POSTGRES"):
        yield url
        return
    server = PostgresServer.start()
    yield server.url
    server.close()


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """A schema of the test's own on PostgreSQL: a database of its own would take ten times as long."""
    url = new_schema(postgres)
    yield url
    drop_schema(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that the test may kill."""
    server = PostgresServer.start()
    yield server
    server.close()
