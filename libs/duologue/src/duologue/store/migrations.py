"""Alembic migrations: how a database is brought up to them, and what every service's env.py runs."""

from __future__ import annotations

from pathlib import Path

from alembic import command, context
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, inspect, select
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.sql import func

from duologue.core.problems import WrongSetting
from duologue.store.locks import lock_name

OUTBOX = "outbox"  # the one table that services have in common
_INSUFFICIENT_PRIVILEGE = "42501"


def upgrade(connection: Connection, migrations: Path) -> None:
    """Bring a schema up to the newest migration of a folder, within the connection's transaction.

    Raises `WrongSetting` for a schema that can't be: one that is not there, closed to us, newer, or another service's.
    """
    _refuse_no_schema(connection)
    lock_name(connection, "migrations")
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise WrongSetting(
            f"setting database.url: what lies there is of a newer version of this service, or another's: {error}"
        ) from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        schema, user = connection.engine.url.database, connection.engine.url.username
        raise WrongSetting(
            f"setting database.url: its user {user} may not create tables in the schema of database {schema}: "
            "GRANT USAGE, CREATE ON SCHEMA, or make it the schema's owner"
        ) from error


def run_migrations(metadata: MetaData) -> None:
    """Run the migrations of `alembic.context` on the connection that is in the attributes of its configuration."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # SQLite can't alter most of a table: Alembic copies it instead.
        render_as_batch=connection.dialect.name == "sqlite",
    )
    _refuse_another_service(connection, metadata)
    with context.begin_transaction():
        context.run_migrations()


def _refuse_no_schema(connection: Connection) -> None:
    if connection.dialect.name == "postgresql" and connection.scalar(select(func.current_schema())) is None:
        raise WrongSetting("setting database.url: no schema of its search_path is there: CREATE SCHEMA makes one")


def _refuse_another_service(connection: Connection, metadata: MetaData) -> None:
    """Revisions are numbered in every service alike, so Alembic takes another's schema for an older one of ours."""
    ours = set(metadata.tables) - {OUTBOX}
    if context.get_context().get_current_revision() and ours.isdisjoint(inspect(connection).get_table_names()):
        raise WrongSetting(
            "setting database.url: it holds the tables of another service: "
            "give each service a database, or a schema, of its own"
        )
