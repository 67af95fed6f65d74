"""A service's migrations beside the tables that its code declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, inspect


class Migrations:
    """The migrations of a folder on a database of their own."""

    def __init__(self, folder: Path, database: Path) -> None:
        self._engine = create_engine(f"sqlite:///{database}")
        self._config = Config()
        self._config.set_main_option("script_location", str(folder))

    def upgrade(self) -> None:
        self._run(lambda: command.upgrade(self._config, "head"))

    def downgrade(self) -> None:
        self._run(lambda: command.downgrade(self._config, "base"))

    def differences(self, metadata: MetaData) -> list[Any]:
        """What another migration would have to change; types are compared too."""
        with self._engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            return list(compare_metadata(context, metadata))

    def tables(self) -> set[str]:
        return set(inspect(self._engine).get_table_names()) - {"alembic_version"}

    def _run(self, work: Any) -> None:
        with self._engine.begin() as connection:
            self._config.attributes["connection"] = connection
            work()
