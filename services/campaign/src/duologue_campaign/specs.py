"""Campaigns as their authors wrote them, read again from the row that keeps their files."""

from __future__ import annotations

from collections import OrderedDict

from duologue.core.campaign import Campaign, load_campaign
from duologue_campaign.tables import CampaignRow

_KEPT = 64


class Specs:
    """The parsed campaigns that are in use."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Campaign] = OrderedDict()

    def of(self, row: CampaignRow) -> Campaign:
        campaign = self._kept.get(row.id)
        if campaign is None:
            campaign = self._kept[row.id] = read_spec(row.spec["text"], row.spec["name"], row.files)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return campaign


def read_spec(text: str, name: str, files: dict[str, str]) -> Campaign:
    """Raises `InvalidInput` for a wrong spec, or one that names a file that was not sent with it."""

    def read(file: str) -> str:
        try:
            return files[file]
        except KeyError:
            raise FileNotFoundError(2, "the file was not sent with the spec") from None

    return load_campaign(text, name, read)
