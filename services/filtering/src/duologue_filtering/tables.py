"""The filtering service's tables: what may be kept, and which datasets are wanted of it."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Index, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from duologue.store.outbox import outbox_table


class Base(DeclarativeBase):
    pass


OUTBOX = outbox_table(Base.metadata)
UUID_LENGTH = 36
_OPEN = text("NOT sealed")


class CandidateRow(Base):
    """A scored training dialogue.

    `payload`: its DialogueScored, until it is decided on. `dataset_id`: the dataset whose candidates it is one of, from
    the moment of sealing on; a dialogue that is decided on and in none came late.
    """

    __tablename__ = "candidate"
    __table_args__ = (Index("candidate_round", "campaign_id", "round"),)

    dialogue_id: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    campaign_id: Mapped[str] = mapped_column(String(UUID_LENGTH))
    round: Mapped[int] = mapped_column(Integer)
    dataset_id: Mapped[str | None] = mapped_column(String(200), index=True)
    scores: Mapped[dict[str, object]] = mapped_column(JSON)
    payload: Mapped[bytes | None] = mapped_column(LargeBinary)


class SealRow(Base):
    """A dataset that was asked for, one for a round. It is sealed once `candidates` of its round are there."""

    __tablename__ = "seal"
    __table_args__ = (
        UniqueConstraint("campaign_id", "round", name="seal_round"),
        Index("seal_open", "dataset_id", postgresql_where=_OPEN, sqlite_where=_OPEN),
    )

    dataset_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    campaign_id: Mapped[str] = mapped_column(String(UUID_LENGTH))
    round: Mapped[int] = mapped_column(Integer)
    candidates: Mapped[int] = mapped_column(Integer)
    filters: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(Integer)
    sealed: Mapped[bool] = mapped_column(Boolean, default=False)
