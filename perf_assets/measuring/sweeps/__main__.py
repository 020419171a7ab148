"""Command line on a node: measure what is left of a sweep's stage.

    python -m perf_assets.measuring.sweeps --sweep sweep.toml --stage quick --out FOLDER [--known known.json]
    python -m perf_assets.measuring.sweeps --run board.zip

Exit codes: 0 for every measured outcome (out of memory and unsupported ones too), 1 when a run failed, 2 for
a sweep that cannot be used, 75 when the point limit left some of it undone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from perf_assets.measuring.engines.engine import WORK_LEFT_EXIT_CODE
from perf_assets.measuring.sweeps import boards
from perf_assets.measuring.sweeps.grid import parse_sweep, read_sweep
from perf_assets.measuring.sweeps.runner import Progress, SweepReport, run_sweep, write_progress
from perf_assets.workspace.validation import read_json


class _PointLimitReached(Exception):  # noqa: N818 - it ends a loop, it is no error
    """Enough points were measured."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perf_assets.measuring.sweeps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sweep", type=Path, help="TOML or JSON file: see perf_assets.measuring.sweeps.grid")
    parser.add_argument("--run", type=Path, help="a pack: see perf_assets.measuring.sweeps.boards")
    parser.add_argument("--out", type=Path, help="folder for the logs")
    parser.add_argument("--stage", default="sanity", help="sanity, quick or full")
    parser.add_argument("--known", type=Path, help="JSON object: status by key of points measured before")
    parser.add_argument("--again", action="store_true", help="measure what is known as well")
    parser.add_argument("--points", type=int, help="measure at most so many points")
    parser.add_argument("--progress", type=Path, help="file that always says how far the sweep is")
    options = parser.parse_args(arguments)
    if (options.run is None) == (options.sweep is None or options.out is None):
        parser.error("say --sweep and --out, or --run")
    try:
        return _measure(options) if options.run is None else run_pack(options.run)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def run_pack(file: Path) -> int:
    """Measure a pack and say where the results are; returns the exit code."""

    def on_progress(progress: Progress) -> None:
        print(f"{progress.done}/{progress.total} {progress.current or 'done'}", flush=True)

    report, results = boards.run(file, on_progress)
    code = _tell(report)
    print(f"results: {results}: take them in by 'perf-assets sweep --collect {results.name}'")
    return code


def _measure(options: argparse.Namespace) -> int:
    if options.sweep.suffix == ".json":
        sweep = parse_sweep(read_json(options.sweep), str(options.sweep))
    else:
        sweep = read_sweep(options.sweep)
    known = read_json(options.known) if options.known else {}
    write = write_progress(options.progress, sweep, options.stage) if options.progress else None

    def on_progress(progress: Progress) -> None:
        if write:
            write(progress)
        left = "" if progress.remaining_s is None else f", {progress.remaining_s:.0f} s left"
        print(f"{progress.done}/{progress.total} {progress.current or 'done'}{left}", flush=True)
        if options.points is not None and progress.current and progress.done >= options.points:
            raise _PointLimitReached

    try:
        report = run_sweep(
            sweep, options.stage, options.out, known=known, again=options.again, on_progress=on_progress
        )
    except _PointLimitReached:
        return WORK_LEFT_EXIT_CODE
    return _tell(report)


def _tell(report: SweepReport) -> int:
    print(json.dumps({status: len(names) for status, names in sorted(report.points.items())}))
    for name, reason in sorted(report.refusals.items()):
        print(f"refused: {name}: {reason}")
    return 1 if {"failed", "incomplete", "busy"} & set(report.points) else 0


if __name__ == "__main__":
    sys.exit(main())
