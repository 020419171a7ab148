"""Command line on a node: run a load study, or the recordings that it declares.

    python -m perf_assets.measuring.load_tests --study study.toml --out FOLDER [--again]

Exit codes: 0 when everything was measured, 1 when it had to stop (what was finished is kept, the next start goes
on there), 2 for a study that cannot be used.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from perf_assets.measuring.load_tests.requests import LoadError
from perf_assets.measuring.load_tests.study import parse_study, read_study
from perf_assets.measuring.recording.process import CommandError
from perf_assets.workspace.validation import read_json


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perf_assets.measuring.load_tests",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", type=Path, required=True, help="TOML or JSON file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the logs")
    parser.add_argument(
        "--again", action="store_true", help="begin anew, even where a log waits to be finished"
    )
    options = parser.parse_args(arguments)
    # Ended from outside, the study ends its server on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.study.suffix == ".json":
            study = parse_study(read_json(options.study), str(options.study))
        else:
            study = read_study(options.study)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    from perf_assets.measuring.load_tests.runner import run_study

    try:
        report = run_study(study, options.out, lambda line: print(line, flush=True), again=options.again)
    except (LoadError, CommandError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if any(report.exit_codes) else 0


if __name__ == "__main__":
    sys.exit(main())
