"""Which adapter an agent answers with, and how that came to be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.topics import ADAPTER_RELEASED
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.runtime.errors import NotPossible
from duologue.store.locks import lock_name
from duologue_campaign.canaries import end_canary, open_canary
from duologue_campaign.tables import AdapterRow, CanaryRow, ReleaseRow


def released_adapter_id(session: Session, agent: str) -> str:
    """The adapter that answers for an agent; empty: the base model."""
    newest = standing_release(session, agent)
    return newest.adapter_id if newest else ""


def standing_release(session: Session, agent: str) -> ReleaseRow | None:
    """The release that holds; None while the base model answers since ever."""
    return next(iter(_standing(session, agent)), None)


def adapter_ref(session: Session, adapter_id: str) -> dialogue_pb2.AdapterRef:
    """How to ask for an adapter; an empty id is the base model."""
    row = session.get(AdapterRow, adapter_id) if adapter_id else None
    if row is None or row.training is None:
        return dialogue_pb2.AdapterRef()
    return events_pb2.TrainingCompleted.FromString(row.training).adapter


def lock_releases(session: Session, agent: str) -> None:
    """Until the transaction ends nobody else changes what answers for an agent.

    Nobody who holds it asks for a campaign's row then, so no two transactions wait for each other.
    """
    lock_name(session, f"releases of {agent}")


def release(session: Session, adapter: AdapterRow, cause: str, now: float) -> list[Record]:
    """Let an adapter answer from now on; the one before is retired, and the agent's canary is over.

    One that answers already is not told of again.
    """
    lock_releases(session, adapter.agent)
    session.refresh(adapter, ["state"])  # another transaction may have changed it while this one waited
    before = released_adapter_id(session, adapter.agent)
    if before == adapter.id:
        return []
    _retire(session, before)
    adapter.state = "released"
    session.add(ReleaseRow(agent=adapter.agent, adapter_id=adapter.id, cause=cause, released_at=now, undone=False))
    canary = open_canary(session, adapter.agent)
    if canary is not None:
        end_canary(canary, "promote" if canary.adapter_id == adapter.id else "overtaken", now)
    session.flush()
    return [_told(session, adapter.agent, adapter.id, adapter.campaign_id, cause, now)]


def begin_canary(session: Session, adapter: AdapterRow, share: float, now: float) -> list[Record]:
    """Let an adapter have a share of its agent's training dialogues, or another share than it has.

    Raises `NotPossible` when it answers already, or another one has a share.
    """
    lock_releases(session, adapter.agent)
    standing = released_adapter_id(session, adapter.agent)
    if standing == adapter.id:
        raise NotPossible(f"adapter {adapter.id} answers already")
    canary = open_canary(session, adapter.agent)
    if canary is None:
        canary = CanaryRow(agent=adapter.agent, adapter_id=adapter.id, current_adapter_id=standing, began_at=now)
        session.add(canary)
    elif canary.adapter_id != adapter.id:
        raise NotPossible(
            f"{canary.adapter_id} is the canary of {adapter.agent}: first `duologue adapter promote "
            f"{canary.adapter_id}` or `duologue adapter rollback {adapter.agent}`"
        )
    elif canary.share == share:
        return []
    canary.share = share
    session.flush()
    return [_told(session, adapter.agent, standing, _campaign_id(session, standing), "canary", now)]


class WentBack(NamedTuple):
    """What answers after a rollback, the canary that it ended, each "" for none, and the record that tells of it."""

    adapter_id: str
    ended_canary: str
    told: Record


def roll_back(session: Session, agent: str, now: float) -> WentBack:
    """End the agent's canary, or, where it has none, go back to what answered before the newest release.

    Raises `NotPossible` when there is nothing to go back from.
    """
    lock_releases(session, agent)
    canary = open_canary(session, agent)
    if canary is not None:
        end_canary(canary, "rollback", now)
        session.flush()
        current = released_adapter_id(session, agent)
        told = _told(session, agent, current, _campaign_id(session, current), "rollback", now)
        return WentBack(current, canary.adapter_id, told)
    standing = _standing(session, agent)
    if not standing:
        raise NotPossible(f'agent "{agent}" has no released adapter to roll back: the base model answers')
    standing[0].undone = True
    _retire(session, standing[0].adapter_id)
    session.flush()
    before = released_adapter_id(session, agent)
    row = session.get(AdapterRow, before) if before else None
    if row is not None:
        row.state = "released"
    return WentBack(before, "", _told(session, agent, before, _campaign_id(session, before), "rollback", now))


def _standing(session: Session, agent: str) -> list[ReleaseRow]:
    """Releases that were not undone, newest first."""
    query = select(ReleaseRow).where(ReleaseRow.agent == agent, ReleaseRow.undone.is_(False))
    return list(session.scalars(query.order_by(ReleaseRow.id.desc()).limit(2)))


def _retire(session: Session, adapter_id: str) -> None:
    row = session.get(AdapterRow, adapter_id) if adapter_id else None
    if row is not None:
        row.state = "retired"


def _campaign_id(session: Session, adapter_id: str) -> str:
    """Of the campaign that made an adapter; empty for the base model."""
    row = session.get(AdapterRow, adapter_id) if adapter_id else None
    return row.campaign_id if row is not None else ""


def _told(session: Session, agent: str, adapter_id: str, campaign_id: str, cause: str, now: float) -> Record:
    event = events_pb2.AdapterReleased(
        agent=agent,
        adapter=adapter_ref(session, adapter_id),
        campaign_id=campaign_id,
        released_at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        cause=cause,
    )
    canary = open_canary(session, agent)
    if canary is not None:
        event.canary.CopyFrom(adapter_ref(session, canary.adapter_id))
        event.canary_share = canary.share
    return encode(ADAPTER_RELEASED, event, "campaign")
