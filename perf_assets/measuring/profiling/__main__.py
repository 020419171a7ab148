"""Command line on a node: measure one configuration.

    python -m perf_assets.measuring.profiling --spec spec.json --out FOLDER

Exit codes: 0 for every measured outcome (out of memory and unsupported ones too), 1 when a run failed, 2 for
a spec that cannot be used, 3 for a device that stays busy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perf_assets.measuring.devices.lock import DeviceBusyError
from perf_assets.measuring.profiling.spec import ProfileSpec, read_spec


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perf_assets.measuring.profiling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--spec", type=Path, required=True, help="JSON file: see perf_assets.measuring.profiling.spec"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the logs")
    options = parser.parse_args(arguments)
    try:
        return measure(read_spec(options.spec), options.out)
    except DeviceBusyError as error:
        print(error, file=sys.stderr)
        return 3
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def measure(spec: ProfileSpec, out: Path) -> int:
    """Measure one configuration, print the log's path and the outcome; returns the exit code."""
    # A bad spec is told at once, before torch is loaded.
    from perf_assets.measuring.profiling.run import profile

    path, result = profile(spec, out)
    print(path)
    latency_ms = result.get("latency_ms")
    measured = f" {latency_ms:.4g} ms ({result['verdict']}: {result['verdict_reason']})" if latency_ms else ""
    print(f"{spec.name}: {result['status']}{measured}{' ' + result['reason'] if result['reason'] else ''}")
    return 1 if result["status"] == "failed" else 0


if __name__ == "__main__":
    sys.exit(main())
