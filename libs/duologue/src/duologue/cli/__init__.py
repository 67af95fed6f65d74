"""The `duologue` command."""

from duologue.cli.quiet_grpc import grpc as _  # noqa: F401, I001 - before anything else imports it
from duologue.cli.app import main

__all__ = ["main"]
