"""Command line on a node: measure what is left of a sweep's stage.

    python -m perf_assets.measuring.sweeps --sweep sweep.toml --stage quick --out FOLDER [--known known.json]
    python -m perf_assets.measuring.sweeps --run board.zip [--out FOLDER]

Exit codes: 0 for every measured outcome (out of memory and unsupported ones too), 1 when a run failed, 2 for
a sweep that cannot be used, 75 when the point limit left some of it undone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
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
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.run is None) == (options.sweep is None):
        parser.error("say --sweep or --run, one of them")
    if options.sweep is not None and options.out is None:
        parser.error("say --out, the folder for the logs")
    try:
        return _measure(options) if options.run is None else _measure_pack(options)
    except _PointLimitReached:
        return WORK_LEFT_EXIT_CODE
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def run_pack(file: Path) -> int:
    """Measure a pack and say where the results are; returns the exit code.

    Raises:
        ValueError: the file is no pack.
    """
    return _measure_pack(_parser().parse_args(["--run", str(file)]))


def _parser() -> argparse.ArgumentParser:
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
    return parser


def _measure_pack(options: argparse.Namespace) -> int:
    report, results = boards.run(options.run, options.out, again=options.again, on_progress=_telling(options))
    code = _tell(report)
    if results:
        print(f"results: {results}: take them in by 'perf-assets sweep --collect {results.name}'")
    return code


def _measure(options: argparse.Namespace) -> int:
    if options.sweep.suffix == ".json":
        sweep = parse_sweep(read_json(options.sweep), str(options.sweep))
    else:
        sweep = read_sweep(options.sweep)
    known = read_json(options.known) if options.known else {}
    write = write_progress(options.progress, sweep, options.stage) if options.progress else None
    report = run_sweep(
        sweep,
        options.stage,
        options.out,
        known=known,
        again=options.again,
        on_progress=_telling(options, write),
        say=lambda line: print(line, flush=True),
    )
    return _tell(report)


def _telling(
    options: argparse.Namespace, write: Callable[[Progress], object] | None = None
) -> Callable[[Progress], None]:
    """What to do before each point: say how far it is, and leave when enough were measured."""

    def on_progress(progress: Progress) -> None:
        if write:
            write(progress)
        left = "" if progress.remaining_s is None else f", {progress.remaining_s:.0f} s left"
        print(f"{progress.done}/{progress.total} {progress.current or 'done'}{left}", flush=True)
        if options.points is not None and progress.current and progress.done >= options.points:
            raise _PointLimitReached

    return on_progress


def _tell(report: SweepReport) -> int:
    print(json.dumps({status: len(names) for status, names in sorted(report.points.items())}))
    for name, reason in sorted(report.refusals.items()):
        print(f"refused: {name}: {reason}")
    return 1 if {"failed", "incomplete", "busy"} & set(report.points) else 0


if __name__ == "__main__":
    sys.exit(main())
