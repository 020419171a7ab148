"""What a causal graph is made of: the runs, their columns in tiers, and the numbers of the method. Reads no data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from perf_assets.schema.tables import TABLES

CONFIGURATION = "configuration"
"""Name of the first tier: what was set from outside. Nothing in the graph causes these columns."""

FLAGS = ("oom", "failed")
"""Outcomes read from ``status``: ran out of memory, died otherwise. They are no columns of ``cleaned_runs``."""

DEFAULT_TIERS: dict[str, tuple[str, ...]] = {
    CONFIGURATION: (
        "host",
        "device",
        "model",
        "dataset",
        "stage",
        "algorithm",
        "precision",
        "batch_size",
        "input_size",
        "num_workers",
        "world_size",
        "device_count",
        "pruning_method",
        "pruning_ratio",
        "power_limit_w",
        "epochs",
    ),
    "resources": ("memory_allocated_mib", "memory_reserved_mib", "memory_used_mib", "process_rss_mib"),
    "performance": ("latency_ms", "throughput_per_s", "duration_s", "mean_power_w", "energy_j"),
    "outcome": ("accuracy_pct", *FLAGS),
}
"""Columns of any tool's runs, in the order in which they can act on each other."""

MOST_COLUMNS_OF_A_TIER = 10
"""Every order of a tier's columns is weighed (by dynamic programming), so a tier's work doubles with each column."""


class SettingsError(ValueError):
    """A configuration of a causal graph that cannot be used; the message says what to change."""


@dataclass(frozen=True)
class CausalSettings:
    """One graph: which runs, which columns, and how to search.

    ``floor`` and ``cause_level`` were chosen once, on random graphs that no reported figure uses
    (``benchmarks/causal_choose.py``).
    """

    tool: str
    name: str = ""
    """Name of the graph; the tool's, where it is empty."""
    tiers: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_TIERS))
    filters: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Column → the values that a run may have there."""
    randomised: bool = False
    """The settings were assigned at random or as a full grid in random order, as our own sweeps do."""
    floor: float = 0.05
    """Least drop of a column's log residual variance that a cause must bring in the score search."""
    cause_level: float = 0.001
    """Significance level that a cause must pass in the score search."""
    level: float = 0.01
    """Significance level of PC's tests."""
    bins: int = 5
    """Quantile bins of a quantity in PC's tests."""
    half_samples: int = 100
    """Random halves of the rows on which both searches are repeated."""
    stable: float = 0.9
    """Share of the half-samples in which both searches must find an edge that is called confirmed."""
    bootstraps: int = 200
    seed: int = 0

    @property
    def graph(self) -> str:
        """What the graph is called in ``causal_edges``."""
        return self.name or self.tool

    @property
    def columns(self) -> list[str]:
        """All columns, tier by tier."""
        return [column for columns in self.tiers.values() for column in columns]


def check(settings: CausalSettings) -> CausalSettings:
    """The same settings, if every name is known and every number makes sense.

    Raises:
        SettingsError: they do not; the message names the entry.
    """
    known = {*TABLES["cleaned_runs"].column_names, *FLAGS}
    for column in [*settings.columns, *settings.filters]:
        if column not in known or (column in FLAGS and column in settings.filters):
            raise SettingsError(f"cleaned_runs has no column {column!r}: see docs/tables.md")
    if len(set(settings.columns)) < len(settings.columns):
        raise SettingsError("a column stands in two tiers: name each once")
    if next(iter(settings.tiers), None) != CONFIGURATION:
        raise SettingsError(f"the first tier must be called {CONFIGURATION!r}: what was set from outside")
    for tier, columns in settings.tiers.items():
        if tier != CONFIGURATION and len(columns) > MOST_COLUMNS_OF_A_TIER:
            raise SettingsError(
                f"tier {tier} has {len(columns)} columns: split it, {MOST_COLUMNS_OF_A_TIER} are the most"
            )
    ranges = {
        "floor": (0, 1),
        "level": (0, 1),
        "cause_level": (0, 1),
        "stable": (0.5, 1),
        "bins": (2, 20),
        "half_samples": (2, 10_000),
    }
    for name, (least, most) in ranges.items():
        if not least <= getattr(settings, name) <= most:
            raise SettingsError(
                f"{name} is {getattr(settings, name)}: it must lie between {least} and {most}"
            )
    return settings


def read(path: Path) -> list[CausalSettings]:
    """Read the graphs of a TOML file: one ``[[graph]]`` table each, with the fields of :class:`CausalSettings`.

    Raises:
        SettingsError: the file or an entry cannot be used.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("graph", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{path} has no [[graph]] table")
    return [_graph(path, entry) for entry in entries]


def _graph(path: Path, entry: dict[str, Any]) -> CausalSettings:
    unknown = set(entry) - {one.name for one in fields(CausalSettings)}
    if unknown:
        raise SettingsError(f"{path}: a graph has no setting {', '.join(sorted(unknown))}")
    if not isinstance(entry.get("tool"), str):
        raise SettingsError(f'{path}: each [[graph]] needs tool = "...", a value of cleaned_runs.tool')
    try:
        tiers = {tier: tuple(columns) for tier, columns in entry.get("tiers", DEFAULT_TIERS).items()}
        filters = {
            column: tuple(values) if isinstance(values, list) else (values,)
            for column, values in entry.get("filters", {}).items()
        }
        return check(CausalSettings(**entry | {"tiers": tiers, "filters": filters}))
    except (AttributeError, TypeError) as error:
        raise SettingsError(
            f"{path}: a graph's tiers, filters or numbers are of the wrong kind: {error}"
        ) from None


def for_tool(tool: str) -> CausalSettings:
    """The graph of a tool's runs without any configuration. Our own sweeps assign settings in random order."""
    return replace(CausalSettings(tool), randomised=tool == "perf_assets")
