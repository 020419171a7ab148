"""Ingestion as a whole: the same drops give the same tables, whatever happens on the way."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from perf_assets.intake.copying import copy_in
from perf_assets.intake.drops.scan import is_settled, scan
from perf_assets.intake.pipeline import ingest, pending, rebuild, register_drops
from perf_assets.workspace.locks import exclusive
from perf_assets.workspace.paths import DataPaths
from perf_assets_tests.support import EXAMPLES, sql, table_contents

POLL_HEADER = "timestamp, index, power.draw [W]\n"


def poll_rows(start: int, count: int) -> str:
    return "".join(
        f"2024/05/01 10:{second // 60:02d}:{second % 60:02d}.000, 0, {100 + second}.00 W\n"
        for second in range(start, start + count)
    )


def write(data: DataPaths, name: str, content: str | bytes) -> Path:
    path = data.drops / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def statuses(data: DataPaths) -> dict[str, str]:
    return dict(sql(data, "SELECT path, status FROM source_files"))


class TestSameDropsSameTables:
    def test_twice(self, examples):
        before = table_contents(examples)
        report = ingest(examples)
        assert report.read == []
        assert not report.publication.changed
        assert table_contents(examples) == before

    def test_in_another_order_and_in_pieces(self, examples, data):
        files = sorted(path for path in EXAMPLES.rglob("*") if path.is_file())
        random.Random(5).shuffle(files)
        for i, path in enumerate(files):
            target = data.drops / path.relative_to(EXAMPLES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            if i % 25 == 0:
                ingest(data)
        ingest(data)
        # A run directory that was seen half-way leaves its earlier version on record.
        complete, got = table_contents(examples), table_contents(data)
        got["source_files"] = [row for row in got["source_files"] if "'replaced'" not in row]
        assert got == complete

    def test_moved_to_another_folder(self, examples, data):
        shutil.copytree(EXAMPLES, data.drops / "first" / "examples")
        ingest(data)
        shutil.move(data.drops / "first" / "examples", data.drops / "examples")
        ingest(data)
        shutil.rmtree(data.drops / "first")
        again = DataPaths(data.root.parent / "again")
        shutil.copytree(EXAMPLES, again.drops / "examples")
        ingest(again)
        assert table_contents(data) == table_contents(again)

    def test_renamed_logs_have_the_same_rows(self, data):
        write(data, "a.txt", POLL_HEADER + poll_rows(0, 30))
        ingest(data)
        before = table_contents(data, ignoring=("path",))
        (data.drops / "a.txt").rename(data.drops / "b, 'c'.log")
        ingest(data)
        assert table_contents(data, ignoring=("path",)) == before
        assert statuses(data) == {"b, 'c'.log": "ingested"}

    def test_rebuild(self, examples, data):
        shutil.copytree(examples.root, data.root, dirs_exist_ok=True)
        before = table_contents(data)
        report = rebuild(data)
        assert report.publication.changed
        assert table_contents(data) == before

    def test_rebuild_without_parts_and_database(self, examples, data):
        shutil.copytree(examples.root, data.root, dirs_exist_ok=True)
        before = table_contents(data)
        shutil.rmtree(data.parts)
        data.database.unlink()
        rebuild(data)
        assert table_contents(data) == before

    def test_a_lost_database_is_made_again(self, examples, data):
        shutil.copytree(examples.root, data.root, dirs_exist_ok=True)
        before = table_contents(data)
        data.database.write_bytes(b"")
        data.database.unlink()
        ingest(data)
        assert table_contents(data) == before

    @pytest.mark.parametrize("seed", range(20))
    def test_killed_at_a_random_moment(self, examples, data, seed):
        shutil.copytree(EXAMPLES, data.drops, dirs_exist_ok=True)
        script = (
            "from perf_assets.intake.pipeline import ingest; from perf_assets.workspace.paths import "
            "data_paths; "
        )
        script += "import perf_assets.store.publish, pyarrow.parquet, duckdb; print('go', flush=True); "
        script += "ingest(data_paths())"
        environment = os.environ | {"PERF_ASSETS_DATA": str(data.root)}
        child = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        # An uninterrupted ingest of the examples lasts about 0.6 s: the moments cover all of its steps.
        time.sleep(random.Random(seed).uniform(0.0, 0.6))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        ingest(data)
        assert table_contents(data) == table_contents(examples)
        leftovers = [path.name for path in data.root.rglob("*partial*")]
        assert leftovers == []


class TestVersionsOfAFile:
    def test_log_appended_in_20_steps(self, data):
        write(data, "poll.csv", POLL_HEADER)
        for step in range(20):
            with (data.drops / "poll.csv").open("a") as log:
                log.write(poll_rows(10 * step, 10))
            ingest(data)
        whole = DataPaths(data.root.parent / "whole")
        write(whole, "poll.csv", POLL_HEADER + poll_rows(0, 200))
        ingest(whole)
        got, want = table_contents(data), table_contents(whole)
        replaced = [row for row in got["source_files"] if "'replaced'" in row]
        assert len(replaced) == 19
        got["source_files"] = [row for row in got["source_files"] if row not in replaced]
        assert got == want

    def test_replaced_log_withdraws_its_rows(self, data):
        write(data, "poll.csv", POLL_HEADER + poll_rows(0, 30))
        ingest(data)
        write(data, "poll.csv", POLL_HEADER + poll_rows(100, 5))
        ingest(data)
        assert sql(data, "SELECT count(*), min(power_w) FROM cleaned_telemetry") == [(5, 200.0)]
        assert sorted(sql(data, "SELECT status FROM source_files")) == [("ingested",), ("replaced",)]

    def test_content_that_comes_back(self, data):
        for power_w in (0, 100, 0):
            write(data, "poll.csv", POLL_HEADER + poll_rows(power_w, 5))
            ingest(data)
        assert sql(data, "SELECT min(power_w) FROM cleaned_telemetry") == [(100.0,)]
        assert sorted(sql(data, "SELECT status FROM source_files")) == [("ingested",), ("replaced",)]

    def test_deleted_drop_keeps_its_rows(self, data):
        path = write(data, "poll.csv", POLL_HEADER + poll_rows(0, 30))
        ingest(data)
        before = table_contents(data)
        path.unlink()
        ingest(data)
        assert table_contents(data) == before
        rebuild(data)
        assert table_contents(data) == before

    def test_same_content_twice_counts_once(self, data):
        for name in ("b/poll.csv", "a/poll.csv"):
            write(data, name, POLL_HEADER + poll_rows(0, 30))
        assert ingest(data).duplicates == 1
        assert ingest(data).duplicates == 0  # was told
        assert statuses(data) == {"a/poll.csv": "ingested", "b/poll.csv": "duplicate"}
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(30,)]
        (data.drops / "a/poll.csv").unlink()
        ingest(data)
        assert statuses(data) == {"b/poll.csv": "ingested"}
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(30,)]

    def test_parser_change_reads_again(self, data, monkeypatch):
        from perf_assets.intake.formats.telemetry import nvidia_smi
        from perf_assets.intake.parsing import registry

        write(data, "poll.csv", POLL_HEADER + poll_rows(0, 3))
        write(data, "dump.txt", (EXAMPLES / "device_logs/memory/habana_log.livealloc.log_0").read_bytes())
        ingest(data)
        (data.drops / "poll.csv").unlink()
        monkeypatch.setattr(nvidia_smi, "VERSION", nvidia_smi.VERSION + 1)
        registry.fingerprint.cache_clear()
        report = ingest(data)
        assert [entry.path for entry in report.read] == ["poll.csv"]
        assert report.read[0].parser_version == nvidia_smi.VERSION
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(3,)]

    def test_timezone_setting(self, data, monkeypatch):
        write(data, "poll.csv", POLL_HEADER + poll_rows(0, 1))
        monkeypatch.setenv("PERF_ASSETS_TIMEZONE", "Europe/Berlin")
        ingest(data)
        ((hour, source),) = sql(data, "SELECT hour(polled_at), time_source FROM cleaned_telemetry")
        assert (hour, source) == (8, "local time, read as Europe/Berlin")

    def test_unsettled_file_is_left_for_later(self, data, monkeypatch):
        monkeypatch.setenv("PERF_ASSETS_SETTLE_S", "3600")
        write(data, "poll.csv", POLL_HEADER + poll_rows(0, 3))
        (drop,) = scan(data.drops).changed
        assert not is_settled(drop)
        assert is_settled(drop, now_s=drop.changed_at_s + 3600)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        report = ingest(data)
        assert report.unsettled == ["poll.csv"]
        assert sql(data, "SELECT count(*) FROM source_files") == [(0,)]


class TestReadersAndWriters:
    def test_open_reader_blocks_nothing(self, data):
        write(data, "poll.csv", POLL_HEADER + poll_rows(0, 3))
        ingest(data)
        script = (
            "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True);"
            "q = 'SELECT count(*) FROM cleaned_telemetry';"
            "print(c.execute(q).fetchone()[0], flush=True); sys.stdin.readline();"
            "print(c.execute(q).fetchone()[0], flush=True)"
        )
        shell = subprocess.Popen(
            [sys.executable, "-c", script, data.database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert shell.stdout is not None
        assert shell.stdout.readline() == "3\n"
        write(data, "more.csv", POLL_HEADER + poll_rows(60, 4))
        ingest(data)
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(7,)]
        assert shell.communicate("\n")[0] == "3\n"

    def test_a_shell_that_writes_blocks_nothing(self, data):
        write(data, "poll.csv", POLL_HEADER + poll_rows(0, 3))
        ingest(data)
        with duckdb.connect(data.database) as shell:
            shell.execute("CREATE TABLE mine AS SELECT 1 AS a")
            write(data, "more.csv", POLL_HEADER + poll_rows(60, 4))
            ingest(data)
            shell.execute("INSERT INTO mine VALUES (2)")
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(7,)]

    def test_ingests_wait_for_each_other(self, data):
        for i in range(8):
            write(data, f"poll-{i}.csv", POLL_HEADER + poll_rows(60 * i, 30))
        script = (
            "from perf_assets.intake.pipeline import ingest; from perf_assets.workspace.paths import "
            "data_paths; "
        )
        script += "print(len(ingest(data_paths()).read))"
        environment = os.environ | {"PERF_ASSETS_DATA": str(data.root)}
        children = [
            subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
            for _ in range(4)
        ]
        read = [int(child.communicate()[0]) for child in children]
        assert [child.returncode for child in children] == [0] * 4
        assert sum(read) == 8
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(240,)]

    def test_lock_names_its_holder(self, data):
        waited = []
        with exclusive(data.lock):
            script = (
                "import sys; from pathlib import Path; from perf_assets.workspace.locks import exclusive\n"
                "with exclusive(Path(sys.argv[1]), lambda pid: print(pid, flush=True)): pass"
            )
            child = subprocess.Popen(
                [sys.executable, "-c", script, data.lock], stdout=subprocess.PIPE, text=True
            )
            assert child.stdout is not None
            waited.append(int(child.stdout.readline()))
        assert child.wait() == 0
        assert waited == [os.getpid()]

    def test_old_schema_is_replaced(self, data):
        write(data, "poll.csv", POLL_HEADER + poll_rows(0, 3))
        ingest(data)
        before = table_contents(data)
        with duckdb.connect(data.database) as old:
            old.execute("ALTER TABLE cleaned_telemetry ADD COLUMN gone BIGINT")
            old.execute("UPDATE publication.state SET ddl_sha256 = 'of an older version'")
        write(data, "note.txt", "nothing\n")
        ingest(data)
        assert table_contents(data)["cleaned_telemetry"] == before["cleaned_telemetry"]


class TestByHand:
    def test_copy_in_from_elsewhere(self, data, tmp_path):
        outside = tmp_path / "outside"
        (outside / "deep").mkdir(parents=True)
        (outside / "deep" / "poll.csv").write_text(POLL_HEADER + poll_rows(0, 3))
        placed = copy_in([outside, outside / "deep" / "poll.csv"], data)
        assert placed == [data.drops / "outside", data.drops / "poll.csv"]
        assert copy_in([outside / "deep" / "poll.csv", placed[0]], data) == [placed[1], placed[0]]
        assert {drop.path for drop in scan(data.drops).changed} == {"outside/deep/poll.csv", "poll.csv"}
        with pytest.raises(FileNotFoundError):
            copy_in([tmp_path / "absent"], data)

    def test_pending_and_take_in(self, data):
        write(data, "poll.csv", POLL_HEADER + poll_rows(0, 3))
        assert [drop.path for drop in pending(data)] == ["poll.csv"]
        register_drops(data)
        assert pending(data) == []
        assert not data.database.exists()
        assert [entry.status for entry in ingest(data).read] == ["ingested"]

    def test_only_what_is_named(self, data):
        for name in ("a/poll.csv", "a/b/poll.csv", "ab/poll.csv", "c.csv"):
            write(data, name, POLL_HEADER + poll_rows(len(name), 3))
        run_folder = data.drops / "run" / "resnet-l1_unstructured-0.1"
        run_folder.mkdir(parents=True)
        (run_folder / "system_stats.csv").write_text(",0\nacc,70.0\n")
        assert [entry.path for entry in ingest(data, only=[data.drops / "a"]).read] == [
            "a/b/poll.csv",
            "a/poll.csv",
        ]
        assert [entry.path for entry in ingest(data, only=[run_folder / "system_stats.csv"]).read] == [
            "run/resnet-l1_unstructured-0.1"
        ]
        assert [entry.path for entry in ingest(data).read] == ["ab/poll.csv", "c.csv"]

    def test_run_directory_that_is_the_drops_folder_itself(self, data):
        (data.drops / "system_stats.csv").write_text(",0\nacc,70.0\nmodel_name,vgg16\n")
        ingest(data)
        assert sql(
            data, "SELECT path, model, accuracy_pct FROM cleaned_runs JOIN source_files USING (file_id)"
        ) == [(".", "vgg16", 70.0)]
