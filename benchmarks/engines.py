"""What an engine adds to a profiling payload, against calling the payload directly.

    .venv/bin/python -m benchmarks.engines [--repeats 5]

A payload of one second runs directly, through the local engine and through a small Slurm of its own (where it
is installed), interleaved; what is printed are medians and spreads of the whole, and the share that the
engines take of a sweep of 1,000 points.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perf_assets.measuring.engines.engine import Engine, Job, run_job
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import load_site
from perf_assets.measuring.engines.slurm import SlurmEngine
from perf_assets_tests.measuring.engines.small_slurm import small_slurm

POINTS = 1000
POINTS_PER_JOB = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perf-assets-benchmark-") as folder:
        root = Path(folder)
        if shutil.which("slurmctld") is None:
            compare(root, options.repeats, [LocalEngine()])
            return
        with small_slurm(root / "slurm") as cluster:
            os.environ.update(cluster.environment)
            compare(root, options.repeats, [LocalEngine(), SlurmEngine(load_site())])


def compare(root: Path, repeats: int, engines: list[Engine]) -> None:
    # What engines add does not depend on what they run, so a payload without noise of its own shows it best.
    command = [sys.executable, "-c", "import time; time.sleep(1)"]
    direct_s: list[float] = []
    through_s: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for repeat in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        direct_s.append(time.perf_counter() - start)
        for engine in engines:
            job = Job(f"benchmark-{repeat}", command, root / f"{engine.name}-{repeat}", device="l40s")
            start = time.perf_counter()
            run_job(engine, job)
            through_s[engine.name].append(time.perf_counter() - start)
    point_s = seconds_of_a_point(root)
    table = Table("payload", "median", "spread", "added", "goal", "of a 1,000-point sweep")
    table.add_row("directly", f"{statistics.median(direct_s):.2f} s", spread(direct_s), "", "", "")
    for name, times_s in through_s.items():
        added = [through - direct for through, direct in zip(times_s, direct_s, strict=True)]
        share = statistics.median(added) * POINTS / POINTS_PER_JOB / (POINTS * point_s)
        goal = {"local": "0.5 s", "slurm": "2 s"}[name]
        table.add_row(
            name,
            f"{statistics.median(times_s):.2f} s",
            spread(times_s),
            f"{statistics.median(added):.2f} s",
            goal,
            f"{100 * share:.2f} % (goal 2 %)",
        )
    Console(width=120).print(table)
    print(f"a point of the sweep: {point_s:.1f} s (lenet5, latency only, a fresh process)")


def seconds_of_a_point(root: Path) -> float:
    """Wall seconds of the smallest real payload."""
    spec = root / "spec.json"
    spec.write_text(json.dumps({"network": "lenet5", "passes": ["latency"]}))
    command = [
        sys.executable,
        "-m",
        "perf_assets.measuring.profiling",
        "--spec",
        str(spec),
        "--out",
        str(root / "out"),
    ]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def spread(times_s: list[float]) -> str:
    return f"{min(times_s):.2f} to {max(times_s):.2f} s"


if __name__ == "__main__":
    main()
