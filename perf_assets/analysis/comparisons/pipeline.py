"""From published runs to the published table ``regressions``. What is tested, and how, stands in ``regressions``."""

from __future__ import annotations

from typing import Any

from perf_assets.analysis.comparisons.regressions import find_regressions
from perf_assets.analysis.comparisons.selection import read
from perf_assets.store.database import open_readonly
from perf_assets.store.publish import publish_computed
from perf_assets.workspace.paths import DataPaths


def publish_regressions(paths: DataPaths) -> list[dict[str, Any]]:
    """Test every run group against its history, publish ``regressions`` and return its rows.

    Raises:
        NoDatabaseError: nothing was published yet.
    """
    with open_readonly(paths.database) as connection:
        runs = read(connection, "started_at IS NOT NULL", [])
    rows = find_regressions(runs)
    publish_computed(paths, {"regressions": rows})
    return rows
