"""Tables of PyTorch's profiler (``prof.key_averages().table()``): a row an operator; times and memory as
printed.

A table is a run; each number of an operator is a counter of it, with the operator as scope and its calls. Columns are two
spaces apart; titles wider than their column ('CUDA time avg') push what follows out from under the dashes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (("Self CPU %",), ("# of Calls",))

LONGEST_LINE = 4000
RULES_OF_A_TABLE = 3
"""Dashes stand above the header, below it, and below the rows."""

CALLS = "# of Calls"

_COMMENT = re.compile(r"\A\s{0,8}#\s")
"""Some keep tables as comments of a script."""
_GAP = re.compile(r" {2,}|\t")
_RULE = re.compile(r"\s*-{4,}(?:\s+-{4,})+\s*\Z")
_CELL = re.compile(r"(?P<value>[+-]?[\d.]+)(?:\s?(?P<unit>%|us|ms|s|[KMGT]?[bB]))?\Z", re.ASCII)
_TOTAL = re.compile(r"(?P<name>Self \w+ time total): (?P<cell>\S+)\Z")


def sniff(head: Head) -> bool:
    """Is there a header of operators' own times and calls, under a rule of dashes?"""
    lines = [_COMMENT.sub("", line, count=1) for line in head.lines]
    return any(
        _RULE.match(rule) and "Self CPU %" in header and CALLS in header for rule, header in pairwise(lines)
    )


@dataclass
class _Table:
    """One table as it is read: its columns by their place in a line, and what stands in it."""

    spans: list[tuple[int, int]]
    rules: int = 0
    names: list[str] = field(default_factory=list)
    counters: list[tuple[str, str, float, str | None, int | None]] = field(default_factory=list)

    def cells(self, text: str) -> list[str]:
        """The cells of a line, by the gaps between them; where one is empty, cut where the rule is."""
        cells = _GAP.split(text.strip())
        if len(cells) < len(self.spans):
            return [text[begin:end].strip() for begin, end in self.spans]
        surplus = len(cells) - len(self.spans) + 1
        return ["  ".join(cells[:surplus]), *cells[surplus:]]  # gaps in the operator's own name


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    tables: list[_Table] = []
    for line in out.lines(source, longest=LONGEST_LINE):
        text = _COMMENT.sub("", line.text, count=1).rstrip()
        if not text.strip():
            line.ignore()
        elif _RULE.match(text):
            if not tables or tables[-1].rules == RULES_OF_A_TABLE:
                tables.append(_Table(_spans(text)))
            tables[-1].rules += 1
            line.ignore()
        elif not tables:
            continue
        elif not tables[-1].names:
            _read_header(line, text, tables[-1])
        else:
            _read(line, text, tables[-1])
    for table in tables:
        _emit(table, source, out)


def _spans(rule: str) -> list[tuple[int, int]]:
    """Where the columns stand: from the end of the column before to the end of its dashes."""
    ends = [match.end() for match in re.finditer(r"-+", rule)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _read_header(line: Line, text: str, table: _Table) -> None:
    names = table.cells(text)
    if CALLS not in names or len(set(names)) != len(names):
        line.reject("bad_header", "not the names of the profiler's columns, or not under their dashes")
        return
    table.names = names
    line.ignore()


def _read(line: Line, text: str, table: _Table) -> None:
    if total := _TOTAL.match(text.strip()):
        cell = _CELL.match(total["cell"])
        value = number(cell["value"]) if cell else None
        if value is not None and cell:
            table.counters.append(("run", total["name"], value, cell["unit"], None))
            line.use()
        return
    name, *cells = table.cells(text)
    try:
        found = dict(zip(table.names[1:], cells, strict=True))
        calls = integer(found.pop(CALLS))
        if not name or calls is None:
            raise ValueError("no operator or no calls: cut off, or wrapped")
        counters = []
        for title, cell in found.items():
            match = _CELL.match(cell)
            value = number(match["value"] if match else cell)
            if value is not None:
                unit = match["unit"] if match else None
                counters.append((name, title, value, unit, calls))
    except ValueError as error:
        line.reject("bad_row", str(error))
        return
    table.counters += counters
    line.use()


def _emit(table: _Table, source: Source, out: Records) -> None:
    if not table.counters:
        return
    run_id = out.run(tool="torch_profiler", status="ok", name=source.path.stem, framework="torch")
    for scope, counter, value, unit, calls in table.counters:
        out.add(
            "cleaned_counters",
            run_id=run_id,
            source="torch_profiler",
            scope=scope,
            counter=counter,
            value=value,
            unit=unit,
            invocations=calls,
        )
