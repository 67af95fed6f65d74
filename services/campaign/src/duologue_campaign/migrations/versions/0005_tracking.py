"""What an MLflow server was told, and in which round something was used: 0 where that was not noted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = ("campaign_id", "decision", "part", "model", "wasted")
_FIGURES = ("prompt_tokens", "completion_tokens", "told_tokens", "cached_tokens", "seconds")


def upgrade() -> None:
    op.create_table(
        "told",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("told_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name"),
    )
    _replace_expenses(
        [sa.Column("round", sa.Integer(), nullable=False)],
        f"INSERT INTO expense_new ({_names('round')}) SELECT {_names('0')} FROM expense",  # noqa: S608
    )


def downgrade() -> None:
    sums = ", ".join(f"sum({name})" for name in _FIGURES)
    key = ", ".join(_KEY)
    _replace_expenses([], f"INSERT INTO expense_new ({_names()}) SELECT {key}, {sums} FROM expense GROUP BY {key}")  # noqa: S608
    op.drop_table("told")


def _replace_expenses(key: list[sa.Column[int]], copy: str) -> None:
    """SQLite changes no primary key of a table that is there."""
    op.create_table(
        "expense_new",
        sa.Column("campaign_id", sa.String(length=36), nullable=False),
        *key,
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("wasted", sa.Boolean(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("told_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"]),
        sa.PrimaryKeyConstraint(*_KEY, *(column.name for column in key)),
    )
    op.execute(copy)
    op.drop_table("expense")
    op.rename_table("expense_new", "expense")


def _names(*more: str) -> str:
    return ", ".join((*_KEY, *_FIGURES, *more))
