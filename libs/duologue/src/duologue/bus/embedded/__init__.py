"""The embedded log: a bus for the processes of one machine, in one SQLite file."""

from duologue.bus.embedded.bus import EmbeddedBus

__all__ = ["EmbeddedBus"]
