"""Command line: measure one configuration, or what is left of a sweep's stage.

    python -m perf_assets.measuring.profiling --spec spec.json --out FOLDER
    python -m perf_assets.measuring.profiling --sweep sweep.toml --stage quick --out FOLDER [--known known.json]

Exit codes: 0 for every measured outcome (out of memory and unsupported ones too), 1 when a run failed, 2 for a
spec that cannot be used, 3 for a device that stays busy, 75 when the point limit left some of a sweep undone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from perf_assets.measuring.devices.lock import DeviceBusyError
from perf_assets.measuring.profiling.spec import read_spec

if TYPE_CHECKING:
    from perf_assets.measuring.sweeps.grid import Progress

POINTS_LEFT = 75


class _PointLimitReached(Exception):  # noqa: N818 - it ends a loop, it is no error
    """Enough points were measured."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perf_assets.measuring.profiling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--spec", type=Path, help="JSON file: see perf_assets.measuring.profiling.spec")
    what.add_argument("--sweep", type=Path, help="TOML (or JSON) file: see perf_assets.measuring.sweeps.grid")
    parser.add_argument("--out", type=Path, required=True, help="folder for the logs")
    parser.add_argument("--stage", default="sanity", help="of the sweep: sanity, quick or full")
    parser.add_argument("--known", type=Path, help="JSON object: status by key of points measured before")
    parser.add_argument("--again", action="store_true", help="measure what is known as well")
    parser.add_argument("--points", type=int, help="measure at most so many points")
    parser.add_argument("--progress", type=Path, help="file that always says how far the sweep is")
    options = parser.parse_args(arguments)
    try:
        return _measure_spec(options) if options.spec else _measure_sweep(options)
    except DeviceBusyError as error:
        print(error, file=sys.stderr)
        return 3
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def _measure_spec(options: argparse.Namespace) -> int:
    spec = read_spec(options.spec)
    # A bad spec is told at once, before torch is loaded.
    from perf_assets.measuring.profiling.run import profile

    path, result = profile(spec, options.out)
    print(path)
    latency_ms = result.get("latency_ms")
    measured = f" {latency_ms:.4g} ms ({result['verdict']}: {result['verdict_reason']})" if latency_ms else ""
    print(f"{spec.name}: {result['status']}{measured}{' ' + result['reason'] if result['reason'] else ''}")
    return 1 if result["status"] == "failed" else 0


def _measure_sweep(options: argparse.Namespace) -> int:
    from perf_assets.measuring.sweeps import grid

    text = options.sweep.read_text()
    sweep = grid.parse_sweep(json.loads(text)) if text.startswith("{") else grid.read_sweep(options.sweep)
    known = json.loads(options.known.read_text()) if options.known else {}
    write = grid.write_progress(options.progress, sweep, options.stage) if options.progress else None

    def on_progress(progress: Progress) -> None:
        if write:
            write(progress)
        left = "" if progress.remaining_s is None else f", {progress.remaining_s:.0f} s left"
        print(f"{progress.done}/{progress.total} {progress.current or 'done'}{left}", flush=True)
        if options.points is not None and progress.current and progress.done >= options.points:
            raise _PointLimitReached

    try:
        report = grid.run_sweep(
            sweep, options.stage, options.out, known=known, again=options.again, on_progress=on_progress
        )
    except _PointLimitReached:
        return POINTS_LEFT
    print(json.dumps({status: len(names) for status, names in sorted(report.points.items())}))
    for name in report.points.get("refused", ()):
        print(f"refused: {name} has no sanity point that is ok; run the stage sanity first")
    return 1 if {"failed", "incomplete", "busy"} & set(report.points) else 0


if __name__ == "__main__":
    sys.exit(main())
