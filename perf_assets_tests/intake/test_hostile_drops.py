"""Hostile and broken drops: each ends as a clear row, none stops the others."""

import gzip
import os

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets_tests.intake.test_pipeline import POLL_HEADER, poll_rows, statuses, write
from perf_assets_tests.support import sql

GOOD = POLL_HEADER + poll_rows(0, 3)


def error_of(data, path: str) -> str:
    ((error,),) = sql(data, "SELECT error FROM source_files WHERE path = ?", path)
    return error


@pytest.mark.parametrize(
    "name",
    [
        "it's.csv",
        'quote".csv',
        "a[1].csv",
        "*.csv",
        "?.csv",
        "new\nline.csv",
        "x'); CREATE TABLE pwn AS SELECT 1; --.csv",
        "-rf.csv",
        "ünïcödé 日本.csv",
        "a" * 250 + ".csv",
        "perf.duckdb",
        "%s%d.csv",
        "$(touch pwned).csv",
    ],
)
def test_hostile_names(data, name):
    write(data, name, GOOD)
    write(data, "plain.csv", POLL_HEADER + poll_rows(60, 4))
    ingest(data)
    assert statuses(data) == {name: "ingested", "plain.csv": "ingested"}
    assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(7,)]
    assert sql(data, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'pwn'") == [(0,)]


def test_undecodable_name(data):
    path = os.fsencode(data.drops) + b"/\xff\xfe.csv"
    with open(path, "wb") as log:
        log.write(GOOD.encode())
    ingest(data)
    assert statuses(data) == {r"\xff\xfe.csv": "ingested"}


def test_broken_contents_do_not_stop_the_others(data, tmp_path):
    write(data, "good.csv", GOOD)
    write(data, "empty.csv", b"")
    write(data, "binary.csv", bytes(range(256)) * 100)
    write(data, "notes.txt", "just some words\n")
    write(data, "damaged.csv.gz", gzip.compress(GOOD.encode() * 50)[:-20])
    write(data, "packed.csv.gz", gzip.compress((POLL_HEADER + poll_rows(100, 2)).encode()))
    (data.drops / "x.csv").mkdir()
    secret = tmp_path / "secret.csv"
    secret.write_text(POLL_HEADER + poll_rows(200, 9))
    (data.drops / "link.csv").symlink_to(secret)
    (data.drops / "folder").symlink_to(tmp_path)
    (data.drops / "loop").symlink_to(data.drops)
    os.mkfifo(data.drops / "pipe.csv")
    write(data, ".hidden.csv", GOOD)
    write(data, "copying.csv.part", GOOD)
    ingest(data)
    assert statuses(data) == {
        "good.csv": "ingested",
        "packed.csv.gz": "ingested",
        "empty.csv": "rejected",
        "binary.csv": "unsupported",
        "notes.txt": "unsupported",
        "damaged.csv.gz": "rejected",
        "x.csv": "unsupported",
        "link.csv": "rejected",
        "folder": "rejected",
        "loop": "rejected",
        "pipe.csv": "unsupported",
    }
    assert "symbolic link" in error_of(data, "link.csv")
    assert "damaged gzip" in error_of(data, "damaged.csv.gz")
    assert "binary" in error_of(data, "binary.csv")
    assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(5,)]
    (data.drops / "link.csv").unlink()
    ingest(data)
    assert "link.csv" not in statuses(data)


def test_gzip_bomb(data):
    with gzip.open(data.drops / "bomb.csv.gz", "wb", compresslevel=9) as bomb:
        bomb.write(POLL_HEADER.encode())
        for _ in range(120):
            bomb.write(b"\n" * 2**20)
    write(data, "good.csv", GOOD)
    ingest(data)
    assert statuses(data) == {"bomb.csv.gz": "rejected", "good.csv": "ingested"}
    # On a slow machine the millions of blank lines cost more than such a file may, before they are too many bytes.
    error = error_of(data, "bomb.csv.gz")
    assert "inflates" in error or "processor time" in error
    assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(3,)]


def test_a_300_mb_line(data):
    path = write(data, "long.csv", GOOD)
    with path.open("ab") as log:
        for _ in range(300):
            log.write(b"7" * 1_000_000)
        log.write(b"\n" + poll_rows(60, 2).encode())
    ingest(data)
    assert sql(data, "SELECT lines, records, rejected, ignored FROM source_files") == [(7, 5, 1, 1)]
    assert sql(data, "SELECT line_number, reason, length(text) FROM rejected_lines") == [(5, "too_long", 500)]


def test_a_line_over_the_limit_inside_a_block(data):
    write(data, "long.csv", GOOD + "8" * (1024 * 1024 + 1) + "\r\n" + poll_rows(60, 2))
    ingest(data)
    assert sql(data, "SELECT lines, records, rejected, ignored FROM source_files") == [(7, 5, 1, 1)]


def test_unreadable_file_is_left(data):
    path = write(data, "good.csv", GOOD)
    write(data, "more.csv", POLL_HEADER + poll_rows(60, 2))
    path.unlink()
    ingest(data)
    assert statuses(data) == {"more.csv": "ingested"}


def test_a_failing_parser_harms_its_file_only(data, monkeypatch):
    from perf_assets.intake.formats.telemetry import nvidia_smi

    whole = nvidia_smi.parse

    def parse(source, out):
        whole(source, out)
        if source.path.name == "bad.csv":
            raise RuntimeError("met something unforeseen")

    monkeypatch.setattr(nvidia_smi, "parse", parse)
    write(data, "bad.csv", GOOD)
    write(data, "good.csv", POLL_HEADER + poll_rows(60, 2))
    ingest(data)
    assert statuses(data) == {"bad.csv": "rejected", "good.csv": "ingested"}
    assert "met something unforeseen" in error_of(data, "bad.csv")
    assert sql(data, "SELECT count(*) FROM cleaned_telemetry") == [(2,)]
