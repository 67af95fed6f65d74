"""The candidates of a round, and the datasets that are still to be sealed, are found without looking at all others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_candidate_campaign_id"))
        batch_op.create_index("candidate_round", ["campaign_id", "round"], unique=False)
    still_open = sa.text("NOT sealed")
    op.create_index("seal_open", "seal", ["dataset_id"], postgresql_where=still_open, sqlite_where=still_open)


def downgrade() -> None:
    op.drop_index("seal_open", "seal")
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.drop_index("candidate_round")
        batch_op.create_index(batch_op.f("ix_candidate_campaign_id"), ["campaign_id"], unique=False)
