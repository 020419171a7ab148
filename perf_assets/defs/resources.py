"""Resources: thin adapters that hand plain library objects to assets."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import Field

from perf_assets.workspace.paths import DataPaths, data_paths, in_folder


class DataFolder(dg.ConfigurableResource):
    """The data folder that assets read and write."""

    root: str = Field(
        default="",
        description="Data folder; empty for PERF_ASSETS_DATA, or else 'data' in the current folder.",
    )

    def paths(self) -> DataPaths:
        """Where things lie in it."""
        return in_folder(Path(self.root)) if self.root else data_paths()
