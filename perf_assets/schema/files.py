"""Files found under drops and the lines that were not used. Columns with unit and meaning; no code."""

from perf_assets.schema.columns import FILE_ID, TIME, Column, count, table, text

SOURCE_FILES = table(
    "source_files",
    "A file (or run directory) found under drops, and what became of it.",
    FILE_ID,
    text("path", "where it lies under drops, with / between folders"),
    text("format", "the parser's name, NULL where none recognised it"),
    text("status", "ingested, duplicate, replaced, rejected or unsupported"),
    count("bytes", "size as dropped", "B"),
    count("lines", "lines of text; lines = records + rejected + ignored. NULL where it was not read"),
    count("runs", "runs found in it"),
    count("records", "lines that became rows"),
    count("rejected", "lines that could not be used: see rejected_lines"),
    count("ignored", "headers, blank lines and comments"),
    count("parser_version", "version of the parser that read it"),
    text("error", "why it was not taken in, and the cure"),
    Column("ingested_at", TIME, "UTC", "when it was read"),
    Column("modified_at", TIME, "UTC", "the file's own modification time when it was read"),
    key=("path", "file_id"),
)

REJECTED_LINES = table(
    "rejected_lines",
    "A line that could not or would not be used.",
    FILE_ID,
    text("member", "file inside a run directory, NULL for a plain file"),
    count("line_number", "counted from 1"),
    text("reason", "short code"),
    text("detail", "what was wrong, in words"),
    text("text", "the line, at most 500 characters"),
)
