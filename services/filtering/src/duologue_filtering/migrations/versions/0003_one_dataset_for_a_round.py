"""A round goes into one dataset, whoever asks at the same time."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("seal", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_seal_campaign_id"))  # the constraint's serves as well
        batch_op.create_unique_constraint("seal_round", ["campaign_id", "round"])


def downgrade() -> None:
    with op.batch_alter_table("seal", schema=None) as batch_op:
        batch_op.drop_constraint("seal_round", type_="unique")
        batch_op.create_index(batch_op.f("ix_seal_campaign_id"), ["campaign_id"], unique=False)
