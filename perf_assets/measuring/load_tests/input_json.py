"""Input JSON for load tests: detector events from CSV cells, or any user's tables, one entry an event.

The layouts of traccc's servers, over its cells (``geometry_id, measurement_id, channel0, channel1, timestamp,
value``):

``features``
    ``FEATURES``: all columns, [cells, columns].
``geometry``
    ``GEOMETRY_ID``: that column, whole numbers, [cells]; ``FEATURES``: the other columns, [cells, columns - 1].
``cells``
    ``CELL_POSITIONS``: the whole numbers (all but timestamp and value), [cells, 4]; ``CELL_PROPERTIES``:
    timestamp and value, [cells, 2].

The result is what perf_analyzer's ``--input-data`` and ``model.input`` of a study read.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perf_assets.measuring.load_tests.requests import LoadError
from perf_assets.measuring.load_tests.tensors import read_entries

LAYOUTS = ("features", "geometry", "cells")
PATTERN = "event*-cells.csv"
_GEOMETRY = "geometry_id"
_PROPERTIES = ("timestamp", "value")


def write_events(
    source: Path,
    target: Path,
    layout: str,
    events: int | None = None,
    inputs: Sequence[Mapping[str, Any]] | None = None,
) -> int:
    """Write the events of a folder (or one file of cells) as input JSON; returns how many.

    Args:
        source: a folder with ``event*-cells.csv``, or one CSV file.
        target: the JSON file; it is replaced whole, or not at all.
        layout: one of ``LAYOUTS``.
        events: take so many, the first by name; None takes all.
        inputs: the model's inputs, to check the result against.

    Raises:
        LoadError: a file cannot be used, or does not fit the model; the message says where and what helps.
    """
    files = [source] if source.is_file() else sorted(source.glob(PATTERN))
    if not files:
        raise LoadError(f"{source}: no {PATTERN} in it: name the folder of the events, or one CSV file")
    entries = [_entry(*read_cells(path), layout, path) for path in files[:events]]
    _write(target, entries, inputs)
    return len(entries)


def write_tensors(
    tensors: Mapping[str, Path], target: Path, inputs: Sequence[Mapping[str, Any]] | None = None
) -> int:
    """Write one entry of any tensors, each from a ``.npy`` or CSV file of numbers; returns 1.

    Raises:
        LoadError: a file cannot be used, or does not fit the model.
    """
    entry = {}
    for name, path in tensors.items():
        if path.suffix == ".npy":
            try:
                values = np.load(path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise LoadError(f"{path}: no array of numbers: {error}") from None
            if values.dtype.kind not in "biuf":
                raise LoadError(f"{path}: holds {values.dtype}, not numbers")
        else:
            _, rows = read_cells(path, header_needed=False)
            values = np.array([[_number(cell) for cell in row] for row in rows])
        entry[name] = {"content": values.ravel().tolist(), "shape": list(values.shape)}
    _write(target, [entry], inputs)
    return 1


def read_cells(path: Path, *, header_needed: bool = True) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of a CSV of numbers.

    Raises:
        LoadError: it cannot be read, or a cell is no number.
    """
    try:
        with path.open(newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LoadError(f"{path}: cannot be read: {error}") from None
    if not rows:
        raise LoadError(f"{path}: is empty")
    has_header = not all(map(_is_number, rows[0]))
    if header_needed and not has_header:
        raise LoadError(f"{path}: no header: its first line must name the columns")
    names = rows.pop(0) if has_header else [str(i) for i in range(len(rows[0]))]
    for number, row in enumerate(rows, start=2 if has_header else 1):
        if len(row) != len(names):
            raise LoadError(f"{path}:{number}: {len(row)} cells, {len(names)} columns")
        bad = next((cell for cell in row if not _is_number(cell)), None)
        if bad is not None:
            raise LoadError(f"{path}:{number}: {bad[:40]!r} is not a number")
    return names, rows


def _entry(names: list[str], rows: list[list[str]], layout: str, path: Path) -> dict[str, Any]:
    if layout == "features":
        return {"FEATURES": _tensor(rows, range(len(names)), _number)}
    if _GEOMETRY not in names:
        raise LoadError(
            f"{path}: no column {_GEOMETRY!r}, which the layout {layout} needs; it has {', '.join(names)}"
        )
    if layout == "geometry":
        place = names.index(_GEOMETRY)
        others = [i for i in range(len(names)) if i != place]
        column = {"content": [_whole(row[place], path) for row in rows], "shape": [len(rows)]}
        return {"GEOMETRY_ID": column, "FEATURES": _tensor(rows, others, _number)}
    missing = [name for name in _PROPERTIES if name not in names]
    if missing:
        raise LoadError(
            f"{path}: no column {missing[0]!r}, which the layout cells needs; it has {', '.join(names)}"
        )
    properties = [names.index(name) for name in _PROPERTIES]
    positions = [i for i in range(len(names)) if i not in properties]
    return {
        "CELL_POSITIONS": _tensor(rows, positions, lambda cell: _whole(cell, path)),
        "CELL_PROPERTIES": _tensor(rows, properties, _number),
    }


def _tensor(rows: list[list[str]], columns: Sequence[int], convert: Any) -> dict[str, Any]:
    content = [convert(row[i]) for row in rows for i in columns]
    return {"content": content, "shape": [len(rows), len(columns)]}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str) -> float | int:
    """Whole numbers stay whole: an identifier of 64 bits does not fit into a float."""
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def _whole(cell: str, path: Path) -> int:
    try:
        return int(cell)
    except ValueError:
        if float(cell).is_integer():
            return int(float(cell))
        raise LoadError(f"{path}: {cell!r} is no whole number, where the layout needs one") from None


def _write(target: Path, entries: list[dict[str, Any]], inputs: Sequence[Mapping[str, Any]] | None) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        partial.write_text(json.dumps({"data": entries}))
        if inputs is not None:
            try:
                read_entries(partial, inputs)
            except LoadError as error:
                # It never got its name.
                raise LoadError(str(error).replace(str(partial), str(target))) from None
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
