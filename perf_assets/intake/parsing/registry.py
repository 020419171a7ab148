"""All parsers, and which of them a drop belongs to."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

FORMATS = {
    "unet_run": "training",
    "hl_smi": "telemetry",
    "nvidia_smi": "telemetry",
    "livealloc": "telemetry",
    "prune_profile": "training",
    "legacy_experiment": "training",
    "perf_analyzer_csv": "load_tests",
    "perf_analyzer_report": "load_tests",
    "perf_analyzer_export": "load_tests",
    "model_analyzer": "load_tests",
    "genai_perf": "load_tests",
    "traccc_log": "reconstruction",
    "traccc_throughput_csv": "reconstruction",
    "throughput_vs_mu": "reconstruction",
    "perf4sight": "profiles",
    "ai3_overall": "profiles",
    "ai3_layers": "profiles",
    "layer_table": "profiles",
    "gpustat": "telemetry",
    "nvidia_smi_dmon": "telemetry",
    "nvidia_smi_pmon": "telemetry",
    "tegrastats": "telemetry",
    "nvidia_smi_apps": "telemetry",
    "nvidia_smi_table": "telemetry",
    "gpustat_text": "telemetry",
    "rocm_smi_csv": "telemetry",
    "dcgmi_dmon": "telemetry",
    "prometheus_dcgm": "telemetry",
    "dcgm_exporter": "telemetry",
    "perf_assets_profile": "profiles",
    "codecarbon_emissions": "profiles",
    "timm_benchmark": "profiles",
    "neusight_conv": "profiles",
    "zeus_power": "profiles",
    "trtexec_log": "profiles",
    "torch_profiler_table": "profiles",
    "vllm_bench": "load_tests",
    "vllm_bench_text": "load_tests",
    "aiperf_json": "load_tests",
    "mlperf_loadgen": "load_tests",
    "perf_assets_recording": "recordings",
    "perf_assets_load_study": "load_tests",
    "run_annotations": "curation",
}
"""Module of each format, and its domain: the folder under ``formats`` it lies in."""

NESTING_FORMATS = ("perf_assets_recording",)
"""Formats that hand files of a drop to other formats: read again when any of these changes."""

LINKED_FORMATS = (
    "perf_analyzer_csv",
    "perf_analyzer_report",
    "perf_analyzer_export",
    "model_analyzer",
    "perf4sight",
    "ai3_overall",
    "ai3_layers",
    "genai_perf",
    "aiperf_json",
    "vllm_bench",
    "vllm_bench_text",
)
"""Formats whose rows ``store/sql/link_runs.sql`` may change, because several files may tell of one run."""


class Parser(Protocol):
    """What a module of this package offers."""

    __name__: str
    VERSION: int
    SIGNS: tuple[tuple[str, ...], ...]
    """Texts that a file of this format holds: of each group one. For explaining what a file lacks, not for
    sniffing."""

    # A format whose numbers do not all stand in its files has RULES, too: column (or pattern of columns) ->
    # the factor by which its numbers are converted, or in words how they follow. ``rules`` gives them, and
    # none where it has none.

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
    return cast(
        Parser, importlib.import_module(f"perf_assets.intake.formats.{FORMATS[format_name]}.{format_name}")
    )


def version(format_name: str) -> int:
    """The version of a format's parser."""
    return parser(format_name).VERSION


def rules(format_name: str) -> dict[str, float | str]:
    """How numbers follow that do not stand in the files of a format as they are published: by column or
    pattern."""
    return getattr(parser(format_name), "RULES", {})


@cache
def directory_members() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Formats whose unit is a directory: the file names that belong to it, and those of which one must be
    there."""
    members: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for name in FORMATS:
        if re.search(r"^MEMBERS\b", _text(name), re.MULTILINE):
            module = cast(ModuleType, parser(name))
            members[name] = frozenset(module.MEMBERS), frozenset(module.KEY_MEMBERS)
    return members


@cache
def fingerprint() -> str:
    """Changes whenever a parser is added or changes: what none recognised is then looked at again."""
    return " ".join(f"{name}:{_declared_version(name)}" for name in FORMATS)


def _declared_version(format_name: str) -> str:
    """The version as the module's text declares it."""
    found = re.search(r"^VERSION = (\d+)$", _text(format_name), re.MULTILINE)
    return found[1] if found else ""


@cache
def _text(format_name: str) -> str:
    """The text of a format's module: importing every parser would cost each start a fifth of a second."""
    return (Path(__file__).parents[1] / "formats" / FORMATS[format_name] / f"{format_name}.py").read_text()


def claimants(head: Head) -> list[str]:
    """The formats that claim this content. Directory formats see directories only, and the reverse."""
    is_directory = head.members != ("",)
    return [
        name for name in FORMATS if (name in directory_members()) == is_directory and parser(name).sniff(head)
    ]


def sniff(head: Head) -> str | None:
    """The one format that claims this content; None where none does, or several: then nobody knows what it
    is."""
    names = claimants(head)
    return names[0] if len(names) == 1 else None
