"""The migrations make the tables that the code declares, and take them away again."""

from __future__ import annotations

from pathlib import Path

import duologue_campaign
from duologue_campaign.tables import Base
from tests.support.migrations import Migrations

FOLDER = Path(duologue_campaign.__file__).parent / "migrations"


def test_migrations_up_and_down_equal_the_declared_tables(database_url: str) -> None:
    Migrations(FOLDER, database_url).check_up_and_down(Base.metadata)


def test_what_was_there_before_dialogues_could_be_lost_is_kept(database_url: str) -> None:
    migrations = Migrations(FOLDER, database_url)
    migrations.upgrade("0001")
    migrations.execute(
        "INSERT INTO campaign VALUES ('c', 'desk', 'r', 'running', '', 'v', '{}', '{}', '', 0, 0, 0, 1, NULL)"
    )
    migrations.execute(
        "INSERT INTO round VALUES "
        "('c', 1, 'evaluating', 1, 1, 2, 2, 1, 0, 1, 1, 0, '{}', '{}', '{}', NULL, 'd', 'a', 'so far')"
    )
    for dialogue in ("'t', 'c', 1, 'training'", "'e', 'c', 1, 'evaluation'"):
        payload = migrations.binary("00")
        migrations.execute(f"INSERT INTO dialogue VALUES ({dialogue}, 0, '{{}}', 'pending', '', {payload}, 1)")  # noqa: S608
    migrations.upgrade()
    decisions = migrations.execute("SELECT id, decision FROM dialogue ORDER BY id")
    assert decisions == [("e", "evaluation"), ("t", "pending")]
    assert migrations.execute("SELECT outcome, lost, standstills, note FROM round") in (
        [("so far", "[]", 0, "")],
        [("so far", [], 0, "")],
    )
    # what those dialogues used was not told: they are in no books
    assert migrations.execute("SELECT id FROM dialogue WHERE NOT is_booked ORDER BY id") == [("e",), ("t",)]
    migrations.downgrade()


def test_dialogues_from_before_there_were_canaries_are_kept_both_ways(database_url: str) -> None:
    migrations = Migrations(FOLDER, database_url)
    migrations.upgrade("0002")
    migrations.execute(
        "INSERT INTO campaign VALUES ('c', 'desk', 'r', 'running', '', 'v', '{}', '{}', '', 0, 0, 0, 1, NULL)"
    )
    payload = migrations.binary("00")
    migrations.execute(
        f"INSERT INTO dialogue VALUES ('t', 'c', 1, 'training', 0, '{{}}', 'pending', '', {payload}, 1)"  # noqa: S608
    )
    migrations.upgrade()
    assert migrations.execute("SELECT id, adapter_id FROM dialogue") == [("t", "")]
    migrations.downgrade("0002")
    assert migrations.execute("SELECT id, decision FROM dialogue") == [("t", "pending")]
    migrations.downgrade()


def test_expenses_from_before_rounds_were_noted_are_kept_both_ways(database_url: str) -> None:
    migrations = Migrations(FOLDER, database_url)
    migrations.upgrade("0004")
    migrations.execute(
        "INSERT INTO campaign VALUES ('c', 'desk', 'r', 'running', '', 'v', '{}', '{}', '', 0, 0, 0, 1, NULL)"
    )
    migrations.execute("INSERT INTO expense VALUES ('c', 'kept', 'agent', 'm', false, 30, 9, 30, 12, 1.5)")
    migrations.upgrade()
    assert migrations.execute("SELECT round, prompt_tokens, seconds FROM expense") == [(0, 30, 1.5)]
    columns = "campaign_id, round, decision, part, model, wasted"
    figures = "prompt_tokens, completion_tokens, told_tokens, cached_tokens, seconds"
    migrations.execute(
        f"INSERT INTO expense ({columns}, {figures}) VALUES ('c', 2, 'kept', 'agent', 'm', false, 5, 1, 0, 0, 0.5)"  # noqa: S608
    )
    migrations.downgrade("0004")
    assert migrations.execute("SELECT prompt_tokens, cached_tokens, seconds FROM expense") == [(35, 12, 2.0)]
