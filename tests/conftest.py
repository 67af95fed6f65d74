"""Fixtures of the tests that cross services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
