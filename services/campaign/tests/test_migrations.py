"""The migrations make the tables that the code declares, and take them away again."""

from __future__ import annotations

from pathlib import Path

import duologue_campaign
from duologue_campaign.tables import Base
from tests.support.migrations import Migrations

FOLDER = Path(duologue_campaign.__file__).parent / "migrations"


def test_migrations_up_and_down_equal_the_declared_tables(tmp_path: Path) -> None:
    Migrations(FOLDER, tmp_path / "campaign.db").check_up_and_down(Base.metadata)
