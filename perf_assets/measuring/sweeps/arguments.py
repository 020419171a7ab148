"""A sweep from the arguments of a command line, and the names that such arguments may have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from perf_assets.measuring.engines.site import torch_device_of
from perf_assets.measuring.networks.names import CLASSIFIERS, LIBRARIES
from perf_assets.measuring.sweeps.grid import SWEEP_STAGES, Sweep, parse_sweep
from perf_assets.workspace.validation import InvalidInputError, one_of

_RANGES = {"batch_size": (1, 64), "input_size": (224, 512)}
_TORCH_NAMES = ("auto", "cpu", "cuda")


def sweep_of(
    *,
    networks: Sequence[str],
    algorithms: Sequence[str] = (),
    device: str = "auto",
    stage: str = "sanity",
    sizes: int | None = None,
    vary: str = "batch_size",
    smallest: int | None = None,
    largest: int | None = None,
    training: bool = False,
    precisions: Sequence[str] = (),
    warmup: int | None = None,
    measure: int | None = None,
    options: Sequence[str] = (),
) -> Sweep:
    """Make the sweep that the arguments of ``perf-assets profile`` describe.

    Args:
        networks, algorithms, precisions: as in a sweep; nothing means what a sweep has by default.
        device: torch's name of a device, ``auto``, or the device's own name.
        stage: the stage that will be run.
        sizes: how many sizes it has.
        vary: ``batch_size`` or ``input_size``.
        smallest, largest: ends of the sizes.
        training: training steps instead of inference.
        warmup, measure: exactly so many steps; None leaves it to the protocol.
        options: ``KEY=VALUE`` of further fields of a profile spec; values as in JSON, or plain words.

    Raises:
        InvalidInputError: what cannot be, in one line.
    """
    where = "arguments"
    try:
        one_of("stage of a sweep", stage, SWEEP_STAGES)
        one_of("--vary", vary, tuple(_RANGES))
        if sizes is not None and stage == "sanity":
            raise ValueError("--sizes with --stage sanity, which has one size: use --stage quick")
        fields = dict(_option(text) for text in options)
    except ValueError as error:
        raise InvalidInputError(f"{where}: {error}") from None
    counts = {"warmup_steps": warmup, "measured_steps": measure}
    asked = {name: count for name, count in counts.items() if count is not None}
    if asked:
        fields["protocol"] = {**fields.get("protocol", {}), **asked}
    if torch_name(device) != device:
        fields.setdefault("device_label", device)
    ends = _RANGES[vary]
    document: dict[str, Any] = {
        "name": "profile",
        "networks": list(networks),
        "vary": vary,
        "smallest": ends[0] if smallest is None else smallest,
        "largest": ends[1] if largest is None else largest,
        "stages": ["training" if training else "inference"],
        "devices": [torch_name(device)],
        "options": fields,
    }
    if algorithms:
        document["algorithms"] = list(algorithms)
    if precisions:
        document["precisions"] = list(precisions)
    if sizes is not None:
        document["sizes"] = {stage: sizes}
    return parse_sweep(document, where)


def torch_name(device: str) -> str:
    """What torch calls a device: its own names as they are, a name that people use by the catalogue of devices.

    Raises:
        InvalidInputError: nobody knows the name.
    """
    if device.partition(":")[0] in _TORCH_NAMES:
        return device
    found = torch_device_of(device)
    if found is None:
        raise InvalidInputError(f"--device {device!r} is not known: use auto, cpu, cuda, or a device's name")
    return found


def network_lines() -> list[str]:
    """Every name that ``--network`` takes: one a line, libraries' and own ones as patterns."""
    return [
        *CLASSIFIERS,
        *(f"{library}:NAME    any network of {library}, where it is installed" for library in LIBRARIES),
        "package.module:name    a module class of your own, or a function that returns a module",
    ]


def _option(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ValueError(f"--option {text!r} is not KEY=VALUE: write --option threads=2")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
