"""All parsers, and which of them a drop belongs to."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Protocol, cast

from perf_assets.parsers.records import Records
from perf_assets.parsers.source import Head, Source

FORMATS = (
    "unet_run",
    "hl_smi",
    "nvidia_smi",
    "livealloc",
    "prune_profile",
    "legacy_experiment",
    "perf_analyzer_csv",
    "perf_analyzer_report",
    "perf_analyzer_export",
    "model_analyzer",
    "genai_perf",
    "traccc_log",
    "traccc_throughput_csv",
    "throughput_vs_mu",
    "perf4sight",
    "ai3_overall",
    "ai3_layers",
    "layer_table",
    "gpustat",
    "nvidia_smi_dmon",
    "nvidia_smi_pmon",
    "tegrastats",
    "perf_assets_profile",
)
"""Module names in this package. At most one of them claims a given content."""

LINKED_FORMATS = (
    "perf_analyzer_csv",
    "perf_analyzer_report",
    "perf_analyzer_export",
    "model_analyzer",
    "perf4sight",
    "ai3_overall",
    "ai3_layers",
)
"""Formats whose rows ``storage/sql/link_runs.sql`` may change, because several files may tell of one run."""


class Parser(Protocol):
    """What a module of this package offers."""

    __name__: str
    VERSION: int

    def sniff(self, head: Head) -> bool:
        """Does this look like mine?"""
        ...

    def parse(self, source: Source, out: Records) -> None:
        """Read the source, fill the records."""
        ...


@cache
def parser(format_name: str) -> Parser:
    """The parser of a format, by its name.

    Raises:
        KeyError: there is no such format.
    """
    if format_name not in FORMATS:
        raise KeyError(format_name)
    return cast(Parser, importlib.import_module(f"perf_assets.parsers.{format_name}"))


def version(format_name: str) -> int:
    """The version of a format's parser."""
    return parser(format_name).VERSION


@cache
def directory_members() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Formats whose unit is a directory: the file names that belong to it, and those of which one must be there."""
    members: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for name in FORMATS:
        module = cast(ModuleType, parser(name))
        if hasattr(module, "MEMBERS"):
            members[name] = frozenset(module.MEMBERS), frozenset(module.KEY_MEMBERS)
    return members


@cache
def fingerprint() -> str:
    """Changes whenever a parser is added or changes: what none recognised is then looked at again."""
    return " ".join(f"{name}:{version(name)}" for name in FORMATS)


def sniff(head: Head) -> str | None:
    """The format that claims this content, or None. Directory formats see directories only, and the reverse."""
    is_directory = head.members != ("",)
    for name in FORMATS:
        if (name in directory_members()) == is_directory and parser(name).sniff(head):
            return name
    return None
