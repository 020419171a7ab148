"""Command line: measure one configuration.

    python -m perf_assets.profiling --spec spec.json --out FOLDER

Prints the log's path and a line with the result. Exit code 0 for every measured outcome (out of memory and
unsupported ones too), 1 for a failed run, 2 for a spec that cannot be used, 3 for a device that stays busy.
"""

import argparse
import sys
from pathlib import Path

from perf_assets.profiling.lock import DeviceBusyError
from perf_assets.profiling.spec import read_spec


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perf_assets.profiling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--spec", type=Path, required=True, help="JSON file: see perf_assets.profiling.spec")
    parser.add_argument("--out", type=Path, required=True, help="folder for the log")
    options = parser.parse_args(arguments)
    try:
        spec = read_spec(options.spec)
        # A bad spec is told at once, before torch is loaded.
        from perf_assets.profiling.run import profile

        path, result = profile(spec, options.out)
    except DeviceBusyError as error:
        print(error, file=sys.stderr)
        return 3
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(path)
    latency_ms = result.get("latency_ms")
    measured = f" {latency_ms:.4g} ms ({result['verdict']}: {result['verdict_reason']})" if latency_ms else ""
    print(f"{spec.name}: {result['status']}{measured}{' ' + result['reason'] if result['reason'] else ''}")
    return 1 if result["status"] == "failed" else 0


if __name__ == "__main__":
    sys.exit(main())
