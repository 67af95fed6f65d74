"""The `duologue` command."""

from duologue.cli.app import main

__all__ = ["main"]
