"""Command line on a node: record a command.

    python -m perf_assets.measuring.recording --out FOLDER [--name NAME] [--hz 10] -- COMMAND ...

The exit code is the command's; 128 + the signal where one ended it, 126 or 127 where it could not be started, 2
for options that cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perf_assets.measuring.recording.process import CommandError
from perf_assets.measuring.recording.record import DEFAULT_HZ
from perf_assets.measuring.recording.telling import run_and_tell, to_stderr


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perf_assets.measuring.recording",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the recording's own folder")
    parser.add_argument("--name", help="of the recording [default: the program's]")
    parser.add_argument("--hz", type=float, default=DEFAULT_HZ, help="samples per second")
    parser.add_argument("command", nargs="+", help="the command, after --")
    options = parser.parse_args(arguments)
    try:
        return run_and_tell(options.command, options.out, options.name, options.hz, to_stderr)
    except CommandError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
