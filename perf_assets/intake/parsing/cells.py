"""Cells of logs: text to numbers, with the markers that tools print for "no value"."""

from __future__ import annotations

import csv
import math
import re

# Tokens that mean "no value", lower case: nvidia-smi's bracketed words, and what scripts write.
ABSENT = frozenset(
    {
        "",
        "n/a",
        "[n/a]",
        "na",
        "nan",
        "-nan",
        "none",
        "null",
        "-",
        "--",
        "not available",
        "[not available]",
        "not supported",
        "[not supported]",
        "[insufficient permissions]",
        "[unknown error]",
        "unknown error",
        "[gpu requires reset]",
        "[gpu is lost]",
        "err!",
        "inf",
        "-inf",
    }
)

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)


def is_absent(cell: str) -> bool:
    """Does this cell say that there is no value?"""
    return cell.strip().lower() in ABSENT


def number(cell: str) -> float | None:
    """A cell as a number; None where it says that there is none.

    Raises:
        ValueError: it is neither. (``float`` alone would take ``1_000`` and ``infinity``.)
    """
    cell = cell.strip()
    if _NUMBER.match(cell):
        value = float(cell)
        return value if math.isfinite(value) else None
    if is_absent(cell):
        return None
    raise ValueError(f"{cell[:40]!r} is not a number")


def integer(cell: str) -> int | None:
    """A cell as an integer (``3`` or ``3.0``); None where it says that there is none.

    Raises:
        ValueError: it is neither, or does not fit 64 bits.
    """
    value = number(cell)
    if value is None:
        return None
    whole = int(cell) if cell.strip().lstrip("+-").isdigit() else int(value)
    if whole != value and abs(value) < 2**53:
        raise ValueError(f"{cell.strip()[:40]!r} is not a whole number")
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{cell.strip()[:40]!r} does not fit 64 bits")
    return whole


def numbers(cells: list[str]) -> list[float | None]:
    """``number`` of every cell.

    Raises:
        ValueError: some cell is neither a number nor a marker of absence.
    """
    try:
        values = list(map(float, cells))
    except ValueError:
        return [number(cell) for cell in cells]
    # float() takes more than a log's number: 1_000, infinity, digits of other scripts.
    joined = "".join(cells)
    if "_" in joined or not joined.isascii() or not all(map(math.isfinite, values)):
        return [number(cell) for cell in cells]
    return list(values)


def csv_cells(text: str, delimiter: str = ",") -> list[str]:
    """The cells of one line of CSV, quotes resolved.

    Raises:
        ValueError: the quoting is broken.
    """
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"broken quoting ({error}): cut off?") from None


_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?\Z", re.ASCII)


def grouped_number(cell: str) -> float | None:
    """A cell as a number that may have commas between its thousands (``1,444,438.5``); None as in ``number``.

    Raises:
        ValueError: it is neither.
    """
    cell = cell.strip()
    return number(cell.replace(",", "")) if _GROUPED.match(cell) else number(cell)
