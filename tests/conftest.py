"""Fixtures of the tests that cross services."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.brokers.cluster import KafkaCluster
from tests.support.local_stack import LocalStack, free_port_base
from tests.support.requirements import require_ml


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One local stack with the tiny model for all tests; campaigns don't meet."""
    require_ml()
    stack = LocalStack(tmp_path_factory.mktemp("home"), free_port_base())
    stack.up("tiny")
    yield stack
    stack.down()


@pytest.fixture(scope="session")
def kafka_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real broker for all tests, or the one that DUOLOGUE_TEST_KAFKA names."""
    if servers := os.environ.get("DUOLOGUE_TEST_KAFKA"):
        yield servers
        return
    cluster = KafkaCluster.start(tmp_path_factory.mktemp("kafka"))
    yield cluster.bootstrap
    cluster.close()
