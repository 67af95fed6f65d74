"""The chassis that every service stands on: settings, gRPC, the bus, metrics, logs, and stopping in order."""

from duologue.runtime.channel import open_blocking_channel, open_channel
from duologue.runtime.migration import migrate_database
from duologue.runtime.runtime import Runtime, collect_seldom
from duologue.runtime.settings import ServiceSettings, load_settings

__all__ = [
    "Runtime",
    "ServiceSettings",
    "collect_seldom",
    "load_settings",
    "migrate_database",
    "open_blocking_channel",
    "open_channel",
]
