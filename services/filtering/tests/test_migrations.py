"""The migrations make the tables that the code declares, and take them away again."""

from __future__ import annotations

from pathlib import Path

import duologue_filtering
from duologue_filtering.tables import Base
from tests.support.migrations import Migrations

FOLDER = Path(duologue_filtering.__file__).parent / "migrations"


def test_migrations_up_and_down_equal_the_declared_tables(tmp_path: Path) -> None:
    migrations = Migrations(FOLDER, tmp_path / "filtering.db")
    migrations.upgrade()
    assert migrations.differences(Base.metadata) == []
    assert migrations.tables() == set(Base.metadata.tables)
    migrations.upgrade()
    migrations.downgrade()
    assert migrations.tables() == set()
    migrations.upgrade()
    assert migrations.differences(Base.metadata) == []
