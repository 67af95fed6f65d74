"""One scored dialogue becomes a candidate of its round."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy.orm import Session

from duologue.bus import Record
from duologue.contracts.convert import scores_from_proto, split_from_proto
from duologue.contracts.v1 import events_pb2 as pb
from duologue.core.dialogue import Split
from duologue.store import Database, GroupCommit
from duologue.store.insert import insert_all_once
from duologue_filtering.sealing import Sealer
from duologue_filtering.tables import CandidateRow


class CollectCandidate:
    """Collects training dialogues. A dialogue that comes twice counts once: the first one."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._candidates = GroupCommit(database, _collect)
        self._sealer = sealer

    async def handle(self, event: pb.DialogueScored) -> Sequence[Record]:
        if split_from_proto(event.dialogue.split) is Split.TRAINING:
            await self._sealer.check(event)  # what can't be written would stop the sealing of its whole round
            await self._candidates.add(
                {
                    "dialogue_id": event.dialogue_id,
                    "campaign_id": event.dialogue.campaign_id,
                    "round": event.dialogue.round,
                    "scores": scores_from_proto(event.scores).as_dict(),
                    "payload": event.SerializeToString(),
                }
            )
            self._sealer.wake()
        return []


def _collect(session: Session, candidates: Sequence[dict[str, Any]]) -> None:
    insert_all_once(session, CandidateRow, sorted(candidates, key=itemgetter("dialogue_id")))
