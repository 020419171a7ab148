"""Speed of ingestion against the ways it replaces; prints ratios, since times on a shared machine say little
alone.

    .venv/bin/python benchmarks/ingest.py [--runs 8500] [--megabytes 100]

Every number is the median of interleaved repeats. Run directories are copies of the shipped examples with
other values, so that no two are the same.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8500, help="run directories; each has two files")
    parser.add_argument("--megabytes", type=int, default=100, help="size of the poll log")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["PERF_ASSETS_SETTLE_S"] = "0"
    table = Table("what", "value", "goal", title="ingest benchmark")
    with tempfile.TemporaryDirectory(prefix="perf-assets-benchmark-") as folder:
        small_files(Path(folder), options.runs, table)
        poll_log(Path(folder), options.megabytes, options.repeats, table)
        definitions(Path(folder), options.repeats, table)
    Console(width=120).print(table)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_fresh_process(script: str, *arguments: str) -> tuple[float, float]:
    """Wall seconds and peak MiB of a script in its own process, interpreter start not counted."""
    wrapped = (
        "import resource, sys, time; import duckdb, pyarrow.csv, pyarrow.parquet\n"
        f"def work():\n{''.join('    ' + line + chr(10) for line in script.splitlines())}\n"
        "start = time.perf_counter(); work(); seconds = time.perf_counter() - start\n"
        "print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", wrapped, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    return float(shown[-2]), float(shown[-1])


INGEST = """
from pathlib import Path
from perf_assets.intake.pipeline import ingest
from perf_assets.workspace.paths import DataPaths
report = ingest(DataPaths(Path(sys.argv[1])))
assert all(entry.status == 'ingested' for entry in report.read), 'not all were taken in'
"""

NOTEBOOK = """
import pandas as pd
from pathlib import Path
frame = pd.DataFrame()
for path in sorted(Path(sys.argv[1]).rglob('system_stats.csv')):
    row = pd.read_csv(path, index_col=0).T
    model, method, ratio, batch, workers = path.parent.name.split('-')
    row['model'], row['method'], row['ratio'], row['batch'], row['workers'] = model, method, ratio, batch, workers
    frame = pd.concat([frame, row], ignore_index=True)
"""


# Shape of a real corpus of 8,438 run directories: columns and rows of the samples' file, with their shares.
COLUMNS = ((62, 0.55), (118, 0.32), (31, 0.13))
ROWS = ((2, 0.45), (3, 0.45), (12, 0.07), (250, 0.03))


def replicate(drops: Path, runs: int) -> int:
    """Write ``runs`` run directories of that shape, no two the same; return the number of files."""
    draw = random.Random(5)
    for number in range(runs):
        columns, rows = (
            draw.choices([each for each, _ in shape], [share for _, share in shape])[0]
            for shape in (COLUMNS, ROWS)
        )
        cores = columns - 15
        names = [f"cpu_{core}" for core in range(cores)]
        names += [f"{of}_psi_{what}" for of in ("cpu", "mem", "io") for what in ("total", "avg10", "avg60")]
        names += ["vm_total", "vm_used", "vm_percent", "swap_percent", "cpuloadavg_1min"]
        start = datetime(2024, 4, 18) + timedelta(seconds=600 * number)
        samples = [[round(draw.uniform(800, 3400), 3) for _ in names] for _ in range(rows)]
        lines = [",time," + ",".join(names)] + [
            f"{row},{start + timedelta(seconds=2 * row)}.{number % 10**6:06d}," + ",".join(map(str, cells))
            for row, cells in enumerate(samples)
        ]
        means = [sum(column) / rows for column in zip(*samples, strict=True)]
        model, ratio = f"net{number % 7}", number % 19 * 0.05
        facts = {
            "acc": f"{draw.uniform(10, 90):.3f}" if number % 10 else "NDF-OOM",
            "model_name": model,
            "prune_config": "l1_structured",
            "prune_ratio": f"{ratio:.2f}",
            "batchsz_arg": str(2 ** (number % 8)),
            "num_workers_arg": str(number % 5),
        }
        target = (
            drops
            / "2025-02-03_lab"
            / f"set{number // 300:03d}"
            / f"node{number % 3}"
            / f"{model}-l1_structured-{ratio:.2f}-{2 ** (number % 8)}-{number % 5}"
        )
        target = target.with_name(f"{target.name}") / f"r{number}" if target.exists() else target
        target.mkdir(parents=True)
        (target / "full_system_stats.csv").write_text("\n".join(lines) + "\n")
        pairs = [",0", *(f"{name},{mean}" for name, mean in zip(names, means, strict=True))]
        pairs += [f"{key},{value}" for key, value in facts.items()]
        (target / "system_stats.csv").write_text("\n".join(pairs) + "\n")
    return 2 * runs


def small_files(folder: Path, runs: int, table: Table) -> None:
    """Many run directories: against the notebook's loop, and cost per file at a tenth of the number."""
    few, many = folder / "few", folder / "many"
    files_few, files_many = replicate(few / "drops", 1000), replicate(many / "drops", max(runs, 10_000))
    seconds_few, _ = in_fresh_process(INGEST, str(few))
    seconds_many, peak_mib = in_fresh_process(INGEST, str(many))
    # The loop is quadratic; a part of the files flatters it.
    part = folder / "part"
    replicate(part / "drops", min(runs, 2500))
    seconds_loop, _ = in_fresh_process(NOTEBOOK, str(part))
    per_file, per_file_few = seconds_many / files_many, seconds_few / files_few
    per_file_loop = seconds_loop / min(runs, 2500)
    table.add_row(
        f"files in one ingest ({files_many} of {files_many // 2} runs)", f"{seconds_many:.1f} s", ""
    )
    table.add_row(
        "per file, against a pandas loop over system_stats.csv alone (2,500 files)",
        f"{per_file_loop / per_file:.1f}x",
        "10x",
    )
    table.add_row("per-file cost, all files / a tenth of them", f"{per_file / per_file_few:.2f}", "1.3")
    table.add_row("peak memory, many files", f"{peak_mib:.0f} MiB", "1024 MiB")
    for path in (few, many, part):
        shutil.rmtree(path)


def write_poll_log(path: Path, megabytes: int) -> None:
    moment, row = datetime(2024, 1, 1), 0
    with path.open("w") as log:
        log.write("name, pci.bus_id, timestamp, utilization.gpu [%], power.draw [W]\n")
        while log.tell() < megabytes * 1_000_000:
            for _ in range(5000):
                stamp = (moment + timedelta(milliseconds=1003 * row)).strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]
                log.write(
                    f"NVIDIA A100-SXM4-40GB, 00000000:0F:00.0, {stamp}, {row % 100} %,"
                    f" {50 + row * 7919 % 20000 / 100:.2f} W\n"
                )
                row += 1


READ_CSV = """
connection = duckdb.connect()
connection.execute("CREATE TABLE polls AS FROM read_csv(?, all_varchar = true)", [sys.argv[1]])
"""

PARSE = """
from pathlib import Path, PurePosixPath
from perf_assets.intake.formats.telemetry import nvidia_smi
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import PLAIN, Source
from perf_assets.store.parts import BatchWriter
import tempfile
writer = BatchWriter(Path(tempfile.mkdtemp(dir=sys.argv[2])), 1)
out = Records('0' * 64, writer)
nvidia_smi.parse(Source(PurePosixPath('poll.csv'), {PLAIN: Path(sys.argv[1])}), out)
out.close()
writer.commit()
"""


def poll_log(folder: Path, megabytes: int, repeats: int, table: Table) -> None:
    """One large poll log against DuckDB's bare reader of the same bytes into text columns."""
    path = folder / "poll.csv"
    write_poll_log(path, megabytes)
    bare, parsed, whole, peaks = [], [], [], []
    for repeat in range(repeats):
        data = folder / f"poll-{repeat}"
        (data / "drops").mkdir(parents=True)
        shutil.copy(path, data / "drops")
        bare.append(in_fresh_process(READ_CSV, str(path))[0])
        parsed.append(in_fresh_process(PARSE, str(path), str(folder))[0])
        seconds, peak_mib = in_fresh_process(INGEST, str(data))
        whole.append(seconds)
        peaks.append(peak_mib)
        shutil.rmtree(data)
    bare_s = statistics.median(bare)
    spread = f"{min(bare):.2f} to {max(bare):.2f} s"
    table.add_row(f"DuckDB read_csv of {megabytes} MB into text", f"{bare_s:.2f} s ({spread})", "")
    table.add_row(
        "speed of parsing to typed Parquet / read_csv", f"{bare_s / statistics.median(parsed):.2f}", "0.5"
    )
    table.add_row(
        "speed of the whole ingest (hash, copy, parse, publish) / read_csv",
        f"{bare_s / statistics.median(whole):.2f}",
        "",
    )
    table.add_row("peak memory, poll log", f"{max(peaks):.0f} MiB", "1024 MiB")


def definitions(folder: Path, repeats: int, table: Table) -> None:
    """``dagster asset list`` on our definitions and on a project without any."""
    empty = folder / "empty_definitions.py"
    empty.write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    command = [str(Path(sys.executable).parent / "dagster"), "asset", "list"]

    def cpu_s(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, *arguments], capture_output=True, cwd=ROOT, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    ours, none = [], []
    for _ in range(repeats + 2):
        none.append(cpu_s("-f", str(empty)))
        ours.append(cpu_s("-m", "perf_assets.definitions"))
    ratio = statistics.median(ours) / statistics.median(none)
    table.add_row("CPU of 'dagster asset list', ours / an empty project", f"{ratio:.2f}", "1.5")


if __name__ == "__main__":
    main()
