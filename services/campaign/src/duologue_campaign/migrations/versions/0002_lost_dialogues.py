"""Dialogues that were given up; evaluation dialogues have no decision to wait for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("campaign", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_campaign_created_at"), ["created_at"], unique=False)
    with op.batch_alter_table("round", schema=None) as batch_op:
        batch_op.add_column(sa.Column("lost", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("standstills", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("note", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("dialogue", schema=None) as batch_op:
        batch_op.alter_column("decision", existing_type=sa.String(length=8), type_=sa.String(length=16))
    op.execute("UPDATE dialogue SET decision = 'evaluation' WHERE split = 'evaluation'")


def downgrade() -> None:
    op.execute("UPDATE dialogue SET decision = 'pending' WHERE decision = 'evaluation'")
    with op.batch_alter_table("dialogue", schema=None) as batch_op:
        batch_op.alter_column("decision", existing_type=sa.String(length=16), type_=sa.String(length=8))
    with op.batch_alter_table("round", schema=None) as batch_op:
        batch_op.drop_column("note")
        batch_op.drop_column("standstills")
        batch_op.drop_column("lost")
    with op.batch_alter_table("campaign", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_campaign_created_at"))
