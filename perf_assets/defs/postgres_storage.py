"""Dagster's own Postgres storage, opened by one process at a time.

Dagster creates its tables one by one and looks for the first only. Of several processes that open a fresh
database at once, one can so find half of the tables, or make a table in the very moment in which another
does, and fail. An advisory lock of the database
(https://www.postgresql.org/docs/current/explicit-locking.html) lets them queue.
"""

import sqlalchemy
from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import (
    create_pg_connection,
    create_pg_engine,
    get_token_provider_from_config,
    pg_url_from_config,
)
from sqlalchemy.pool import NullPool

LOCK_KEY = 0x7065_7266  # "perf": any number that nobody else locks in this database


class QueuedPostgresStorage(DagsterPostgresStorage):
    """Named under `storage: custom:` in dagster.yaml, with the same config as `storage: postgres:`."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: PostgresStorageConfig
    ) -> DagsterPostgresStorage:
        """Dagster's storage, opened while this process holds the lock."""
        engine = create_pg_engine(
            pg_url_from_config(config_value), get_token_provider_from_config(config_value), poolclass=NullPool
        )
        with create_pg_connection(engine) as connection, connection.begin():
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(LOCK_KEY)))
            return super().from_config_value(inst_data, config_value)
