"""The documented Postgres variant of the instance, on a real server of this test's own."""

import glob
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from perf_assets_tests.support import EXAMPLES, ROOT, sql

PROGRAMS = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)), None)

pytestmark = pytest.mark.skipif(
    PROGRAMS is None, reason="no Postgres server: the Debian package postgresql has it"
)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A running server; Postgres refuses to run as root, so root becomes the user that its package made."""
    pytest.importorskip("dagster_postgres")
    folder = tmp_path_factory.mktemp("postgres")
    as_user = []
    if os.getuid() == 0:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        for path in (folder, *folder.parents):
            if path.is_relative_to("/tmp/pytest-of-root"):
                path.chmod(0o755)
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*as_user, f"{PROGRAMS}/{program}", *arguments], check=True, capture_output=True, cwd="/"
        )

    run(
        "initdb",
        "-D",
        str(data),
        "-U",
        "dagster",
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
    )
    options = f"-p {number} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "start", "-o", options)
    try:
        run(
            "psql",
            "-h",
            "127.0.0.1",
            "-p",
            str(number),
            "-U",
            "dagster",
            "-d",
            "postgres",
            "-c",
            "create database dagster",
        )
        yield number
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def test_a_fresh_database_is_set_up_by_one_process_at_a_time(port):
    """Who comes while another sets the tables up makes none, and looks at none, until that one is done."""
    import psycopg2

    from perf_assets.defs.postgres_storage import LOCK_KEY, QueuedPostgresStorage

    server = {"host": "127.0.0.1", "port": port, "user": "dagster"}
    config = {
        "username": "dagster",
        "password": "",
        "hostname": "127.0.0.1",
        "port": port,
        "db_name": "fresh",
    }
    opened = []

    def open_storage() -> None:
        storage = QueuedPostgresStorage.from_config_value(
            None, {"postgres_db": {**config, "scheme": "postgresql+psycopg2"}}
        )
        opened.append(storage.run_storage.get_runs())

    create = psycopg2.connect(dbname="postgres", **server)
    create.autocommit = True
    create.cursor().execute("CREATE DATABASE fresh")
    create.close()
    with psycopg2.connect(dbname="fresh", **server) as first, first.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        second = threading.Thread(target=open_storage)
        second.start()
        while True:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            if cursor.fetchone() == (1,) or not second.is_alive():
                break
            time.sleep(0.05)
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])
        second.join()
    assert opened == [[]]


def test_runs_on_postgres(port, data, tmp_path):
    import psycopg2

    text = (ROOT / "docs" / "dagster.postgres.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(text.replace("port: 5432", f"port: {port}"))
    shutil.copytree(EXAMPLES / "device_logs" / "training", data.drops / "training")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "DAGSTER_PG_USERNAME": "dagster",
        "DAGSTER_PG_PASSWORD": "",
        "DAGSTER_PG_HOST": "127.0.0.1",
        "DAGSTER_PG_DB": "dagster",
    }
    dagster = Path(sys.executable).parent / "dagster"
    # Four at once on a fresh database: first starts do not break each other.
    command = [dagster, "asset", "materialize", "-m", "perf_assets.definitions", "--select", "cleaned_runs"]
    children = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(4)
    ]
    outputs = [child.communicate()[0].decode() for child in children]
    assert [child.returncode for child in children] == [0] * 4, outputs
    assert sql(data, "SELECT count(*) FROM cleaned_runs WHERE status = 'ok'") == [(8,)]
    with psycopg2.connect(host="127.0.0.1", port=port, user="dagster", dbname="dagster") as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM runs WHERE status = 'SUCCESS'")
        assert cursor.fetchall() == [(4,)]
