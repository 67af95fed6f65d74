"""Which bus commands speak to."""

from __future__ import annotations

from duologue.cli.local.layout import Layout
from duologue.runtime.settings import BusSettings, ServiceSettings, load_settings


def bus_settings() -> ServiceSettings:
    """The bus as a service would be told of it; where nobody was told anything, that of this folder."""
    settings = load_settings(ServiceSettings, [])
    if "bus" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"bus": BusSettings(url=Layout.here().bus_url)})
