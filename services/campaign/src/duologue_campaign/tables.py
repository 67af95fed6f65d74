"""The control plane's tables: campaigns and all that came of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from duologue.store.outbox import outbox_table


class Base(DeclarativeBase):
    pass


LONGEST_REQUEST_ID = 64
# Four bytes a character at most: PostgreSQL keys rows by at most 2,704 bytes.
LONGEST_MODEL = 512
OUTBOX = outbox_table(Base.metadata)


class CampaignRow(Base):
    """A campaign. Times are seconds since the epoch."""

    __tablename__ = "campaign"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), index=True)
    request_id: Mapped[str] = mapped_column(String(LONGEST_REQUEST_ID), unique=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    spec_version: Mapped[str] = mapped_column(String(12))
    # Large, and read once per process: {name, text} of the campaign file, and the text of the files that it names.
    spec: Mapped[dict[str, str]] = mapped_column(JSON, deferred=True)
    files: Mapped[dict[str, str]] = mapped_column(JSON, deferred=True)
    current_adapter_id: Mapped[str] = mapped_column(String(200), default="")
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    model_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    created_at: Mapped[float] = mapped_column(Float, index=True)
    finished_at: Mapped[float | None] = mapped_column(Float)

    history: Mapped[list[RoundRow]] = relationship(
        back_populates="campaign", order_by="RoundRow.number", lazy="selectin"
    )


class RoundRow(Base):
    """One round of a campaign, and where it stands."""

    __tablename__ = "round"

    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    phase: Mapped[str] = mapped_column(String(16))
    phase_began_at: Mapped[float] = mapped_column(Float)
    progress_at: Mapped[float] = mapped_column(Float)
    wanted: Mapped[int] = mapped_column(Integer)  # dialogues of the phase
    issued: Mapped[int] = mapped_column(Integer, default=0)
    scored: Mapped[int] = mapped_column(Integer, default=0)
    lost: Mapped[list[int]] = mapped_column(JSON, default=list)  # indices that were given up
    reissues: Mapped[int] = mapped_column(Integer, default=0)  # times asked again since anything came back
    standstills: Mapped[int] = mapped_column(Integer, default=0)  # times that this was to no avail, in a row
    candidates: Mapped[int] = mapped_column(Integer, default=0)
    kept: Mapped[int] = mapped_column(Integer, default=0)
    dropped: Mapped[int] = mapped_column(Integer, default=0)
    sums: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)  # of each metric over the scored ones
    counts: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)
    dropped_by: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)
    diversity: Mapped[float | None] = mapped_column(Float)
    dataset_id: Mapped[str] = mapped_column(String(200), default="")
    adapter_id: Mapped[str] = mapped_column(String(200), default="")
    outcome: Mapped[str] = mapped_column(Text, default="")
    note: Mapped[str] = mapped_column(Text, default="")  # what the round went on without

    campaign: Mapped[CampaignRow] = relationship(back_populates="history")


class DialogueRow(Base):
    """A scored dialogue. `payload` is its DialogueScored."""

    __tablename__ = "dialogue"
    __table_args__ = (
        Index("dialogue_place", "campaign_id", "round", "split", "index"),
        Index("dialogue_newest", "campaign_id", "scored_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    round: Mapped[int] = mapped_column(Integer)
    split: Mapped[str] = mapped_column(String(16))
    index: Mapped[int] = mapped_column(Integer)
    adapter_id: Mapped[str] = mapped_column(String(200), default="")  # of the agent; empty: the base model
    scores: Mapped[dict[str, Any]] = mapped_column(JSON)
    decision: Mapped[str] = mapped_column(String(16), default="pending")  # pending, kept, dropped, evaluation
    reason: Mapped[str] = mapped_column(Text, default="")
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    scored_at: Mapped[float] = mapped_column(Float)
    is_booked: Mapped[bool] = mapped_column(Boolean, default=False)  # among the expenses


class ExpenseRow(Base):
    """What one model was used for in one part, in a round's dialogues of one decision. The figures are of `Usage`."""

    __tablename__ = "expense"

    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    round: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # 0: of any, from before 0005
    decision: Mapped[str] = mapped_column(String(16), primary_key=True)
    part: Mapped[str] = mapped_column(String(16), primary_key=True)
    model: Mapped[str] = mapped_column(String(LONGEST_MODEL), primary_key=True)
    wasted: Mapped[bool] = mapped_column(Boolean, primary_key=True)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    told_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Float)


class DatasetRow(Base):
    """A sealed dataset. `sealed` is its DatasetSealed."""

    __tablename__ = "dataset"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), index=True)
    round: Mapped[int] = mapped_column(Integer)
    kept: Mapped[int] = mapped_column(Integer)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[float] = mapped_column(Float)


class AdapterRow(Base):
    """An adapter that was asked for. `training` is its TrainingCompleted, `evaluation` its Evaluation, once there."""

    __tablename__ = "adapter"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), index=True)
    agent: Mapped[str] = mapped_column(String(64), index=True)
    round: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))  # training, candidate, released, refused, retired, failed
    dataset_ids: Mapped[list[str]] = mapped_column(JSON)
    training: Mapped[bytes | None] = mapped_column(LargeBinary)
    evaluation: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[float] = mapped_column(Float)


class ReleaseRow(Base):
    """What an agent answered with, from when on, and why. The newest row of an agent holds."""

    __tablename__ = "release"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    agent: Mapped[str] = mapped_column(String(64), index=True)
    adapter_id: Mapped[str] = mapped_column(String(200))  # empty: the base model
    cause: Mapped[str] = mapped_column(String(16))
    undone: Mapped[bool] = mapped_column(Boolean, default=False)
    released_at: Mapped[float] = mapped_column(Float)


class CanaryRow(Base):
    """A share of an agent's training dialogues that goes to another adapter than the one that answers.

    An agent has one at most that has not ended.
    """

    __tablename__ = "canary"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    agent: Mapped[str] = mapped_column(String(64), index=True)
    adapter_id: Mapped[str] = mapped_column(String(200), index=True)
    current_adapter_id: Mapped[str] = mapped_column(String(200))  # empty: the base model
    share: Mapped[float] = mapped_column(Float)
    began_at: Mapped[float] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    outcome: Mapped[str] = mapped_column(String(16), default="")  # promote, rollback, overtaken


class ToldRow(Base):
    """What the MLflow server was told last: `digest` is of a campaign, by its id, or of an agent, by its name."""

    __tablename__ = "told"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)  # campaign, agent
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    server: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    told_at: Mapped[float] = mapped_column(Float)
