"""How much a control plane takes on: the share of a cluster that its team has."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.core.campaign import CampaignSpec
from duologue.runtime.errors import NotPossible
from duologue.store.locks import lock_name
from duologue_campaign.phases import PAUSED, RUNNING
from duologue_campaign.settings import QuotaSettings
from duologue_campaign.tables import CampaignRow

_LOCK = "quota"


class Quota:
    """What a new campaign is held to. A campaign that was taken is never stopped for it."""

    def __init__(self, settings: QuotaSettings) -> None:
        self._settings = settings

    def check(self, session: Session, spec: CampaignSpec) -> None:
        """Raises `NotPossible` with what to do about it. Until the transaction ends no other campaign is taken."""
        dialogues = spec.rounds * spec.dialogues
        if self._settings.dialogues and dialogues > self._settings.dialogues:
            raise NotPossible(
                f"{spec.rounds} rounds of {spec.dialogues} dialogues are {dialogues}, and this control plane takes "
                f"{self._settings.dialogues} for a campaign (quota.dialogues): lower rounds or dialogues"
            )
        if not self._settings.campaigns:
            return
        lock_name(session, _LOCK)
        query = select(CampaignRow.name).where(CampaignRow.state.in_((RUNNING, PAUSED)))
        names = list(session.scalars(query.order_by(CampaignRow.created_at)))
        if len(names) >= self._settings.campaigns:
            raise NotPossible(
                f"{len(names)} campaigns are not over ({', '.join(names[:5])}), and this control plane takes "
                f"{self._settings.campaigns} at once (quota.campaigns): wait, or cancel one"
            )
