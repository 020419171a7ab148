"""Memory dumps of the Habana runtime, ``habana_log.livealloc.log_<card>``: ``Key:  value (human)`` lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (
    ("MaxInUse:",),
    ("NumAllocs:",),
)
RULES = {"memory_used_mib": 2**-20}

_PAIR = re.compile(r"([A-Z][A-Za-z]*(?: ID)?):\s*(\S+)?(?:\s+\([^()]*\))?\s*\Z")
_TITLE = re.compile(r"Stats .*\.\Z")
_CARD = re.compile(r"log_(\d+)(?:\.|\Z)")
_BYTES = frozenset({"Limit", "InUse", "MaxInUse", "ScratchMem", "MaxAllocSize"})
_TELLING = ("MaxInUse:", "NumAllocs:")


def sniff(head: Head) -> bool:
    """The two keys that every dump has."""
    starts = {line.split(" ", 1)[0] for line in head.lines}
    return all(key in starts for key in _TELLING)


@dataclass
class _Dump:
    title: str | None = None
    values: dict[str, float | None] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def parse(source: Source, out: Records) -> None:
    """One run a dump (a file may hold several), each key a counter; sizes are bytes."""
    dumps: list[_Dump] = []
    for line in out.lines(source):
        text = line.text.strip()
        if not text:
            line.ignore()
        elif _TITLE.match(text):
            dumps.append(_Dump(text))
            line.use()
        elif match := _PAIR.match(text):
            _read_pair(line, match.group(1), match.group(2) or "", dumps)
    card = _CARD.search(source.path.name)
    for dump in dumps:
        if dump.values:
            _write(dump, card.group(1) if card else None, out)


def _read_pair(line: Line, key: str, cell: str, dumps: list[_Dump]) -> None:
    if not dumps or key in dumps[-1].values:
        dumps.append(_Dump())
    dump = dumps[-1]
    if key == "FragmentationMask":
        dump.values[key] = None
        dump.texts[key] = cell
    else:
        try:
            dump.values[key] = number(cell)
        except ValueError as error:
            line.reject("bad_cell", f"{key}: {error}")
            return
    line.use()


def _write(dump: _Dump, card: str | None, out: Records) -> None:
    peak_bytes = dump.values.get("MaxInUse")
    run_id = out.run(
        tool="habana_runtime",
        status="unknown",
        device_raw="hpu",
        memory_used_mib=None if peak_bytes is None else peak_bytes / 2**20,
        config={
            "title": dump.title,
            "card": card,
            "from_path": ["card"] if card else None,
            **{key: text for key, text in dump.texts.items() if text},
        },
    )
    for key, value in dump.values.items():
        out.add(
            "cleaned_counters",
            run_id=run_id,
            source="livealloc",
            scope=f"card {card}" if card else "device",
            counter=key,
            value=value,
            unit="B" if key in _BYTES else None,
        )
