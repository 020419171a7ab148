"""Do kills at random moments leave a scratch? Every command that writes is killed, and then run to its end.

    python -m benchmarks.kills [--kills 50] [--seed 1]

Each time a data folder with drops taken in gets more drops, then ``ingest``, ``ingest PATH``, ``rebuild`` or
``check`` starts in a process of its own and is killed (SIGKILL) at a random moment of its usual duration. A
plain ``ingest`` afterwards must give the tables of a folder that was never disturbed.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from perf_assets.intake.pipeline import ingest
from perf_assets.schema.tables import TABLES
from perf_assets.store.database import open_readonly
from perf_assets.workspace.paths import DataPaths

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "data" / "drops" / "examples"
FIRST, LATER = ("device_logs", "telemetry"), ("load_tests", "profiles", "history")
COMMANDS = ("ingest", "ingest PATH", "rebuild", "check")
UNCOMPARED = {"ingested_at", "modified_at", "file_id", "path", "run_id", "source_run_id"}
"""When, and under which name, a file came: a copy that ``ingest PATH`` makes has another path."""


def tables(paths: DataPaths) -> dict[str, list[str]]:
    """Every row of every table as text, sorted."""
    rows = {}
    with open_readonly(paths.database) as connection:
        for table in TABLES.values():
            columns = ", ".join(f'"{name}"' for name in table.column_names if name not in UNCOMPARED)
            found = connection.execute(f"SELECT {columns} FROM {table.name}").fetchall()
            rows[table.name] = sorted(map(repr, found))
    return rows


def start(paths: DataPaths, command: str, elsewhere: Path) -> subprocess.Popen:
    """Start a command on a data folder, in a process group of its own."""
    arguments = ["ingest", str(elsewhere)] if command == "ingest PATH" else [command]
    return subprocess.Popen(
        [sys.executable, "-c", "from perf_assets.cli.app import main; main()", *arguments],
        cwd=paths.root.parent,
        env=os.environ | {"PERF_ASSETS_DATA": str(paths.root), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def add_later(paths: DataPaths, command: str, elsewhere: Path) -> None:
    """Drop what is new: into the folder, or where ``ingest PATH`` takes it from."""
    for name in LATER:
        target = elsewhere / name if command == "ingest PATH" else paths.drops / name
        shutil.copytree(EXAMPLES / name, target)


def main() -> None:
    """Kill, finish, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ["PERF_ASSETS_SETTLE_S"] = "0"
    draw = random.Random(options.seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="perf-assets-kills-") as scratch:
        first = DataPaths(Path(scratch) / "first" / "data")
        for name in FIRST:
            shutil.copytree(EXAMPLES / name, first.drops / name)
        ingest(first)
        usual_s, wanted = {}, {}
        for command in COMMANDS:
            whole = DataPaths(Path(scratch) / command.replace(" ", "_") / "data")
            shutil.copytree(first.root, whole.root)
            elsewhere = whole.root.parent / "elsewhere"
            add_later(whole, command, elsewhere)
            begun = time.monotonic()
            start(whole, command, elsewhere).wait()
            usual_s[command] = time.monotonic() - begun
            ingest(whole)
            wanted[command] = tables(whole)
        for number in range(options.kills):
            command = COMMANDS[number % len(COMMANDS)]
            killed = DataPaths(Path(scratch) / "killed" / "data")
            shutil.rmtree(killed.root.parent, ignore_errors=True)
            shutil.copytree(first.root, killed.root)
            elsewhere = killed.root.parent / "elsewhere"
            add_later(killed, command, elsewhere)
            process = start(killed, command, elsewhere)
            time.sleep(draw.uniform(0.3, 1.0) * usual_s[command])
            died = process.poll() is None
            os.killpg(process.pid, signal.SIGKILL) if died else None
            process.wait()
            again = start(killed, command, elsewhere) if command == "ingest PATH" else None
            if again is not None:
                again.wait()  # what was not copied yet is asked for again
            ingest(killed)
            found = tables(killed)
            different = [name for name in found if found[name] != wanted[command][name]]
            outcomes[command, f"differs: {', '.join(different)}" if different else "identical"] += 1
            outcomes[command, "killed" if died else "had ended before"] += 1
    for (command, outcome), count in sorted(outcomes.items()):
        print(f"{command:12} {outcome:30} {count}")


if __name__ == "__main__":
    main()
