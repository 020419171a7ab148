"""Why a file is read as it is, or by nobody: which formats looked at it, what each missed, and what would
help.

Reads one file and changes nothing. Taking files in is the pipeline's business.
"""

from __future__ import annotations

import inspect
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import PLAIN, Head, Source, UnreadableSourceError

NEAREST = 3
"""So many formats that nearly fit are looked at closely."""

FILE_ID = "0" * 64


@dataclass
class Rejection:
    """A line that a parser would not use."""

    line: int
    reason: str
    detail: str
    text: str


@dataclass
class Finding:
    """What one format made of the file.

    ``found`` are signs of the format with the first line they stand on, ``missing`` are those of which the
    file has none (of each group one would do). ``used`` and ``rejected`` count lines, where the parser was
    tried.
    """

    format: str
    wants: str
    claims: bool
    found: list[tuple[str, int]] = field(default_factory=list)
    missing: list[tuple[str, ...]] = field(default_factory=list)
    used: int | None = None
    rejected: int | None = None
    first_rejection: Rejection | None = None
    failure: str | None = None

    @property
    def nearness(self) -> tuple[float, int, int]:
        """The more of its signs the file has, and the more specific they are, the nearer is the format."""
        groups = len(self.found) + len(self.missing)
        share = len(self.found) / groups if groups else 0.0
        return share, sum(len(sign) for sign, _ in self.found), self.used or 0

    @property
    def missed(self) -> str:
        """What the format missed, in words, with lines."""
        if self.claims:
            return ""
        if self.missing:
            lacks = "; ".join(_one_of(group) for group in self.missing)
            has = ", ".join(f"{sign!r} (line {line})" for sign, line in self.found)
            return f"lacks {lacks}" + (f"; it has {has}" if has else "")
        where = ", ".join(f"{sign!r} in line {line}" for sign, line in self.found)
        return f"its signs are there ({where}), but not as the tool writes them"


@dataclass
class Explanation:
    """What became of a file, why, and what would make it readable."""

    path: Path
    format: str | None
    verdict: str
    cure: str
    findings: list[Finding]
    """All formats that looked at it, the nearest first."""


def explain(path: Path, timezone: str = "UTC") -> Explanation:
    """Say which format reads a file, or why none does.

    ``path`` is a file, or a run directory as a whole.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: a folder that is no run directory of any format.
    """
    source = _source(path, timezone)
    try:
        head = source.head()
    except UnreadableSourceError as error:
        return Explanation(path, None, str(error).split(";")[0], str(error).partition("; ")[2], [])
    if not head.text.strip():
        return Explanation(path, None, "an empty file", "let the tool write something, and drop it then", [])
    if "\0" in head.text:
        return Explanation(path, None, "a binary file, not a log", "drop the log that was made of it", [])
    findings = sorted(_look(head), key=lambda each: (each.claims, each.nearness), reverse=True)
    claimants = [each for each in findings if each.claims]
    for each in claimants or [each for each in findings if each.found][:NEAREST]:
        _try(each, source, head, whole=len(claimants) == 1)
    format_name = claimants[0].format if len(claimants) == 1 else None
    return Explanation(path, format_name, _verdict(claimants), _cure(findings, claimants), findings)


def _source(path: Path, timezone: str) -> Source:
    if path.is_dir():
        for members, keys in registry.directory_members().values():
            if any((path / key).is_file() for key in keys):
                found = {name: path / name for name in sorted(members) if (path / name).is_file()}
                return Source(PurePosixPath(path.as_posix()), found, timezone)
        raise IsADirectoryError(f"{path} is a folder; name one of the files in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return Source(PurePosixPath(path.as_posix()), {PLAIN: path}, timezone)


def _look(head: Head) -> list[Finding]:
    """What every format that may look at it says; directory formats see directories only, and the reverse."""
    claimants = set(registry.claimants(head))
    is_directory = head.members != (PLAIN,)
    findings = []
    for name in registry.FORMATS:
        if (name in registry.directory_members()) != is_directory:
            continue
        parser = registry.parser(name)
        finding = Finding(name, (inspect.getdoc(parser.sniff) or "").partition("\n")[0], name in claimants)
        for group in parser.SIGNS:
            places = [(head.text.find(sign), sign) for sign in group]
            present = [(place, sign) for place, sign in places if place >= 0]
            if present:
                place, sign = min(present)
                finding.found.append((sign, head.text.count("\n", 0, place) + 1))
            else:
                finding.missing.append(group)
        findings.append(finding)
    return findings


class _NoRows:
    """A sink that keeps rejected lines only."""

    def __init__(self) -> None:
        self.rejected: list[dict[str, Any]] = []

    def add_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Take rows."""
        if table == "rejected_lines":
            self.rejected += rows

    def add_table(self, table: str, rows: Any) -> None:
        """Take rows as an Arrow table; they are counted by line elsewhere."""


def _try(finding: Finding, source: Source, head: Head, *, whole: bool) -> None:
    """Parse the file (its beginning, where it is not this format's alone) and note what could not be used."""
    sink = _NoRows()
    records = Records(FILE_ID, sink)
    try:
        with tempfile.TemporaryDirectory(prefix="perf_assets_explain_") as folder:
            if not whole and PLAIN in source.members:
                beginning = Path(folder) / "beginning"
                beginning.write_text(head.text, "utf-8")
                source = Source(source.path, {PLAIN: beginning}, source.timezone)
            registry.parser(finding.format).parse(source, records)
    except UnreadableSourceError as error:
        finding.failure = str(error)
    except Exception as error:  # noqa: BLE001 - a parser that meets a foreign file may fail in any way
        finding.failure = f"fails with {type(error).__name__} near line {records.current_line}"
    records.close()
    finding.used, finding.rejected = records.records, records.rejected
    if sink.rejected:
        row = sink.rejected[0]
        finding.first_rejection = Rejection(
            row["line_number"], row["reason"], row["detail"], str(row["text"])[:120]
        )


def _verdict(claimants: list[Finding]) -> str:
    if not claimants:
        return "no format recognises its content"
    if len(claimants) > 1:
        return f"{' and '.join(each.format for each in claimants)} both claim it, so neither reads it"
    (claimant,) = claimants
    if claimant.failure:
        return f"{claimant.format} claims it and cannot read it: {claimant.failure}"
    return f"{claimant.format} reads it: {claimant.used} lines used, {claimant.rejected} rejected"


def _cure(findings: list[Finding], claimants: list[Finding]) -> str:
    """What would make it readable."""
    if len(claimants) > 1:
        return "split it into one file a tool"
    if claimants:
        rejection = claimants[0].first_rejection
        return f"look at line {rejection.line}: {rejection.detail}" if rejection else ""
    nearest = next((each for each in findings if each.found), None)
    if nearest is None or nearest.nearness[0] < 0.5:
        return "docs/adding-a-format.md says how to add a format"
    if nearest.missing:
        lacks = " and ".join(_one_of(group) for group in nearest.missing)
        return (
            f"{nearest.format} is nearest; it would need {lacks}: let the tool write it as it does by itself,"
            " header and all"
        )
    return (
        f"{nearest.format} is nearest and wants: {nearest.wants} Drop what the tool wrote as it is, with its"
        " header within the first 40 lines"
    )


def _one_of(group: tuple[str, ...]) -> str:
    return " or ".join(repr(sign) for sign in group)
