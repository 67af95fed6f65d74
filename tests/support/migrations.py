"""A service's migrations beside the tables that its code declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, NullPool, create_engine, inspect


class Migrations:
    """The migrations of a folder on an empty database."""

    def __init__(self, folder: Path, url: str) -> None:
        self._engine = create_engine(url, poolclass=NullPool)
        self._config = Config()
        self._config.set_main_option("script_location", str(folder))

    def upgrade(self, revision: str = "head") -> None:
        self._run(lambda: command.upgrade(self._config, revision))

    def binary(self, text: str) -> str:
        """Bytes as this database's SQL writes them."""
        return f"x'{text}'" if self._engine.dialect.name == "sqlite" else f"'\\x{text}'::bytea"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with self._engine.begin() as connection:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    def downgrade(self, revision: str = "base") -> None:
        self._run(lambda: command.downgrade(self._config, revision))

    def differences(self, metadata: MetaData) -> list[Any]:
        """What another migration would have to change; types are compared too."""
        with self._engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            return list(compare_metadata(context, metadata))

    def tables(self) -> set[str]:
        return set(inspect(self._engine).get_table_names()) - {"alembic_version"}

    def check_up_and_down(self, metadata: MetaData) -> None:
        """Upwards they make the tables that are declared, downwards they leave none, as often as one likes."""
        self.upgrade()
        assert self.differences(metadata) == []
        assert self.tables() == set(metadata.tables)
        self.upgrade()
        self.downgrade()
        assert self.tables() == set()
        self.upgrade()
        assert self.differences(metadata) == []

    def _run(self, work: Any) -> None:
        with self._engine.begin() as connection:
            self._config.attributes["connection"] = connection
            work()
