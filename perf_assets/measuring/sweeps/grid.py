"""Sweeps: a declared grid of configurations, each measured in a fresh process, in an even order, resumable.

A sweep is a TOML file::

    name = "nightly"
    networks = ["vgg16", "resnet50"]
    stages = ["inference", "training"]
    algorithms = ["guess", "gemm"]
    vary = "batch_size"          # or "input_size"
    smallest = 1
    largest = 64
    seed = 1

    [[pruning]]                  # pruned models that are missing are made
    method = "structured_magnitude"
    ratio = 0.5                  # or methods = [...] and ratios = [...]: each by each

    [options]                    # any further field of a profile spec
    passes = ["latency", "memory"]

    [factors]                    # further fields with several values, each with each
    memory_format = ["contiguous", "channels_last"]

    [sizes]                      # optional: sizes of each combination
    quick = 5
    full = 50

    [budget]                     # optional
    hours = 8.0                  # of any stage, over all its runs; what is left then is not measured
    points = 20                  # of the full stage: of the 100 sizes of each combination
    target = 0.05                # of the full stage: stop once every size is known to ±5 %

or a list of points, for which every stage measures all of them::

    name = "next"

    [[points]]                   # any fields of a profile spec
    network = "vgg16"
    stage = "training"
    batch_size = 24

The stages of a grid are ``sanity`` (the smallest size of every combination), ``quick`` (10 sizes) and ``full`` (100). A
combination is everything but the size; its larger sizes are measured only once its sanity point is ``ok``.

Points come in rounds: a round has one size of every combination, in random order, and the sizes of a combination come
so that any number of them is spread over the whole range. So a sweep that ends early has an even picture, and what
drifts while it runs (heat, neighbours) falls on all combinations alike.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from perf_assets.measuring.networks.names import LARGEST_RATIO, PRUNING_METHODS, pruned_model_name
from perf_assets.measuring.profiling.spec import ProfileSpec, parse_spec
from perf_assets.workspace.validation import StrictModel, one_of, read_toml, validated

SWEEP_STAGES = ("sanity", "quick", "full")
"""Stages of a sweep: one size of each combination, some, many."""

_OWN_FIELDS = ("network", "stage", "algorithm", "precision", "device", "sweep", "sweep_stage")
"""Fields of a profile spec that a sweep says itself."""
_GRID_ONLY = ("stages", "algorithms", "precisions", "pruning", "factors", "sizes", "budget")
"""What belongs to a grid, and to each point of a list."""


class Pruning(StrictModel):
    """Ways to prune the networks: every method by every ratio."""

    method: str | None = None
    methods: tuple[str, ...] = ()
    ratio: float | None = None
    ratios: tuple[float, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        for one, several in (("method", "methods"), ("ratio", "ratios")):
            if (getattr(self, one) is None) == (not getattr(self, several)):
                raise ValueError(f"say {one!r} or {several!r}, one of them")
        for method, ratio in self.ways():
            one_of("pruning method", method, PRUNING_METHODS)
            if not 0 < ratio <= LARGEST_RATIO:
                raise ValueError(f"ratio {ratio:g} is not above 0 and at most {LARGEST_RATIO:g}")
        return self

    def ways(self) -> list[tuple[str, float]]:
        """Every method with every ratio."""
        methods = self.methods or (self.method or "",)
        ratios = self.ratios or (self.ratio or 0.0,)
        return list(itertools.product(methods, ratios))


class Sizes(StrictModel):
    """How many sizes of each combination a stage measures."""

    quick: int = Field(default=10, ge=1)
    full: int = Field(default=100, ge=1)


class Budget(StrictModel):
    """When a stage may stop early."""

    hours: float | None = Field(default=None, gt=0, description="of measuring, over all runs of a stage")
    points: int | None = Field(default=None, ge=1, description="of the sizes of a combination")
    target: float = Field(
        default=0.0, ge=0, description="half-width of the interval at every size, as a share"
    )


class Sweep(StrictModel):
    """A declared grid; fields as in the module's example."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="a name, not a path")
    points: tuple[dict[str, Any], ...] = Field(
        default=(), description="points by themselves, instead of a grid: fields of a profile spec"
    )
    networks: tuple[str, ...] = Field(min_length=1)
    vary: Literal["batch_size", "input_size"]
    smallest: int = Field(ge=1)
    largest: int = Field(ge=1)
    stages: tuple[str, ...] = ("inference",)
    algorithms: tuple[str, ...] = ("guess",)
    devices: tuple[str, ...] = Field(
        default=(), description="torch devices, or auto; empty for what the place has"
    )
    precisions: tuple[str, ...] = ("float32",)
    pruning: tuple[Pruning, ...] = ()
    unpruned: bool = True
    pruned_models: str = Field(default="pruned_models", description="folder of pruned models by their names")
    seed: int = 0
    till_first_fail: bool = Field(default=True, description="skip sizes above one that ran out of memory")
    options: dict[str, Any] = Field(default_factory=dict, description="further fields of a profile spec")
    factors: dict[str, list[Any]] = Field(
        default_factory=dict, description="values of further fields of a profile spec, to be crossed"
    )
    sizes: Sizes = Sizes()
    budget: Budget | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        twice = [name for name in _GRID_ONLY if self.points and name in self.model_fields_set]
        if twice:
            raise ValueError(
                f"{twice[0]} beside a list of points: say it in each point, or leave the list out"
            )
        if self.smallest > self.largest:
            raise ValueError(f"smallest {self.smallest} is above largest {self.largest}: swap them")
        for name, values in self.factors.items():
            if name in self.options or name == self.vary or name in _OWN_FIELDS:
                raise ValueError(f"factors.{name} is said twice: it belongs to one place")
            if not values:
                raise ValueError(f"factors.{name} has no values: name some, or leave it out")
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
    listed = fields.get("points")
    if isinstance(listed, list) and listed and all(isinstance(point, dict) for point in listed):
        # What a grid has to say follows from a list of points.
        vary = fields.get("vary", "batch_size")
        sizes_listed = [size for point in listed if isinstance(size := point.get(vary, 1), int)] or [1]
        ends = {"smallest": min(sizes_listed), "largest": max(sizes_listed)}
        networks = list(dict.fromkeys(point["network"] for point in listed if "network" in point))
        fields = {"vary": vary, "networks": networks, **ends, **fields}
    return validated(Sweep, fields, where)


def sizes(sweep: Sweep, sweep_stage: str) -> list[int]:
    """Sizes of a stage, ascending: batch sizes by equal factors, input sizes by equal steps."""
    import numpy as np

    one_of("stage of a sweep", sweep_stage, SWEEP_STAGES)
    count = 1 if sweep_stage == "sanity" else getattr(sweep.sizes, sweep_stage)
    if count == 1:
        return [sweep.smallest]
    spaced = np.geomspace if sweep.vary == "batch_size" else np.linspace
    return sorted({round(float(size)) for size in spaced(sweep.smallest, sweep.largest, count)})


def points(sweep: Sweep, sweep_stage: str) -> list[ProfileSpec]:
    """All points of a stage: of a list as listed, of a grid in rounds over the combinations, the same order for the same
    seed."""
    where = f"sweep {sweep.name}, options"
    common = {"sweep": sweep.name, "sweep_stage": sweep_stage}
    devices = sweep.devices or ("cpu",)
    if sweep.points:
        one_of("stage of a sweep", sweep_stage, SWEEP_STAGES)
        listed = itertools.product(enumerate(sweep.points, start=1), devices)
        return [
            _spec(
                sweep,
                sweep.options | point | common | {"device": device},
                f"sweep {sweep.name}, point {number}",
            )
            for (number, point), device in listed
        ]
    ways = [
        {"pruning_method": method, "pruning_ratio": ratio, "pruning_seed": pruning.seed}
        for pruning in sweep.pruning
        for method, ratio in pruning.ways()
    ]
    grid = itertools.product(
        sweep.networks,
        (*(({},) if sweep.unpruned else ()), *ways),
        sweep.stages,
        sweep.algorithms,
        sweep.precisions,
        devices,
        itertools.product(*sweep.factors.values()),
    )
    of_stage = sizes(sweep, sweep_stage)
    generator = random.Random(sweep.seed)
    combinations = []
    for network, pruned, stage, algorithm, precision, device, values in grid:
        fields = sweep.options | dict(zip(sweep.factors, values, strict=True)) | pruned | common
        fields |= {
            "network": network,
            "stage": stage,
            "algorithm": algorithm,
            "precision": precision,
            "device": device,
        }
        spread = _spread(len(of_stage), generator.randrange(len(of_stage)))
        combinations.append([_spec(sweep, fields | {sweep.vary: of_stage[place]}, where) for place in spread])
    found = []
    for round_of_points in zip(*combinations, strict=True):
        found += generator.sample(round_of_points, len(round_of_points))
    return found


def _spec(sweep: Sweep, fields: dict[str, Any], where: str) -> ProfileSpec:
    """The spec of a point; of a pruned network with the folder of its model."""
    pruned = {
        name: fields[name] for name in ("pruning_method", "pruning_ratio", "pruning_seed") if name in fields
    }
    if "pruning_ratio" not in pruned or "pruning_method" not in pruned or "pruned_model" in fields:
        return parse_spec(fields, where)
    variant = parse_spec({name: value for name, value in fields.items() if name not in pruned}, where).variant
    name = pruned_model_name(
        fields["network"],
        pruned["pruning_method"],
        pruned["pruning_ratio"],
        pruned.get("pruning_seed", 0),
        variant,
    )
    return parse_spec(fields | {"pruned_model": str(Path(sweep.pruned_models) / name)}, where)


def _spread(count: int, first: int) -> list[int]:
    """The numbers below ``count`` so that those of any beginning lie apart: by their bits in reverse (van der Corput),
    from the ``first``-th on."""
    bits = max(1, (count - 1).bit_length())
    order = sorted(range(count), key=lambda number: int(f"{number:0{bits}b}"[::-1], 2))
    return order[first:] + order[:first]


def combination_key(sweep: Sweep, spec: ProfileSpec) -> str:
    """What points that differ only in size share: the key of the smallest of them, which is the sanity point. Each
    point of a list stands by itself."""
    if sweep.points:
        return spec.key
    return spec.model_copy(update={sweep.vary: sweep.smallest}).key
