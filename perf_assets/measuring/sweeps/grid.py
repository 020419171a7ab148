"""Sweeps: a declared grid of configurations, each measured in a fresh process, in random order, resumable.

A sweep is a TOML file::

    name = "nightly"
    networks = ["vgg16", "resnet50"]
    stages = ["inference", "training"]
    algorithms = ["guess", "gemm"]
    vary = "batch_size"          # or "input_size"
    smallest = 1
    largest = 64
    seed = 1

    [[pruning]]
    method = "structured_magnitude"
    ratio = 0.5

    [options]                    # any further field of a profile spec
    passes = ["latency", "memory"]

    [budget]                     # optional, for the full stage
    points = 20                  # of the 100 sizes of each combination
    target = 0.05                # stop once every size is known to ±5 %

Its stages are ``sanity`` (the smallest size of every combination), ``quick`` (10 sizes) and ``full`` (100). A
combination is everything but the size; its full stage refuses to start until its sanity point is ``ok``.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from perf_assets.measuring.networks.names import pruned_model_name
from perf_assets.measuring.profiling.spec import ProfileSpec, parse_spec
from perf_assets.workspace.validation import StrictModel, one_of, read_toml, validated

SWEEP_STAGES = {"sanity": 1, "quick": 10, "full": 100}
"""Stages of a sweep, and sizes of each combination in them."""

POINTS_LEFT_EXIT_CODE = 75
"""Exit code of a job whose point limit left some of its stage undone."""


class Pruning(StrictModel):
    """One way to prune the networks."""

    method: str
    ratio: float = Field(gt=0, lt=1)
    seed: int = 0


class Budget(StrictModel):
    """When the full stage of a combination may stop early."""

    points: int | None = Field(default=None, ge=1, description="of the 100 sizes")
    target: float = Field(
        default=0.0, ge=0, description="half-width of the interval at every size, as a share"
    )


class Sweep(StrictModel):
    """A declared grid; fields as in the module's example."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="a name, not a path")
    networks: tuple[str, ...] = Field(min_length=1)
    vary: Literal["batch_size", "input_size"]
    smallest: int = Field(ge=1)
    largest: int = Field(ge=1)
    stages: tuple[str, ...] = ("inference",)
    algorithms: tuple[str, ...] = ("guess",)
    devices: tuple[str, ...] = Field(default=(), description="torch devices; empty for what the place has")
    precisions: tuple[str, ...] = ("float32",)
    pruning: tuple[Pruning, ...] = ()
    unpruned: bool = True
    pruned_models: str = Field(default="pruned_models", description="folder of pruned models by their names")
    seed: int = 0
    till_first_fail: bool = Field(default=True, description="skip sizes above one that ran out of memory")
    options: dict[str, Any] = Field(default_factory=dict, description="further fields of a profile spec")
    budget: Budget | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"smallest {self.smallest} is above largest {self.largest}: swap them")
        points(self, "sanity")  # every field of every spec is checked now, not hours later
        return self


def read_sweep(path: str | Path) -> Sweep:
    """Sweep from a TOML file.

    Raises:
        InvalidInputError: not TOML, unknown or missing fields, or a grid that cannot be.
    """
    return parse_sweep(read_toml(Path(path), "sweeps/demo.toml"), str(path))


def parse_sweep(fields: Mapping[str, Any], where: str = "sweep") -> Sweep:
    """Sweep from a mapping; errors as :func:`read_sweep`."""
    return validated(Sweep, fields, where)


def sizes(sweep: Sweep, sweep_stage: str) -> list[int]:
    """Sizes of a stage, ascending: batch sizes by equal factors, input sizes by equal steps."""
    import numpy as np

    one_of("stage of a sweep", sweep_stage, tuple(SWEEP_STAGES))
    count = SWEEP_STAGES[sweep_stage]
    if count == 1:
        return [sweep.smallest]
    spaced = np.geomspace if sweep.vary == "batch_size" else np.linspace
    return sorted({round(float(size)) for size in spaced(sweep.smallest, sweep.largest, count)})


def points(sweep: Sweep, sweep_stage: str) -> list[ProfileSpec]:
    """All points of a stage in random order, the same order for the same seed."""
    grid = itertools.product(
        sweep.networks,
        (*((None,) if sweep.unpruned else ()), *sweep.pruning),
        sweep.stages,
        sweep.algorithms,
        sweep.precisions,
        sweep.devices or ("cpu",),
        sizes(sweep, sweep_stage),
    )
    found = []
    for network, pruning, stage, algorithm, precision, device, size in grid:
        fields = dict(sweep.options)
        if pruning is not None:
            name = pruned_model_name(network, pruning.method, pruning.ratio, pruning.seed)
            fields |= {
                "pruned_model": str(Path(sweep.pruned_models) / name),
                "pruning_method": pruning.method,
                "pruning_ratio": pruning.ratio,
            }
        fields |= {"network": network, "stage": stage, "algorithm": algorithm, "precision": precision}
        fields |= {"device": device, sweep.vary: size, "sweep": sweep.name, "sweep_stage": sweep_stage}
        found.append(parse_spec(fields, f"sweep {sweep.name}, options"))
    random.Random(sweep.seed).shuffle(found)
    return found


def combination_key(sweep: Sweep, spec: ProfileSpec) -> str:
    """What points that differ only in size share: the key of the smallest of them, which is the sanity
    point."""
    return spec.model_copy(update={sweep.vary: sweep.smallest}).key
