"""The migrations make the tables that the code declares, and take them away again."""

from __future__ import annotations

from pathlib import Path

import duologue_filtering
from duologue_filtering.tables import Base
from tests.support.migrations import Migrations

FOLDER = Path(duologue_filtering.__file__).parent / "migrations"


def test_migrations_up_and_down_equal_the_declared_tables(database_url: str) -> None:
    Migrations(FOLDER, database_url).check_up_and_down(Base.metadata)


def test_what_was_sealed_before_datasets_were_noted_stays_sealed_and_what_was_late_is_told_of(
    database_url: str,
) -> None:
    migrations = Migrations(FOLDER, database_url)
    migrations.upgrade("0001")
    for seal in ("'desk-r1', 'desk', 1, 1, '[]', 3, true", "'desk-r2', 'desk', 2, 9, '[]', 3, false"):
        migrations.execute(f"INSERT INTO seal VALUES ({seal})")  # noqa: S608
    payload = migrations.binary("00")
    for candidate in (
        "'sealed', 'desk', 1, '{}', NULL",
        f"'late', 'desk', 1, '{{}}', {payload}",
        f"'open', 'desk', 2, '{{}}', {payload}",
    ):
        migrations.execute(f"INSERT INTO candidate VALUES ({candidate})")  # noqa: S608
    migrations.upgrade()
    dataset_of = dict(migrations.execute("SELECT dialogue_id, dataset_id FROM candidate"))
    assert dataset_of == {"sealed": "desk-r1", "late": None, "open": None}
