"""A file within a drop that another format wrote: read as if it had been dropped alone, into the same records."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import PLAIN, Head, Source, UnreadableSourceError

_UTC = "UTC"


class _Part(Records):
    """Records of a part: rows go into the whole, its runs say in which run they were recorded, polls belong to
    that."""

    def __init__(self, whole: Records, member: str, recorded_in: str | None) -> None:
        super().__init__(whole.file_id, whole._sink)
        self.runs = whole.runs
        self._member = member
        self._recorded_in = recorded_in

    def run(self, **values: Any) -> str:
        """Add a run that stands for itself; ``recorded_in`` of its config names the recording."""
        config = {**values.pop("config", {}), "recorded_in": self._recorded_in}
        return super().run(**values, config=config)

    def add(self, table: str, **values: Any) -> None:
        """Add one row; rejected lines say in which member they stand."""
        if table == "rejected_lines" and values.get("member") is None:
            values["member"] = self._member
        if table == "cleaned_telemetry":
            values = {"run_id": self._recorded_in} | values
        super().add(table, **values)

    def add_columns(self, table: str, columns: dict[str, Any]) -> None:
        """Add many rows at once."""
        if table == "cleaned_telemetry":
            columns = {"run_id": self._recorded_in} | columns
        super().add_columns(table, columns)


def read_nested(
    source: Source, member: str, path: PurePosixPath, out: Records, recorded_in: str | None
) -> str | None:
    """Read one member of a drop with the format that claims it.

    Args:
        source: the drop.
        member: the file in it.
        path: what the format is told of where the file lies.
        out: where its rows go; every line of it is counted there.
        recorded_in: the run that it was recorded in.

    Returns:
        The format's name; None where none claims it, or several do: its lines are ignored then.
    """
    lines = sum(block.line_count for block in source.blocks(member))
    name = registry.sniff(Head(source.member_head(member), path, (PLAIN,)))
    if name is None or name in registry.directory_members():
        out.count_block(records=0, ignored=lines)
        return None
    part = _Part(out, member, recorded_in)
    try:
        # What was recorded told its times in UTC, whatever zone people's logs are in.
        registry.parser(name).parse(Source(path, {PLAIN: source.members[member]}, _UTC), part)
    except UnreadableSourceError as error:
        part.reject_line(1, "", "unreadable", str(error))
    part.close()
    out.runs = part.runs
    # A document (JSON) has no lines of its own: all of them are the record.
    whole = max(0, lines - part.lines_read)
    out.lines_read += part.lines_read + whole
    out.records += part.records + whole
    out.ignored += part.ignored
    out.rejected += part.rejected
    return name
