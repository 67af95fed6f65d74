"""The migrations make the tables that the code declares, and take them away again."""

from __future__ import annotations

from pathlib import Path

import duologue_filtering
from duologue_filtering.tables import Base
from tests.support.migrations import Migrations

FOLDER = Path(duologue_filtering.__file__).parent / "migrations"


def test_migrations_up_and_down_equal_the_declared_tables(tmp_path: Path) -> None:
    Migrations(FOLDER, tmp_path / "filtering.db").check_up_and_down(Base.metadata)


def test_what_was_sealed_before_datasets_were_noted_stays_sealed_and_what_was_late_is_told_of(tmp_path: Path) -> None:
    migrations = Migrations(FOLDER, tmp_path / "filtering.db")
    migrations.upgrade("0001")
    for seal in ("'desk-r1', 'desk', 1, 1, '[]', 3, true", "'desk-r2', 'desk', 2, 9, '[]', 3, false"):
        migrations.execute(f"INSERT INTO seal VALUES ({seal})")  # noqa: S608
    for candidate in (
        "'sealed', 'desk', 1, '{}', NULL",
        "'late', 'desk', 1, '{}', x'00'",
        "'open', 'desk', 2, '{}', x'00'",
    ):
        migrations.execute(f"INSERT INTO candidate VALUES ({candidate})")  # noqa: S608
    migrations.upgrade()
    dataset_of = dict(migrations.execute("SELECT dialogue_id, dataset_id FROM candidate"))
    assert dataset_of == {"sealed": "desk-r1", "late": None, "open": None}
