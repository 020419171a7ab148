"""Does a change cost what the change is? Ratios only: absolute times on a shared machine say nothing.

    python -m benchmarks.growth [--large-mib 1024] [--drops 100000]

* one small drop on a large database against the same on a small one (processor time, bytes written), also
  while a reader holds the file open
* an ingest and a sensor's look with nothing pending, against a bare ``os.scandir`` and ``stat`` walk of the
  same tree
* one more file among many, against that ingest with nothing pending
* the cost of a file in a first ingest of 20,000 and of 2,000
* what ten appends to a log leave in ``raw``
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HEADER = "timestamp, index, power.draw [W]\n"
MEASURE = """
import os, resource, sys
from pathlib import Path
from perf_assets.workspace.paths import DataPaths
paths = DataPaths(Path(sys.argv[1]))
{setup}
def written():
    return int(next(l for l in open('/proc/self/io') if l.startswith('wchar')).split()[1])
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
before, bytes_before = cpu(), written()
{code}
print(cpu() - before, written() - bytes_before)
"""
INGEST = (
    "from perf_assets.intake.pipeline import ingest; import perf_assets.store.publish, duckdb, "
    "pyarrow.parquet"
)
WALK = """
def walk(folder):
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            walk(entry.path)
        else:
            entry.stat(follow_symlinks=False)
"""


def poll_log(rows: int, start: int = 0) -> str:
    lines = [
        f"2024/05/{1 + second // 86400:02d} "
        f"{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000,"
        f" 0, {100 + second * 7919 % 1000 / 10:.2f} W\n"
        for second in range(start, start + rows)
    ]
    return HEADER + "".join(lines)


def measured(root: Path, code: str, setup: str = INGEST) -> tuple[float, float]:
    """Processor seconds and bytes written of a piece of code in a fresh process, imports not counted."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(setup=setup, code=code), str(root)],
        env=os.environ | {"PERF_ASSETS_SETTLE_S": "0"},
        check=True,
        capture_output=True,
        text=True,
    )
    cpu_s, written_bytes = done.stdout.split()[-2:]
    return float(cpu_s), float(written_bytes)


def one_drop(root: Path, name: str) -> tuple[float, float]:
    (root / "drops" / name).write_text(poll_log(25, sum(name.encode()) * 100))
    return measured(root, "ingest(paths)")


def database(root: Path, mib: int) -> None:
    """A data folder whose database has about so many MiB, of random telemetry, which hardly compresses."""
    import duckdb

    (root / "drops").mkdir(parents=True)
    rows_a_file, bytes_a_row = 250_000, 12
    for number in range(max(1, mib * 2**20 // (rows_a_file * bytes_a_row))):
        duckdb.execute(
            f"""COPY (
                SELECT strftime(TIMESTAMP '2020-01-01' + INTERVAL (({number} * {rows_a_file} + i) // 4) SECOND,
                        '%Y/%m/%d %H:%M:%S.000') AS timestamp,
                    i % 4 AS index, (random() * 700)::DECIMAL(9, 2) AS "power.draw [W]",
                    (random() * 100)::INT AS "utilization.gpu [%]", (random() * 80000)::INT AS "memory.used [MiB]",
                    (random() * 2000)::INT AS "clocks.sm [MHz]", (random() * 700)::DECIMAL(9, 2) AS "power.draw.average [W]"
                FROM range({rows_a_file}) AS r(i)
            ) TO '{root}/drops/{number}.csv' (HEADER, DELIMITER ', ')"""
        )
    measured(root, "ingest(paths)")
    print(f"a database of {(root / 'perf.duckdb').stat().st_size / 2**20:.0f} MiB")


def growth_of_a_drop(scratch: Path, large_mib: int) -> None:
    sizes = {"small": 10, "large": large_mib}
    for name, mib in sizes.items():
        database(scratch / name, mib)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sizes}
    for number in range(6):
        for name in sizes:
            found[name].append(one_drop(scratch / name, f"one-more-{number}.csv"))
    for label, index in (("CPU", 0), ("bytes written", 1)):
        medians = {
            name: statistics.median(pair[index] for pair in pairs[1:]) for name, pairs in found.items()
        }
        print(f"one small drop, {label:13}  large / small  {medians['large'] / medians['small']:.2f}")
    root = scratch / "large"
    hold = (
        "import duckdb, sys, time; c = duckdb.connect(sys.argv[1], read_only=True); print(1, "
        "flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(root / "perf.duckdb")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    size_bytes = (root / "perf.duckdb").stat().st_size
    written = [one_drop(root, f"read-{number}.csv")[1] for number in range(3)]
    holder.kill()
    print(f"while a reader holds the file: most written in a publish  {max(written) / size_bytes:.2f} copies")


def growth_of_a_tree(scratch: Path, drops: int) -> None:
    root = scratch / "tree"
    for number in range(drops):
        folder = root / "drops" / f"{number // 500:04d}"
        if number % 500 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number}.csv").write_text(poll_log(1, number))
    measured(root, "ingest(paths)")
    nothing, look, walk, more = [], [], [], []
    for number in range(5):
        walk.append(measured(root, "walk(paths.drops)", WALK)[0])
        nothing.append(measured(root, "ingest(paths)")[0])
        look.append(measured(root, "pending(paths)", "from perf_assets.intake.pipeline import pending")[0])
        (root / "drops" / "0000" / f"more-{number}.csv").write_text(poll_log(1, drops + number))
        more.append(measured(root, "ingest(paths)")[0])
    bare = statistics.median(walk)
    print(f"nothing pending, ingest        / bare walk  {statistics.median(nothing) / bare:.2f}")
    print(f"nothing pending, sensor's look / bare walk  {statistics.median(look) / bare:.2f}")
    print(f"one more file / nothing pending  {statistics.median(more) / statistics.median(nothing):.2f}")


def growth_of_a_first_ingest(scratch: Path) -> None:
    cost = {}
    for count in (2_000, 20_000):
        root = scratch / f"first-{count}"
        (root / "drops").mkdir(parents=True)
        for number in range(count):
            (root / "drops" / f"{number}.csv").write_text(poll_log(2, number * 3))
        cost[count] = measured(root, "ingest(paths)")[0] / count
        shutil.rmtree(root)
    print(f"first ingest, cost a file, 20,000 / 2,000  {cost[20_000] / cost[2_000]:.2f}")


def growth_of_raw(scratch: Path) -> None:
    root = scratch / "appends"
    (root / "drops").mkdir(parents=True)
    for count in range(1, 11):
        (root / "drops" / "log.csv").write_text(poll_log(2_000 * count))
        measured(root, "ingest(paths)")
    kept = sum(path.stat().st_size for path in (root / "raw").rglob("*") if path.is_file())
    print(f"ten appends: raw / log  {kept / (root / 'drops' / 'log.csv').stat().st_size:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large-mib", type=int, default=1024)
    parser.add_argument("--drops", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        growth_of_raw(Path(scratch))
        growth_of_a_first_ingest(Path(scratch))
        growth_of_a_tree(Path(scratch), options.drops)
        growth_of_a_drop(Path(scratch), options.large_mib)


if __name__ == "__main__":
    main()
