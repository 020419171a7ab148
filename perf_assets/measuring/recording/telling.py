"""What people are told of a recording, and where it goes; for both command lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from perf_assets.measuring.recording.record import Recording, record


def run_and_tell(
    command: Sequence[str], out: Path, name: str | None, hz: float, say: Callable[[str], None]
) -> int:
    """Record a command, say in one line what came of it, and return the exit code to end with."""
    recording = record(command, out, name=name, hz=hz)
    say(f"recorded: {summary(recording)}")
    return recording.exit_code


def summary(recording: Recording) -> str:
    """One line: status, duration, processor time, memory, energy, folder."""
    result = recording.result
    energy_j, idle_share = result["energy_j"], result.get("idle_share")
    energy = "" if energy_j is None else f", {energy_j:.4g} J"
    idle = "" if idle_share is None else f" ({100 * idle_share:.0f} % idle)"
    reason = f" ({result['reason']})" if result["reason"] else ""
    return (
        f"{result['status']}{reason}, {result['duration_s']:.3f} s, {result['cpu_s']:.3f} CPU s, largest process"
        f" {result['largest_rss_mib']:.1f} MiB{energy}{idle}; {recording.folder}"
    )


def default_out(drops: Path) -> Path:
    """Where recordings go unless told otherwise."""
    return drops / "perf_assets" / "recordings"


def to_stderr(line: str) -> None:
    """Say something beside the command's output."""
    print(f"perf-assets: {line}", file=sys.stderr)
