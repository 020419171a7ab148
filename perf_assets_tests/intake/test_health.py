"""Damage by a disk or a person: what is derived comes back the same, the truth is healed or named."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from perf_assets.intake import health
from perf_assets.intake.copying import copy_in
from perf_assets.intake.drops import recovery
from perf_assets.intake.drops.ledger import LedgerError
from perf_assets.intake.pipeline import ingest, rebuild
from perf_assets.store.publish import publish_computed
from perf_assets.workspace import filesystems
from perf_assets.workspace.paths import DataPaths
from perf_assets_tests.intake.test_pipeline import POLL_HEADER, poll_rows, statuses, write
from perf_assets_tests.support import EXAMPLES, sql, table_contents

SCORE = {
    "target": "latency",
    "device": "tx2",
    "method": "constant",
    "split": "config",
    "group": "all",
    "n": 3,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> DataPaths:
    """A data folder with a bit of everything: several ingests, a deleted drop, a log that grew, a computed
    table."""
    data = DataPaths(tmp_path_factory.mktemp("whole") / "data")
    for name in ("load_tests", "telemetry", "profiles"):
        shutil.copytree(EXAMPLES / name, data.drops / name)
    write(data, "deleted.csv", POLL_HEADER + poll_rows(0, 20))
    write(data, "grows.csv", POLL_HEADER + poll_rows(100, 20))
    ingest(data)
    (data.drops / "deleted.csv").unlink()
    write(data, "grows.csv", POLL_HEADER + poll_rows(100, 40))
    ingest(data)
    publish_computed(data, {"predictor_scores": [SCORE]})
    return data


@pytest.fixture
def damaged(whole, data) -> DataPaths:
    """A copy of it, to be damaged."""
    shutil.rmtree(data.root)
    shutil.copytree(whole.root, data.root)
    return data


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for position in range(len(content) // 3, len(content), max(1, len(content) // 7)):
        content[position] ^= 0xFF
    file.write_bytes(content)


HARMS = {
    "flipped": flip,
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file: file.write_bytes(b""),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
    "pattern", ["ledger.sqlite", "perf.duckdb", "perf.duckdb.spare", "parts/*/*", "computed/*"]
)
def test_what_is_derived_comes_back_the_same(damaged, harm, pattern):
    before = table_contents(damaged)
    files = sorted(file for file in damaged.root.glob(pattern) if file.is_file())
    assert files
    for file in files:
        HARMS[harm](file)
    findings = health.check(damaged)
    report = ingest(damaged)
    after = table_contents(damaged)
    assert findings.lost == []
    if pattern == "computed/*" and harm != "removed":
        (line,) = [line for line in findings.healed + report.healed if "predictor_scores" in line]
        assert "'perf-assets fit' makes it again" in line
    if pattern == "computed/*":
        assert after.pop("predictor_scores") == []
        before.pop("predictor_scores")
    assert after == before


@pytest.mark.parametrize("harm", HARMS)
def test_a_folder_of_parts_or_the_database_is_missed_without_a_check(damaged, harm):
    before = table_contents(damaged)
    HARMS[harm](damaged.database)
    if harm == "removed":
        shutil.rmtree(damaged.parts)
    if harm == "flipped":
        return  # only a check reads every block
    ingest(damaged)
    assert table_contents(damaged) == before


@pytest.mark.parametrize("harm", HARMS)
def test_a_lost_ledger_comes_back_from_raw_with_all_drops_deleted(damaged, harm):
    before = table_contents(damaged)
    shutil.rmtree(damaged.drops)
    damaged.drops.mkdir()
    HARMS[harm](damaged.ledger)
    for suffix in ("-wal", "-shm"):
        damaged.ledger.with_name(damaged.ledger.name + suffix).unlink(missing_ok=True)
    health.check(damaged)
    ingest(damaged)
    after = table_contents(damaged)
    assert after == before


def test_a_damaged_raw_copy_is_healed_from_drops(damaged):
    ingest(damaged)  # copied drops have new times
    before = table_contents(damaged)
    copies = [path for path in damaged.raw.glob("??/*") if path.is_file() and path.suffix != ".jsonl"]
    deleted = [
        file_id for (file_id,) in sql(damaged, "SELECT file_id FROM source_files WHERE path = 'deleted.csv'")
    ]
    for copy in copies:
        if copy.name not in deleted:
            flip(copy)
    report = rebuild(damaged)
    assert len(report.healed) == len(copies) - 1
    assert table_contents(damaged) == before


def test_a_damaged_raw_copy_without_a_drop_is_named_and_a_new_drop_heals_it(damaged):
    before = table_contents(damaged, ignoring=("is_present",))
    ((file_id,),) = sql(damaged, "SELECT file_id FROM source_files WHERE path = 'deleted.csv'")
    flip(damaged.raw / file_id[:2] / file_id)
    findings = health.check(damaged)
    (line,) = findings.lost
    assert line.startswith("deleted.csv: its raw copy was damaged")
    ingest(damaged)
    assert statuses(damaged)["deleted.csv"] == "rejected"
    rebuild(damaged)
    assert statuses(damaged)["deleted.csv"] == "rejected"
    write(damaged, "deleted.csv", POLL_HEADER + poll_rows(0, 20))
    ingest(damaged)
    assert table_contents(damaged, ignoring=("is_present",)) == before


def test_ten_appends_leave_hardly_more_than_the_log_in_raw(data):
    for count in range(1, 11):
        write(data, "log.csv", POLL_HEADER + poll_rows(0, count * 50))
        ingest(data)
    kept = sum(
        path.stat().st_size for path in data.raw.rglob("*") if path.is_file() and path.suffix != ".jsonl"
    )
    assert kept == (data.drops / "log.csv").stat().st_size
    assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(500,)]


def test_a_version_that_was_no_beginning_stays_for_its_time(data, monkeypatch):
    write(data, "log.csv", POLL_HEADER + poll_rows(0, 5))
    ingest(data)
    write(data, "log.csv", POLL_HEADER + poll_rows(50, 5))
    ingest(data)
    copies = [path for path in data.raw.glob("??/*") if path.suffix != ".jsonl"]
    assert len(copies) == 2
    monkeypatch.setenv("PERF_ASSETS_KEEP_REPLACED_DAYS", "0")
    ingest(data)
    assert len([path for path in data.raw.glob("??/*") if path.suffix != ".jsonl"]) == 1


def test_names_that_look_alike_stay_apart(data):
    for name, start in ((b"\xff.csv", 0), (b"\\xff.csv", 50)):
        Path(os.fsdecode(os.fsencode(data.drops) + b"/" + name)).write_text(POLL_HEADER + poll_rows(start, 5))
    ingest(data)
    assert len(statuses(data)) == 2
    assert not ingest(data).read
    assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(10,)]


def test_a_time_in_the_future_is_taken_in(data):
    file = write(data, "a.csv", POLL_HEADER + poll_rows(0, 5))
    os.utime(file, (1893456000, 1893456000))
    ingest(data)
    assert statuses(data) == {"a.csv": "ingested"}
    assert not ingest(data).read


def test_large_and_sparse_files_are_refused_without_a_copy(data, monkeypatch):
    with (data.drops / "sparse.csv").open("wb") as file:
        file.truncate(3 * 2**30)
    write(data, "large.csv", POLL_HEADER + poll_rows(0, 100))
    monkeypatch.setenv("PERF_ASSETS_MAX_FILE", "1K")
    report = ingest(data)
    errors = dict(sql(data, "SELECT path, error FROM source_files"))
    assert "PERF_ASSETS_MAX_FILE" in errors["large.csv"]
    assert {odd.path for odd in report.oddities} == {"large.csv", "sparse.csv"}
    assert not data.raw.exists() or not list(data.raw.glob("??/*"))
    monkeypatch.delenv("PERF_ASSETS_MAX_FILE")
    ingest(data)
    errors = dict(sql(data, "SELECT path, error FROM source_files WHERE status = 'rejected'"))
    assert errors.keys() == {"sparse.csv"}
    assert "holes" in errors["sparse.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_what_an_ordinary_user_cannot_read_is_named(data, tmp_path):
    write(data, "closed.csv", POLL_HEADER + poll_rows(0, 5)).chmod(0)
    write(data, "folder/inside.csv", POLL_HEADER + poll_rows(50, 5))
    write(data, "good.csv", POLL_HEADER + poll_rows(90, 5))
    for path in [data.root, *data.root.rglob("*")]:
        os.chown(path, 65534, 65534)
    for path in [tmp_path, *tmp_path.parents]:
        if path != Path("/") and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o055)
    (data.drops / "folder").chmod(0o444)
    # A fork, since an ordinary user may not reach the interpreter; what it imports was imported before.
    ingest(DataPaths(tmp_path / "other"))
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        report = ingest(data)
        os._exit(len(report.oddities) + 10 * report.count("ingested"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
    (data.drops / "folder").chmod(0o755)
    errors = dict(sql(data, "SELECT path, error FROM source_files WHERE status = 'rejected'"))
    assert "check its permissions" in errors["closed.csv"]
    assert "the permission x" in errors["folder"]
    assert statuses(data)["good.csv"] == "ingested"


def test_a_folder_given_again_grows_in_place(data, tmp_path):
    logs = tmp_path / "logs"
    (logs / "deep").mkdir(parents=True)
    (logs / "deep" / "a.csv").write_text(POLL_HEADER + poll_rows(0, 5))
    (logs / "b.csv").write_text(POLL_HEADER + poll_rows(50, 5))
    for rows in (10, 12, 15):
        ingest(data, only=copy_in([logs], data))
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(rows,)]
        (logs / "deep" / "a.csv").write_text(POLL_HEADER + poll_rows(0, {10: 7, 12: 10, 15: 0}[rows]))
    assert sorted(path.name for path in data.drops.iterdir()) == ["logs"]


def test_a_folder_given_again_after_a_kill_counts_once(data, tmp_path):
    """What is left of the first try is a whole or no copy of each file, and the ledger may be lost as
    well."""
    log = tmp_path / "big.csv"
    log.write_text(POLL_HEADER + poll_rows(0, 3000))
    (target,) = copy_in([log], data)
    target.write_text(target.read_text()[:5000])
    (data.drops / ".incoming-big.csv").write_text("half")
    for _ in range(2):
        data.ledger.unlink(missing_ok=True)
        ingest(data, only=copy_in([log], data))
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(3000,)]


def test_a_ledger_on_a_network_file_system_is_refused(data, tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"99 21 0:50 / {data.root} rw,relatime shared:1 - nfs4 server:/export rw\n"
    )
    assert filesystems.network_type(data.root, mounts) == "nfs4"
    assert filesystems.network_type(tmp_path, mounts) is None
    monkeypatch.setattr(recovery, "network_type", lambda folder: filesystems.network_type(folder, mounts))
    with pytest.raises(LedgerError, match="PERF_ASSETS_DROPS, PERF_ASSETS_WORK"):
        ingest(data)


def test_drops_and_work_may_lie_elsewhere(data, tmp_path, monkeypatch):
    from perf_assets.workspace.paths import data_paths

    (tmp_path / "data").mkdir(exist_ok=True)
    for name in ("DATA", "DROPS", "WORK"):
        monkeypatch.setenv(f"PERF_ASSETS_{name}", str(tmp_path / name.lower()))
    paths = data_paths()
    write(paths, "a.csv", POLL_HEADER + poll_rows(0, 5))
    ingest(paths)
    assert (tmp_path / "drops" / "a.csv").exists()
    assert paths.work == tmp_path / "work"
    assert sql(paths, "SELECT count(*) FROM cleaned_telemetry") == [(5,)]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("free_kib", [20, 300, 1200, 4000])
def test_a_full_disk_leaves_the_published_tables_and_recovers(small_disk, free_kib):
    data = DataPaths(small_disk / "data")
    write(data, "a.csv", POLL_HEADER + poll_rows(0, 50))
    ingest(data)
    before = table_contents(data)
    content = POLL_HEADER + poll_rows(100, 3400)
    filler = small_disk / "filler"
    write(data, "b.csv", content)
    status = os.statvfs(small_disk)
    filler.write_bytes(bytes(max(0, status.f_bavail * status.f_bsize - free_kib * 1024)))
    failure = None
    try:
        ingest(data)
    except OSError as error:
        failure = error
    if failure is None:
        assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(3450,)]
    else:
        assert failure.errno == errno.ENOSPC
        assert table_contents(data) == before
    filler.unlink()
    ingest(data)
    assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(3450,)]
