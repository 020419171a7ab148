"""Device-performance logs of neural networks as Dagster assets and DuckDB tables.

``perf_assets.open("data")`` opens a data folder; all else is imported from its own module, so importing the
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from perf_assets.api import PerformanceData


def open(folder: str | Path | None = None) -> PerformanceData:
    """Open a data folder; without one, ``PERF_ASSETS_DATA`` or ``data`` in the current folder.

    Raises:
        NoDataFolderError: there is no such folder; the message names the nearest that there is.
    """
    from perf_assets.api import open_data

    return open_data(folder)
