"""Triton model repositories: a copy with other instance counts and GPUs, made by protobuf and never by text.

The original is not touched. A copied ``config.pbtxt`` keeps its original text beside it (``config.original``),
because comments do not survive. Fields that this version of the protocol does not know are refused: protobuf
would drop them on writing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf_assets.measuring.load_tests.kserve import grpc_packages
from perf_assets.measuring.load_tests.requests import LoadError

CONFIG = "config.pbtxt"
ORIGINAL = "config.original"
_KIND_GPU, _KIND_CPU, _KIND_MODEL = 1, 2, 3


def copied_repository(
    repository: Path, work: Path, model: str, instances: int, gpus: Sequence[int] | None
) -> Path:
    """Copy a repository with so many instances of a model (and, of an ensemble, of the models that it is made
    of).

    Args:
        repository: the original.
        work: the copy becomes ``models`` in it; an earlier one is replaced.
        model: the model that is put under load.
        instances: count of its instance groups.
        gpus: GPUs that instances may use; None leaves them as they are.

    Returns:
        The copy.

    Raises:
        LoadError: no such model, or a configuration that cannot be read or would lose something.
    """
    if not (repository / model / CONFIG).is_file():
        names = sorted(each.parent.name for each in repository.glob(f"*/{CONFIG}"))
        raise LoadError(
            f"{repository}: no model {model!r} with a {CONFIG}; there are: {', '.join(names) or 'none'}"
        )
    copy = work / "models"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(repository, copy, symlinks=False)
    for name in _with_parts(copy, model):
        path = copy / name / CONFIG
        text = path.read_text()
        config = set_instances(parse_config(text, path), instances, gpus)
        path.rename(path.with_name(ORIGINAL))
        path.write_text(printed_config(config))
    return copy


def parse_config(text: str, path: Path) -> Any:
    """A ``ModelConfig`` from its text.

    Raises:
        LoadError: it is none, or has a field that this version of the protocol does not know.
    """
    grpc_packages()
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise LoadError(
            f"{path}:{error}; a field that tritonclient does not know would be lost: upgrade tritonclient, or remove"
            " the field"
        ) from None


def printed_config(config: Any) -> str:
    """The text of a ``ModelConfig``."""
    from google.protobuf import text_format

    return text_format.MessageToString(config, use_short_repeated_primitives=True)


def set_instances(config: Any, instances: int, gpus: Sequence[int] | None) -> Any:
    """Set count and GPUs of all instance groups; a model without one gets one. An ensemble has none.

    A count is of each GPU of a group, as Triton takes it.
    """
    if config.platform == "ensemble" or config.HasField("ensemble_scheduling"):
        return config
    if not config.instance_group:
        config.instance_group.add(count=instances)
    for group in config.instance_group:
        group.count = instances
        if gpus is not None and group.kind in (0, _KIND_GPU):
            del group.gpus[:]
            group.gpus.extend(gpus)
            group.kind = _KIND_GPU
    return config


def check_effective(told: dict[str, Any] | None, model: str, instances: int) -> None:
    """Compare the configuration that a server tells with what was asked for.

    Raises:
        LoadError: another number of instances took effect.
    """
    groups = (told or {}).get("instance_group") or []
    counts = {int(group.get("count", 0)) for group in groups if group.get("kind") != "KIND_MODEL"}
    if counts and counts != {instances}:
        raise LoadError(
            f"model {model!r}: the server has {', '.join(map(str, sorted(counts)))} instances where {instances} were"
            " asked for: is another server at this address, or does the model fix its count?"
        )


def _with_parts(repository: Path, model: str) -> list[str]:
    """A model and, of an ensemble, all models that it is made of."""
    found = [model]
    for name in found:  # it grows while it is walked
        path = repository / name / CONFIG
        if not path.is_file():
            raise LoadError(f"{path}: missing; the ensemble {model!r} needs it")
        config = parse_config(path.read_text(), path)
        found += [step.model_name for step in config.ensemble_scheduling.step if step.model_name not in found]
    return found
