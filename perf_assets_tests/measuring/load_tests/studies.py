"""Small studies, and looking for what they leave behind."""

import json
import os
from pathlib import Path

from perf_assets.measuring.load_tests.study import Study, parse_study

SERVICE_MS = 20.0


def study(name: str = "small", *, server=(), model=(), load=(), repeats=(), **more) -> Study:
    """A study of the embedded server; every table can be added to."""
    return parse_study(
        {
            "name": name,
            "server": {"kind": "embedded", "service_ms": SERVICE_MS, **dict(server)},
            "model": {"name": "timed", **dict(model)},
            "load": {"requests": 24, "warmup_requests": 2, **dict(load)},
            "repeats": {"least": 1, "most": 1, **dict(repeats)},
            "idle_s": 0.0,
            **more,
        }
    )


def lines(path: Path, kind: str) -> list[dict]:
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # cut off by a kill
            continue
        if row["line"] == kind:
            rows.append(row)
    return rows


def log_of(out: Path) -> Path:
    (path,) = out.glob("*.jsonl")
    return path


def server_processes() -> list[str]:
    """Command lines of servers and keepers of studies that run now, started by this test process's tree or left
    behind by it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            mark = f"PYTEST_CURRENT_TEST={os.environ.get('PYTEST_CURRENT_TEST', '').split(' ')[0]}"
            if any("measuring.load_tests." in word for word in words) and mark.encode() in environment:
                found.append(" ".join(words))
    return found
