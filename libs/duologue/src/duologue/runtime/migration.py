"""A service's database brought up to date without the service: before a release, by who may change tables."""

from __future__ import annotations

import sys
from pathlib import Path

import structlog

from duologue.core.problems import WrongSetting
from duologue.runtime.logs import configure_logs
from duologue.runtime.settings import DatabaseSettings, LogSettings
from duologue.store import Database, DatabaseUnavailable

log = structlog.get_logger(__name__)


async def migrate_database(service: str, logs: LogSettings, settings: DatabaseSettings, migrations: Path) -> None:
    """Bring it up to the newest of the migrations; what is there already stays as it is, and two at once take turns.

    Ends the process with status 2 for a setting that is wrong, with 1 for a database that does not answer.
    """
    configure_logs(service, logs)
    try:
        database = Database(settings.url, settings.options)
        try:
            await database.migrate(migrations)
        finally:
            await database.close()
    except (WrongSetting, DatabaseUnavailable) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2 if isinstance(error, WrongSetting) else 1) from error
    log.info("the database is up to date")
