"""Which network to build and what to call it with, as a person writes it down. Needs no torch, imports no
one's module."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from perf_assets.measuring.networks.names import check_network_name, check_object_name
from perf_assets.workspace.validation import StrictModel


def _content_of(file: Path) -> str:
    """Short hash of a file, or its name where it does not lie here."""
    try:
        facts = file.stat()
    except OSError:
        return file.name
    return _hash_of(file, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=64)
def _hash_of(file: Path, changed_ns: int, size_bytes: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


class NetworkRequest(StrictModel):
    """A network and its input.

    Attributes:
        network: a plain name (torchvision's classifiers, lenet5), ``timm:NAME``, ``transformers:NAME`` (a type
            of model such as ``bert``, or a class) or ``package.module:name``: a module class, or a function
            that returns a module.
        network_kwargs: arguments it is built with (of a transformers network: of its configuration).
        weights: local file of a state dict, loaded with ``weights_only=True``; None for seeded random weights.
        inputs: ``package.module:name`` of a function that gets ``batch_size`` and ``input_size`` and returns
            what the network is called with: a tensor, a tuple of arguments, or a dict of named ones. None for
            what the network is known to take: images, or the tokens of a transformers network.
        forward_kwargs: further named arguments of every call.
        module_folder: folder from which own modules are imported, besides the installed ones.
    """

    network: str
    network_kwargs: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    inputs: str | None = None
    forward_kwargs: dict[str, Any] = Field(default_factory=dict)
    module_folder: str | None = None

    @field_validator("network")
    @classmethod
    def _check_network(cls, value: str) -> str:
        check_network_name(value)
        return value

    @field_validator("inputs")
    @classmethod
    def _check_inputs(cls, value: str | None) -> str | None:
        if value is not None:
            check_object_name("inputs", value)
        return value

    def asked(self) -> dict[str, Any]:
        """What of the network is not as its name alone says: the fields that were set, without the folder.

        Weights are told by what is in the file, because the same file lies elsewhere on another machine.
        """
        names = ("network_kwargs", "inputs", "forward_kwargs")
        asked = {name: value for name in names if (value := getattr(self, name))}
        return asked | ({"weights": _content_of(Path(self.weights))} if self.weights else {})

    @property
    def variant(self) -> str:
        """Short hash of how it is built, empty for a network that its name alone describes."""
        asked = {name: value for name, value in self.asked().items() if name in ("network_kwargs", "weights")}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8] if asked else ""

    def request(self) -> NetworkRequest:
        """Only these fields, of whatever else this object holds."""
        return NetworkRequest(**{name: getattr(self, name) for name in NetworkRequest.model_fields})
