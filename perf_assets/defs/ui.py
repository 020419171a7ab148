"""``perf-assets ui``: Dagster's web server behind the guard, and its daemon, on this machine's loopback
address.

python -m perf_assets.defs.ui --port 3000        the guarded web server alone
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

HOST = "127.0.0.1"


def serve(port: int) -> int:
    """Run web server and daemon until one of them ends or a signal comes; returns the exit code.

    The current folder has ``dagster.yaml`` (where runs are kept) and ``workspace.yaml`` (what is shown).
    """
    import dagster as dg

    home = Path.cwd()
    # A fresh instance must be set up by one process, before two open it at once.
    with dg.DagsterInstance.from_config(str(home)):
        pass
    environment = os.environ | {"DAGSTER_HOME": os.environ.get("DAGSTER_HOME") or str(home)}
    commands = (
        [sys.executable, "-m", "perf_assets.defs.ui", "--host", HOST, "--port", str(port)],
        [sys.executable, "-m", "dagster._daemon", "run"],
    )
    children = [
        subprocess.Popen([*command, "--workspace", "workspace.yaml"], env=environment, start_new_session=True)
        for command in commands
    ]

    def end(*_: object) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    pid, status = os.wait()
    end()
    for child in children:
        if child.pid == pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            continue
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    return next(child.returncode for child in children if child.pid == pid)


def main() -> None:
    """Run Dagster's own web server command with the guard around its application."""
    from dagster_webserver import cli

    from perf_assets.defs.guard import LoopbackGuard

    create = cli.create_app_from_workspace_process_context
    cli.create_app_from_workspace_process_context = lambda *args, **options: LoopbackGuard(  # ty: ignore[invalid-assignment]
        create(*args, **options)
    )
    cli.main()


if __name__ == "__main__":
    main()
