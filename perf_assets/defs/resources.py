"""Resources: thin adapters that hand plain library objects to assets."""

from __future__ import annotations

import dagster as dg

from perf_assets.workspace.paths import DataPaths, data_paths


class DataFolder(dg.ConfigurableResource):
    """The data folder that assets read and write: ``PERF_ASSETS_DATA``, or else ``data`` in the current
    folder.

    It has no field: whoever may launch a run must not choose where it reads and writes.
    """

    def paths(self) -> DataPaths:
        """Where things lie in it."""
        return data_paths()
