"""What to measure: one configuration of one network on one device, as a small JSON object."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perf_assets.measuring.profiling.protocol import Settings

STAGES = ("inference", "training")
PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ProfileSpec:
    """One configuration.

    Attributes:
        network: name in the zoo.
        pruned_model: directory of a pruned model, used instead of the zoo's network; ``network`` is then its base.
        pruning_method, pruning_ratio: of that pruned model, as asked for; None where nothing is pruned.
        stage: ``inference`` (evaluation mode, no gradients) or ``training`` (forward, loss, backward, SGD update).
        batch_size: images in a step.
        input_size: height = width of the images in pixels; None for the network's own.
        precision: of weights and images.
        algorithm: of the convolutions, see :mod:`perf_assets.measuring.profiling.algorithms`.
        algorithm_provider: ``auto`` or ``ai3``.
        incompatible_layers: ``refuse``, or ``guess`` to leave layers that the algorithm cannot do to the framework.
        device: ``cpu`` or ``cuda`` (``cuda:1``).
        device_label: what people call the device (``l40s``), for the tables.
        threads: of the processor; None for torch's choice.
        seed: of weights and images.
        passes: what is measured: any of ``latency``, ``cold``, ``layers``, ``memory``, ``energy``, ``counters``.
        protocol: fields of :class:`perf_assets.measuring.profiling.protocol.Settings` that differ from the default.
        memory_limit_mib: of address space (processor only) beyond what is in use when the measurement begins, so
            that a step that needs more is out of memory instead of the machine.
        memory_budget_mib: the run is skipped as ``predicted_oom`` if the estimate is above it; None for what the
            device has free.
        skip_predicted_oom: false runs whatever the estimate says.
        lock_timeout_s: how long to wait for a device that another process measures on.
        sweep, sweep_stage: names of the sweep and its stage that this is a point of.
    """

    network: str
    pruned_model: str | None = None
    pruning_method: str | None = None
    pruning_ratio: float | None = None
    stage: str = "inference"
    batch_size: int = 1
    input_size: int | None = None
    precision: str = "float32"
    algorithm: str = "guess"
    algorithm_provider: str = "auto"
    incompatible_layers: str = "refuse"
    device: str = "cpu"
    device_label: str | None = None
    threads: int | None = None
    seed: int = 0
    passes: tuple[str, ...] = ("latency", "cold", "layers", "memory", "energy", "counters")
    protocol: dict[str, Any] = field(default_factory=dict)
    memory_limit_mib: float | None = None
    memory_budget_mib: float | None = None
    skip_predicted_oom: bool = True
    lock_timeout_s: float = 3600.0
    sweep: str | None = None
    sweep_stage: str | None = None

    def __post_init__(self) -> None:
        _one_of("stage", self.stage, STAGES)
        _one_of("precision", self.precision, PRECISIONS)
        for name in self.passes:
            _one_of("passes", name, PASSES)
        for name in ("batch_size", "input_size", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
        self.settings()

    @property
    def key(self) -> str:
        """Hash (16 hex digits) of what is asked for: equal for points that answer the same question."""
        asked = {name: value for name, value in dataclasses.asdict(self).items() if name in _QUESTION}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Readable name, used for the log's file."""
        pruning = f"{self.pruning_method}-{self.pruning_ratio:g}" if self.pruning_method else None
        parts = (self.network, pruning, self.stage, self.algorithm.replace(" ", "_"), f"b{self.batch_size}",
                 f"{self.input_size}px" if self.input_size else None, self.precision,
                 self.device_label or self.device.replace(":", ""))  # fmt: skip
        return "-".join(part for part in parts if part)

    def settings(self) -> Settings:
        """Settings of the measurement protocol.

        Raises:
            ValueError: unknown setting.
        """
        known = {f.name for f in dataclasses.fields(Settings)}
        unknown = sorted(set(self.protocol) - known)
        if unknown:
            raise ValueError(f"unknown protocol setting {unknown}: use {', '.join(sorted(known))}")
        return Settings(**self.protocol)

    def to_json(self) -> dict[str, Any]:
        """All fields, as :func:`parse_spec` takes them."""
        return dataclasses.asdict(self)


PASSES = ("latency", "cold", "layers", "memory", "energy", "counters")
_QUESTION = frozenset(
    ["network", "pruning_method", "pruning_ratio", "stage", "batch_size", "input_size", "precision", "algorithm",
     "algorithm_provider", "incompatible_layers", "device", "device_label", "threads", "seed"]
)  # fmt: skip


def parse_spec(fields: dict[str, Any]) -> ProfileSpec:
    """Spec from a JSON object.

    Raises:
        ValueError: unknown or missing fields, or values outside the rules.
    """
    known = {f.name for f in dataclasses.fields(ProfileSpec)}
    unknown = sorted(set(fields) - known)
    if unknown or "network" not in fields:
        problem = f"unknown field {unknown}" if unknown else "field 'network' is missing"
        raise ValueError(f"spec: {problem}: use {', '.join(sorted(known))}")
    return ProfileSpec(**{**fields, "passes": tuple(fields.get("passes", PASSES))})


def read_spec(path: str | Path) -> ProfileSpec:
    """Spec from a JSON file; errors as :func:`parse_spec`."""
    try:
        return parse_spec(json.loads(Path(path).read_text()))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}: use one of {', '.join(allowed)}")
