"""What to measure: one configuration of one network on one device, as a small JSON object. Nothing runs
here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from perf_assets.measuring.profiling.settings import Settings
from perf_assets.schema.device_catalog import catalog
from perf_assets.schema.vocabularies import ALGORITHMS, STAGES
from perf_assets.workspace.validation import StrictModel, one_of, read_json, validated

PRECISIONS = ("float32", "float16", "bfloat16")
PASSES = ("latency", "cold", "layers", "memory", "energy", "counters")
_QUESTION = (
    *(
        "network",
        "pruning_method",
        "pruning_ratio",
        "stage",
        "batch_size",
        "input_size",
        "precision",
        "algorithm",
    ),
    *("algorithm_provider", "incompatible_layers", "device", "device_label", "threads", "seed"),
)


class ProfileSpec(StrictModel):
    """One configuration.

    Attributes:
        network: name in the zoo.
        pruned_model: directory of a pruned model, used instead of the zoo's network; ``network`` is then its
            base.
        pruning_method, pruning_ratio: of that pruned model, as asked for; None where nothing is pruned.
        stage: ``inference`` (evaluation mode, no gradients) or ``training`` (forward, loss, backward, SGD
            update).
        batch_size: images in a step.
        input_size: height = width of the images in pixels; None for the network's own.
        precision: of weights and images.
        algorithm: of the convolutions, see :mod:`perf_assets.measuring.profiling.algorithms`.
        algorithm_provider: ``auto`` or ``ai3``.
        incompatible_layers: ``refuse``, or ``guess`` to leave layers that the algorithm cannot do to the
            framework.
        device: ``cpu`` or ``cuda`` (``cuda:1``).
        device_label: what people call the device (``l40s``); work on another kind of device is refused.
        threads: of the processor; None for torch's choice.
        seed: of weights and images.
        passes: what is measured: any of ``latency``, ``cold``, ``layers``, ``memory``, ``energy``,
            ``counters``.
        protocol: settings of the measurement protocol that differ from the default.
        memory_limit_mib: of address space (processor only) beyond what is in use when the measurement begins,
            so that a step that needs more is out of memory instead of the machine.
        memory_budget_mib: the run is skipped as ``predicted_oom`` if the estimate is above it; None for what
            the device has free.
        skip_predicted_oom: false runs whatever the estimate says.
        lock_timeout_s: how long to wait for a device that another process measures on.
        sweep, sweep_stage: names of the sweep and its stage that this is a point of.
    """

    network: str
    pruned_model: str | None = None
    pruning_method: str | None = None
    pruning_ratio: float | None = Field(default=None, ge=0, lt=1)
    stage: str = "inference"
    batch_size: int = Field(default=1, ge=1)
    input_size: int | None = Field(default=None, ge=1)
    precision: str = "float32"
    algorithm: str = "guess"
    algorithm_provider: str = "auto"
    incompatible_layers: str = "refuse"
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d{1,3})?)$")
    device_label: str | None = None
    threads: int | None = Field(default=None, ge=1)
    seed: int = 0
    passes: tuple[str, ...] = PASSES
    protocol: Settings = Settings()
    memory_limit_mib: float | None = Field(default=None, gt=0)
    memory_budget_mib: float | None = Field(default=None, gt=0)
    skip_predicted_oom: bool = True
    lock_timeout_s: float = Field(default=3600.0, ge=0)
    sweep: str | None = None
    sweep_stage: str | None = None

    @field_validator("stage")
    @classmethod
    def _check_stage(cls, value: str) -> str:
        one_of("stage", value, STAGES)
        return value

    @field_validator("precision")
    @classmethod
    def _check_precision(cls, value: str) -> str:
        one_of("precision", value, PRECISIONS)
        return value

    @field_validator("algorithm")
    @classmethod
    def _check_algorithm(cls, value: str) -> str:
        one_of("algorithm", value, ALGORITHMS)
        return value

    @field_validator("algorithm_provider")
    @classmethod
    def _check_provider(cls, value: str) -> str:
        one_of("algorithm_provider", value, ("auto", "ai3"))
        return value

    @field_validator("incompatible_layers")
    @classmethod
    def _check_incompatible_layers(cls, value: str) -> str:
        one_of("incompatible_layers", value, ("refuse", "guess"))
        return value

    @field_validator("passes")
    @classmethod
    def _check_passes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            one_of("passes", name, PASSES)
        return value

    @model_validator(mode="after")
    def _check_label(self) -> Self:
        problem = label_problem(self.device, self.device_label)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def key(self) -> str:
        """Hash (16 hex digits) of what is asked for: equal for points that answer the same question."""
        asked = {name: getattr(self, name) for name in _QUESTION}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Readable name, used for the log's file."""
        parts = (
            self.network,
            f"{self.pruning_method}-{self.pruning_ratio:g}" if self.pruning_method else None,
            self.stage,
            self.algorithm.replace(" ", "_"),
            f"b{self.batch_size}",
            f"{self.input_size}px" if self.input_size else None,
            self.precision,
            self.device_label or self.device.replace(":", ""),
        )
        return "-".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        """All fields, as :func:`parse_spec` takes them; of the protocol those that were set."""
        return self.model_dump(mode="json", exclude={"protocol"}) | {
            "protocol": self.protocol.model_dump(exclude_unset=True)
        }


def label_problem(torch_device: str, label: str | None) -> str | None:
    """Say why work on a torch device must not be stored under a device's label; None where it may be.

    A label whose kind nobody knows (a name of the site's own) contradicts nothing.
    """
    kind = catalog().name(label)[1]
    runs_on = "cpu" if torch_device == "cpu" else "gpu"
    # A board's processor and its graphics unit bear one name.
    if kind is None or kind == runs_on or kind == "soc":
        return None
    cure = "cuda" if kind == "gpu" else "cpu"
    if kind == "hpu":
        return (
            f"device_label {label!r} is an hpu, which torch here cannot measure: use the device's own scripts"
        )
    return (
        f"device_label {label!r} is a {kind}, the work runs on {torch_device!r}: use device {cure!r}, or "
        "another label"
    )


def parse_spec(fields: dict[str, Any], where: str = "spec") -> ProfileSpec:
    """Spec from a JSON object.

    Raises:
        InvalidInputError: unknown or missing fields, or values outside the rules.
    """
    return validated(ProfileSpec, fields, where)


def read_spec(path: str | Path) -> ProfileSpec:
    """Spec from a JSON file; errors as :func:`parse_spec`."""
    return parse_spec(read_json(Path(path)), str(path))
