"""The dialogues of a phase that are out: asked for, come back, asked for again, given up."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.topics import DIALOGUE_REQUESTED
from duologue.core.dialogue import Split, dialogue_id
from duologue.store import Outbox
from duologue_campaign.canaries import goes_to_canary, open_canary
from duologue_campaign.phases import SPLIT_OF_PHASE
from duologue_campaign.releases import adapter_ref
from duologue_campaign.requests import evaluation_request, training_request
from duologue_campaign.specs import Specs
from duologue_campaign.tables import CampaignRow, CanaryRow, DialogueRow, RoundRow

# A second window of which nothing comes back is no bad luck: everything that is asked for would be lost.
_STANDSTILLS = 2


class Window:
    """Asks for dialogues, so many that at most the spec's `concurrency` are out at once."""

    def __init__(self, outbox: Outbox, specs: Specs) -> None:
        self._outbox = outbox
        self._specs = specs

    def fill(self, session: Session, row: CampaignRow, current: RoundRow) -> None:
        """Ask for as many as there is room for: pausing stops within that."""
        room = self._specs.of(row).spec.concurrency
        end = min(current.wanted, current.scored + len(current.lost) + room)
        self._ask_for(session, row, current, range(current.issued, end))
        current.issued = max(current.issued, end)

    def ask_again(self, session: Session, row: CampaignRow, current: RoundRow) -> None:
        """Ask again for what is out."""
        self._ask_for(session, row, current, outstanding(session, row, current))

    def _ask_for(self, session: Session, row: CampaignRow, current: RoundRow, indices: range | list[int]) -> None:
        canary = open_canary(session, row.name) if indices else None
        self._outbox.add(session, [self._request(session, row, current, index, canary) for index in indices])

    def _request(
        self, session: Session, row: CampaignRow, current: RoundRow, index: int, canary: CanaryRow | None
    ) -> Record:
        """Evaluation dialogues are those of the adapters that are compared, whatever canary there is."""
        campaign = self._specs.of(row)
        adapter = adapter_ref(session, row.current_adapter_id)
        if SPLIT_OF_PHASE[current.phase] is Split.TRAINING:
            name = dialogue_id(row.id, current.number, Split.TRAINING, index)
            if canary is not None and goes_to_canary(name, canary.share):
                adapter = adapter_ref(session, canary.adapter_id)
            request = training_request(campaign, row.id, current.number, index, adapter)
        else:
            arms = (adapter, adapter_ref(session, current.adapter_id))
            request = evaluation_request(campaign, row.id, current.number, index, arms)
        return encode(DIALOGUE_REQUESTED, request, "campaign")


def outstanding(session: Session, row: CampaignRow, current: RoundRow) -> list[int]:
    """Indices of dialogues of the present phase that were asked for, are not back and were not given up."""
    query = select(DialogueRow.index).where(
        DialogueRow.campaign_id == row.id,
        DialogueRow.round == current.number,
        DialogueRow.split == SPLIT_OF_PHASE[current.phase],
    )
    return sorted(set(range(current.issued)) - set(session.scalars(query)) - set(current.lost))


def count_in(current: RoundRow, index: int, now: float) -> None:
    """A dialogue of the present phase came back; it may have been given up."""
    current.scored += 1
    current.lost = [lost for lost in current.lost if lost != index]
    current.reissues = current.standstills = 0
    current.progress_at = now


def give_up(session: Session, row: CampaignRow, current: RoundRow) -> None:
    """Go on without what is out."""
    current.lost = sorted({*current.lost, *outstanding(session, row, current)})


def may_give_up(current: RoundRow) -> bool:
    """Whether the round may go on without what is out: something is back, or others are still to be asked for."""
    return current.standstills < _STANDSTILLS and (current.scored > 0 or current.issued < current.wanted)


def is_complete(current: RoundRow) -> bool:
    return current.scored + len(current.lost) >= current.wanted
