"""`python -m duologue_filtering.migrate`: the database made, or brought up to this version. The service does it too."""

from __future__ import annotations

import asyncio
from pathlib import Path

from duologue.runtime import load_settings, migrate_database
from duologue_filtering.settings import Settings


async def main() -> None:
    settings = load_settings(Settings)
    await migrate_database("filtering", settings.log, settings.database, Path(__file__).parent / "migrations")


if __name__ == "__main__":
    asyncio.run(main())
