"""What to measure: one configuration of one network on one device, as a small JSON object. Nothing runs
here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from perf_assets.measuring.networks.names import PRUNING_METHODS
from perf_assets.measuring.networks.request import NetworkRequest
from perf_assets.measuring.profiling.settings import Settings
from perf_assets.schema.device_catalog import catalog
from perf_assets.schema.vocabularies import ALGORITHMS, STAGES
from perf_assets.workspace.validation import one_of, read_json, validated

PRECISIONS = ("float32", "float32_strict", "tf32", "float16", "bfloat16", "autocast")
"""``float32`` is torch's own default, in which a GPU may compute convolutions in TF32; ``float32_strict`` keeps TF32
out, ``tf32`` lets it into matrix products too; ``autocast`` is torch's mixed precision in the device's own type."""
MEMORY_FORMATS = ("contiguous", "channels_last")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
USUAL_PASSES = ("latency", "cold", "layers", "memory", "energy", "counters")
PASSES = (*USUAL_PASSES, "layer_energy", "host", "accuracy")
RUNTIMES = ("torch", "torchscript", "onnxruntime")
PROVIDERS = ("auto", "ai3")
INCOMPATIBLE_POLICIES = ("refuse", "guess")

_WORDS = {
    "stage": STAGES,
    "precision": PRECISIONS,
    "memory_format": MEMORY_FORMATS,
    "compile_mode": COMPILE_MODES,
    "runtime": RUNTIMES,
    "algorithm": ALGORITHMS,
    "algorithm_provider": PROVIDERS,
    "incompatible_layers": INCOMPATIBLE_POLICIES,
    "pruning_method": PRUNING_METHODS,
}
_QUESTION = (
    *("network", "pruning_method", "pruning_ratio", "stage", "batch_size", "input_size", "algorithm"),
    *("algorithm_provider", "incompatible_layers", "device", "device_label", "threads", "seed"),
)
_LATER_QUESTION = (
    "pruning_seed",
    "memory_format",
    "compile_mode",
    "cudnn_benchmark",
    "runtime",
    "image_folder",
    "loader_workers",
)
"""Fields that came later: they are part of the key only where they are not as they were before they came, so that
what was measured then is known by the same key."""


class ProfileSpec(NetworkRequest):
    """One configuration: the network's fields, and these.

    Attributes:
        pruned_model: directory of a pruned model, used instead of the network; ``network`` is then its base. A
            directory that is not there is made, from ``pruning_method``, ``pruning_ratio`` and
            ``pruning_seed``.
        pruning_method, pruning_ratio: of that pruned model, as asked for; None where nothing is pruned.
        pruning_seed: of that pruned model's weights and of random importance.
        stage: ``inference`` (evaluation mode, no gradients) or ``training`` (forward, loss, backward, SGD
            update).
        batch_size: samples in a step.
        input_size: height = width of the images in pixels, or length of the sequences; None for the network's
            own.
        precision: number format, see :data:`PRECISIONS`.
        memory_format: ``contiguous`` or ``channels_last``.
        compile_mode: mode of ``torch.compile``; None runs the network as it is.
        runtime: what runs the network: ``torch``, ``torchscript`` (traced and frozen) or ``onnxruntime`` (exported to
            ONNX); inference only.
        cudnn_benchmark: let cuDNN try its algorithms before it chooses, as ``torch.backends.cudnn.benchmark``.
        algorithm: of the convolutions, see :mod:`perf_assets.measuring.profiling.algorithms`.
        algorithm_provider: ``auto`` or ``ai3``.
        incompatible_layers: ``refuse``, or ``guess`` to leave layers that the algorithm cannot do to the
            framework.
        device: ``cpu``, ``cuda`` (``cuda:1``), or ``auto``: a GPU where there is one.
        device_label: what people call the device (``l40s``); work on another kind of device is refused.
        threads: of the processor; None for torch's choice.
        seed: of weights and inputs.
        passes: what is measured: any of ``latency``, ``cold``, ``layers``, ``memory``, ``energy``,
            ``counters``; and ``layer_energy`` with ``layers`` (ten seconds for each layer), ``host``: processor, memory and pressure as a time series, and
            ``accuracy``: share of the images of ``image_folder`` that are classified right.
        image_folder: a folder with a folder of images for each class, in the order of the network's classes.
        loader_workers: processes that read the images; 0 reads them between the steps.
        protocol: settings of the measurement protocol that differ from the default.
        memory_limit_mib: of address space (processor only) beyond what is in use when the measurement begins,
            so that a step that needs more is out of memory instead of the machine.
        memory_budget_mib: the run is skipped as ``predicted_oom`` if the estimate is above it; None for what
            the device has free.
        skip_predicted_oom: false runs whatever the estimate says.
        lock_timeout_s: how long to wait for a device that another process measures on.
        sweep, sweep_stage: names of the sweep and its stage that this is a point of.
    """

    pruned_model: str | None = None
    pruning_method: str | None = None
    pruning_ratio: float | None = Field(default=None, ge=0, lt=1)
    pruning_seed: int = 0
    stage: str = "inference"
    batch_size: int = Field(default=1, ge=1)
    input_size: int | None = Field(default=None, ge=1)
    precision: str = "float32"
    memory_format: str = "contiguous"
    compile_mode: str | None = None
    runtime: str = "torch"
    cudnn_benchmark: bool = False
    algorithm: str = "guess"
    algorithm_provider: str = "auto"
    incompatible_layers: str = "refuse"
    device: str = Field(default="cpu", pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")
    device_label: str | None = None
    threads: int | None = Field(default=None, ge=1)
    seed: int = 0
    passes: tuple[str, ...] = USUAL_PASSES
    image_folder: str | None = None
    loader_workers: int = Field(default=0, ge=0)
    protocol: Settings = Settings()
    memory_limit_mib: float | None = Field(default=None, gt=0)
    memory_budget_mib: float | None = Field(default=None, gt=0)
    skip_predicted_oom: bool = True
    lock_timeout_s: float = Field(default=3600.0, ge=0)
    sweep: str | None = None
    sweep_stage: str | None = None

    @field_validator(*_WORDS)
    @classmethod
    def _check_word(cls, value: str | None, info: ValidationInfo) -> str | None:
        field = str(info.field_name)
        if value is not None:
            one_of(field, value, _WORDS[field])
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

    @model_validator(mode="after")
    def _check_layer_energy(self) -> Self:
        if "layer_energy" in self.passes and ("layers" not in self.passes or self.stage != "inference"):
            raise ValueError(
                "passes 'layer_energy' needs 'layers' and stage 'inference': use these, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_accuracy(self) -> Self:
        if ("accuracy" in self.passes) != (self.image_folder is not None):
            missing = "image_folder" if self.image_folder is None else "the pass 'accuracy'"
            raise ValueError(f"passes 'accuracy' and image_folder belong together: add {missing}")
        if self.image_folder is None and self.loader_workers:
            raise ValueError("loader_workers without image_folder: only images are loaded; leave it out")
        if self.image_folder and (self.stage, self.runtime) != ("inference", "torch"):
            raise ValueError("passes 'accuracy' needs stage 'inference' and runtime 'torch': use these")
        return self

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.precision == "tf32" and self.device == "cpu":
            raise ValueError("precision 'tf32' exists on a GPU only: use 'float32', or device 'cuda'")
        if self.runtime != "torch":
            self._check_runtime()
        if self.algorithm == "guess":
            return self
        if self.compile_mode is not None:
            raise ValueError(
                f"compile_mode {self.compile_mode!r} with algorithm {self.algorithm!r}: a compiled network chooses"
                " its convolutions itself; use algorithm 'guess', or leave compile_mode out"
            )
        if self.memory_format == "channels_last" and self.device != "cpu":
            raise ValueError(
                f"memory_format 'channels_last' with algorithm {self.algorithm!r} on a GPU: cuDNN's algorithms are"
                " called by name in 'contiguous' only; use that, or algorithm 'guess'"
            )
        if self.precision == "autocast":
            raise ValueError(
                f"precision 'autocast' with algorithm {self.algorithm!r}: autocast chooses the type of each"
                " convolution; use 'float16' or 'bfloat16', or algorithm 'guess'"
            )
        return self

    def _check_runtime(self) -> None:
        """Refuse what an exported network cannot do."""
        for name, value, usual in (
            ("stage", self.stage, "inference"),
            ("algorithm", self.algorithm, "guess"),
            ("compile_mode", self.compile_mode, None),
        ):
            if value != usual:
                raise ValueError(
                    f"{name} {value!r} with runtime {self.runtime!r}: an exported network has {name} {usual!r} only;"
                    f" use that, or runtime 'torch'"
                )
        if self.precision not in ("float32", "float16"):
            raise ValueError(
                f"precision {self.precision!r} with runtime {self.runtime!r}: use 'float32' or 'float16', or runtime"
                " 'torch'"
            )

    @property
    def key(self) -> str:
        """Hash (16 hex digits) of what is asked for: equal for points that answer the same question."""
        asked = {name: getattr(self, name) for name in _QUESTION} | {"precision": self._asked_precision()}
        for name in _LATER_QUESTION:
            if getattr(self, name) != type(self).model_fields[name].default:
                asked[name] = getattr(self, name)
        asked |= self.asked()
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]

    def _asked_precision(self) -> str:
        # What keys of old logs call float32 was run without TF32.
        if self.precision == "float32_strict":
            return "float32"
        return (
            "float32 as torch does"
            if self.precision == "float32" and self.device != "cpu"
            else self.precision
        )

    @property
    def name(self) -> str:
        """Readable name, used for the log's file."""
        parts = (
            self.network,
            self.variant,
            f"{self.pruning_method}-{self.pruning_ratio:g}" if self.pruning_method else None,
            self.stage,
            self.algorithm.replace(" ", "_"),
            f"b{self.batch_size}",
            f"{self.input_size}px" if self.input_size else None,
            self.precision,
            self.memory_format if self.memory_format != "contiguous" else None,
            f"compiled-{self.compile_mode}" if self.compile_mode else None,
            self.runtime if self.runtime != "torch" else None,
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
    if kind is None or kind == runs_on or kind == "soc" or torch_device == "auto":
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
