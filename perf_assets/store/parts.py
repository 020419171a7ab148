"""Parsed rows as immutable Parquet files: one folder a batch, one file a table in it.

A batch appears by one rename. It counts only once the ledger names it; what the ledger does not name is
left over from an interrupted ingest and is removed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf_assets.schema.tables import PARSED_TABLES, TEXT, arrow_schema
from perf_assets.workspace.filesystems import file_sha256

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP_VALUES = 512 * 1024
"""Values held before they are written: a map's entries count, since a row of host metrics has a hundred."""
MAX_UNWRITTEN = 2
_PARTIAL = ".partial"


_SUMS = "sums.json"


class DamagedPartsError(Exception):
    """The parts of a batch are not what was written; they can be made again from raw."""

    def __init__(self, batch: int) -> None:
        super().__init__(f"the parts of batch {batch} are damaged")
        self.batch = batch


class BatchWriter:
    """Writes the rows of many files as one batch."""

    def __init__(self, parts: Path, batch: int) -> None:
        self._folder = parts / str(batch)
        self._partial = parts / f"{batch}{_PARTIAL}"
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._writers: dict[str, pq.ParquetWriter] = {}
        # Arrow writes without the interpreter's lock: parsing goes on while one thread writes.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._unwritten: deque[Future[None]] = deque()
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._values: Counter[str] = Counter()

    def add_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Take rows as dicts; they are written when there are enough of them."""
        self._rows.setdefault(table, []).extend(rows)
        self._values[table] += sum(
            len(value) if isinstance(value, list) else 1 for row in rows for value in row.values()
        )
        if self._values[table] >= ROW_GROUP_VALUES:
            self._write_rows(table)

    def add_table(self, table: str, rows: pa.Table) -> None:
        """Take rows as an Arrow table and write them."""
        import pyarrow.parquet as pq

        if table not in self._writers:
            texts = [column.name for column in PARSED_TABLES[table].columns if column.type == TEXT]
            self._writers[table] = pq.ParquetWriter(
                self._partial / f"{table}.parquet",
                arrow_schema(table),
                compression="lz4",
                # Numbers and times hardly repeat; trying them as dictionaries costs a third of the write.
                use_dictionary=texts,
            )
        self._unwritten.append(self._thread.submit(self._writers[table].write_table, rows))
        self._wait(MAX_UNWRITTEN)

    def commit(self) -> None:
        """Finish all files and let the batch appear, with the hashes of its files."""
        for table in list(self._rows):
            self._write_rows(table)
        self._wait(0)
        self._thread.shutdown()
        for writer in self._writers.values():
            writer.close()
        sums = {file.name: file_sha256(file) for file in sorted(self._partial.glob("*.parquet"))}
        (self._partial / _SUMS).write_text(json.dumps(sums))
        shutil.rmtree(self._folder, ignore_errors=True)
        self._partial.rename(self._folder)

    def abort(self) -> None:
        """Give up: nothing of the batch appears."""
        self._thread.shutdown(cancel_futures=True)
        for writer in self._writers.values():
            with contextlib.suppress(Exception):
                writer.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def _wait(self, at_most: int) -> None:
        """Wait until no more than so many tables are still to be written; errors of writing surface here."""
        while len(self._unwritten) > at_most:
            self._unwritten.popleft().result()

    def _write_rows(self, table: str) -> None:
        rows = self._rows.pop(table)
        del self._values[table]
        if rows:
            self.add_table(table, to_arrow(table, rows))


def to_arrow(table: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of the schema; missing columns are NULL."""
    import pyarrow as pa

    schema = arrow_schema(table)
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:
        # A lone surrogate, from an escape in JSON: no text that can be stored.
        cleaned = [
            {
                name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
                for name, value in row.items()
            }
            for row in rows
        ]
        return pa.Table.from_pylist(cleaned, schema=schema)


def part_file(parts: Path, batch: int, table: str) -> Path:
    """Where a batch holds the rows of a table; it may hold none."""
    return parts / str(batch) / f"{table}.parquet"


def verify(parts: Path, batch: int) -> None:
    """Compare the files of a batch with the hashes it was written with.

    Raises:
        DamagedPartsError: one is gone or was changed.
    """
    if not is_intact(parts, batch):
        raise DamagedPartsError(batch)


def is_intact(parts: Path, batch: int) -> bool:
    """Does a batch hold what was written? One of an earlier version, without hashes, does if it is there."""
    folder = parts / str(batch)
    if not folder.is_dir():
        return False
    if not (folder / _SUMS).exists():
        return True
    try:
        sums = json.loads((folder / _SUMS).read_text())
        return all(file_sha256(folder / name) == sha256 for name, sha256 in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def missing_batches(parts: Path, named: set[int]) -> list[int]:
    """The batches that the ledger names and that are not there."""
    there = {int(path.name) for path in parts.glob("*") if path.name.isdigit()} if parts.is_dir() else set()
    return sorted(named - there)


def next_batch(parts: Path) -> int:
    """A number that no batch has."""
    numbers = [int(path.name.removesuffix(_PARTIAL)) for path in parts.glob("*") if _is_batch(path)]
    return max(numbers, default=0) + 1


def remove_unnamed(parts: Path, named: set[int]) -> None:
    """Remove batches that the ledger does not name."""
    for path in parts.glob("*"):
        if _is_batch(path) and (path.name.endswith(_PARTIAL) or int(path.name) not in named):
            shutil.rmtree(path, ignore_errors=True)


def _is_batch(path: Path) -> bool:
    return path.name.removesuffix(_PARTIAL).isdigit()
