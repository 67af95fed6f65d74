"""Which dataset a candidate was sealed into, so that one that comes later is told apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.add_column(sa.Column("dataset_id", sa.String(length=200), nullable=True))
        batch_op.create_index(batch_op.f("ix_candidate_dataset_id"), ["dataset_id"], unique=False)
    # Until now sealing let go of the payloads of its whole round, and a late dialogue kept its own.
    op.execute(
        "UPDATE candidate SET dataset_id = (SELECT seal.dataset_id FROM seal WHERE seal.sealed"
        " AND seal.campaign_id = candidate.campaign_id AND seal.round = candidate.round) WHERE payload IS NULL"
    )


def downgrade() -> None:
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_candidate_dataset_id"))
        batch_op.drop_column("dataset_id")
