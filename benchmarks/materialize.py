"""What the literal ``dagster asset materialize --select cleaned_runs`` costs with nothing pending, beside an
empty project.

    python -m benchmarks.materialize [--runs 7]

Both commands run in turn, so that what slows the machine slows both. Printed are the medians of CPU seconds
of the whole process and the ratio pair by pair.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EMPTY = """
import dagster as dg

@dg.asset
def cleaned_runs() -> None:
    pass

defs = dg.Definitions(assets=[cleaned_runs], executor=dg.in_process_executor)
"""


def cpu_s(folder: Path, module: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [str(Path(sys.executable).parent / "dagster"), "asset", "materialize", "--select", "cleaned_runs"],
        cwd=folder,
        env=os.environ
        | {"DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME": module, "PYTHONPATH": f"{folder}:{ROOT}"},
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        empty, ours = Path(scratch) / "empty", Path(scratch) / "ours"
        for folder in (empty, ours):
            folder.mkdir()
            shutil.copy(ROOT / "dagster.yaml", folder)
            (folder / "data").mkdir()
        (empty / "empty_definitions.py").write_text(EMPTY)
        shutil.copytree(ROOT / "data" / "drops" / "examples", ours / "data" / "drops" / "examples")
        projects = ((empty, "empty_definitions"), (ours, "perf_assets.definitions"))
        for project in projects:  # the first run takes everything in; the second is the warm-up
            cpu_s(*project)
            cpu_s(*project)
        pairs = [[cpu_s(*project) for project in projects] for _ in range(runs)]
    ratios = [own / nothing for nothing, own in pairs]
    print(f"empty project  {statistics.median(pair[0] for pair in pairs):.2f} CPU s (median of {runs})")
    print(f"perf_assets    {statistics.median(pair[1] for pair in pairs):.2f} CPU s")
    print(f"ratio          {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
