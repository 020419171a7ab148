"""What a causal graph is made of: the runs, their columns in tiers, and the numbers of the method. Reads no data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from perf_assets.schema.tables import TABLES
from perf_assets.workspace.validation import StrictModel, read_toml, validated

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

EXAMPLE = "docs/causal.toml"

RANDOMISED_TOOLS = ("perf_assets",)
"""Tools that deal their settings out in random order: our own sweeps."""


class CausalSettings(StrictModel):
    """One graph: which runs, which columns, and how to search.

    ``floor`` and ``cause_level`` were chosen once, on random graphs that no reported figure uses
    (``benchmarks/causal_choose.py``).
    """

    tool: str = Field(description="a value of cleaned_runs.tool")
    name: str = Field(
        default="", pattern=r"^[A-Za-z0-9_-]{0,60}$", description="the tool's, where it is empty"
    )
    tiers: dict[str, tuple[str, ...]] = Field(default_factory=lambda: dict(DEFAULT_TIERS))
    filters: dict[str, tuple[str | float | bool, ...]] = Field(
        default_factory=dict, description="column → the values that a run may have there"
    )
    randomised: bool = Field(
        default=False, description="the settings were dealt out at random, or all combined"
    )
    floor: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="least drop of a quantity's log residual variance, or share of a flag's deviance, per cause",
    )
    cause_level: float = Field(default=0.01, gt=0, lt=1, description="significance level of a cause")
    level: float = Field(default=0.01, gt=0, lt=1, description="significance level of PC's tests")
    bins: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="quantile bins of a quantity in PC's tests; more with more runs",
    )
    half_samples: int = Field(
        default=100, ge=2, le=10_000, description="random halves to repeat both searches on"
    )
    stable: float = Field(default=0.9, ge=0.5, le=1, description="share of the halves that confirms an edge")
    bootstraps: int = Field(default=200, ge=20, le=10_000)
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("a column stands in two tiers: name each once")
        if next(iter(self.tiers), None) != CONFIGURATION:
            raise ValueError(f"the first tier must be called {CONFIGURATION!r}: what was set from outside")
        for tier, columns in self.tiers.items():
            if tier != CONFIGURATION and len(columns) > MOST_COLUMNS_OF_A_TIER:
                raise ValueError(f"tier {tier} has more than {MOST_COLUMNS_OF_A_TIER} columns: split it")
        return self

    @property
    def graph(self) -> str:
        """What the graph is called in ``causal_edges``."""
        return self.name or self.tool

    @property
    def columns(self) -> list[str]:
        """All columns, tier by tier."""
        return [column for columns in self.tiers.values() for column in columns]


class _File(StrictModel):
    graph: tuple[CausalSettings, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = TABLES["cleaned_runs"].column_names
        names = [settings.graph for settings in self.graph]
        if len(set(names)) < len(names):
            raise ValueError("two graphs have the same name: give each a name of its own")
        for settings in self.graph:
            unknown = {*settings.columns} - {*known, *FLAGS} | {*settings.filters} - {*known}
            if unknown:
                raise ValueError(f"cleaned_runs has no column {min(unknown)!r}: see docs/tables.md")
        return self


def read_settings(path: Path) -> list[CausalSettings]:
    """Read the graphs of a TOML file: a ``[[graph]]`` table each, with the fields of :class:`CausalSettings`.

    Raises:
        InvalidInputError: the file or an entry cannot be used.
    """
    return parse_settings(read_toml(path, EXAMPLE), str(path))


def parse_settings(fields: Mapping[str, Any], where: str) -> list[CausalSettings]:
    """Graphs of a mapping like that of a file; ``where`` names it in errors, which are as of :func:`read_settings`."""
    return list(validated(_File, fields, where).graph)


def of_tool(tool: str) -> CausalSettings:
    """The graph of a tool's runs without any configuration."""
    return CausalSettings(tool=tool, randomised=tool in RANDOMISED_TOOLS)
