"""What a parser reads: one dropped file (or run directory), as blocks of whole lines.

Decoding is settled here once for all formats: gzip is inflated within limits, byte order marks are dropped,
UTF-16 (what PowerShell redirection writes) becomes UTF-8, and no line longer than ``MAX_LINE_BYTES`` is held.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

HEAD_BYTES = 64 * 1024
BLOCK_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 128 * 1024
"""The longest line of a log; documents (JSON) have no lines and no such limit."""
MAX_DOCUMENT_BYTES = 512 * 1024 * 1024
MAX_INFLATED_BYTES = 8 * 1024**3
# Poll logs that repeat a header before every row compress up to about 60 times; bombs about 1000.
MAX_INFLATION_RATIO = 200
FREE_INFLATED_BYTES = 16 * 1024 * 1024

OPENING_LINES = 40
"""So many lines of a shell, a banner or a list of devices may stand before a header."""

PLAIN = ""
"""Member name of a file that is not part of a run directory."""


class UnreadableSourceError(Exception):
    """The content as a whole cannot be read: the message says why and what helps."""


@dataclass(frozen=True)
class Block:
    """Whole lines of a file. ``oversize`` marks a single line too long to hold, cut to its beginning."""

    first_line: int
    data: bytes
    oversize: bool = False

    @cached_property
    def line_count(self) -> int:
        """Lines in it; a last line without an end counts."""
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))


@dataclass(frozen=True)
class Head:
    """What sniffing may look at: the first 64 KiB as text, and the names beside it."""

    text: str
    path: PurePosixPath
    members: tuple[str, ...] = ()

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the head, without their ends; the last may be cut."""
        return self.text.splitlines()

    @cached_property
    def opening(self) -> list[str]:
        """The first lines that are not blank, without white space around them: where a header may stand.

        What people drop begins with prompts, banners and lists of devices as often as with the header.
        """
        lines = (line.strip() for line in self.lines)
        return [line for line in lines if line][:OPENING_LINES]

    @cached_property
    def first_line(self) -> str:
        """The first line that is not blank, or an empty text."""
        return next((line.strip() for line in self.lines if line.strip()), "")


@dataclass(frozen=True)
class Source:
    """A drop to parse.

    ``path`` is where it lies under the drops folder: some facts of a run stand only there. ``members`` maps a
    member's name to the immutable copy of its bytes; a plain file has the one member ``PLAIN``. ``timezone``
    is the zone in which local times without a zone were written.
    """

    path: PurePosixPath
    members: Mapping[str, Path] = field(repr=False)
    timezone: str = "UTC"
    _beginnings: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def head(self) -> Head:
        """The beginning of the content, for sniffing. For a directory, of its first member that has any."""
        for member in sorted(self.members):
            text = self.member_head(member)
            if text.strip():
                return Head(text, self.path, tuple(sorted(self.members)))
        return Head("", self.path, tuple(sorted(self.members)))

    def member_head(self, member: str) -> str:
        """The first 64 KiB of one member as text; what cannot be decoded is replaced."""
        return without_terminal_codes(self._beginning(member).decode("utf-8", "replace"))

    def blocks(self, member: str = PLAIN) -> Iterator[Block]:
        """The content as blocks of whole lines, in order; each at most a few MiB."""
        beginning = self._beginning(member)
        if len(beginning) < HEAD_BYTES:  # which is all of it: most drops are small, and opening them costs
            yield from _split_blocks(BytesIO(beginning))
            return
        with open_text_bytes(self.members[member]) as stream:
            yield from _split_blocks(stream)

    def _beginning(self, member: str) -> bytes:
        """The first 64 KiB of one member, read once."""
        if member not in self._beginnings:
            with open_text_bytes(self.members[member]) as stream:
                self._beginnings[member] = stream.read(HEAD_BYTES)
        return self._beginnings[member]

    def document(self, member: str = PLAIN) -> bytes:
        """The whole content, for formats that are one document (JSON)."""
        with open_text_bytes(self.members[member]) as stream:
            data = stream.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise UnreadableSourceError(
                f"a single document of more than {MAX_DOCUMENT_BYTES >> 20} MiB; split it and drop the pieces"
            )
        return data


_TERMINAL_CODES = re.compile(
    r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78cM])|\ufeff",
    re.ASCII,
)


def without_terminal_codes(text: str) -> str:
    """A text without the colours and cursor moves of a terminal, and without byte order marks."""
    return _TERMINAL_CODES.sub("", text) if "\x1b" in text or "\ufeff" in text else text


def open_text_bytes(path: Path) -> Utf8Stream:
    """Open a file as a stream of UTF-8 bytes: inflated, without byte order mark, UTF-16 transcoded."""
    raw = open(path, "rb")  # noqa: SIM115 - the caller closes the stream that wraps it
    start = raw.read(4)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return Utf8Stream(_BoundedGzip(raw, path.stat().st_size))
    return Utf8Stream(raw)


class _BoundedGzip:
    """Inflates a gzip stream and stops with a clear error when it grows beyond reason."""

    def __init__(self, raw: BinaryIO, compressed_bytes: int) -> None:
        self._raw = raw
        self._gzip = gzip.GzipFile(fileobj=raw)
        self._limit = min(
            MAX_INFLATED_BYTES, max(FREE_INFLATED_BYTES, MAX_INFLATION_RATIO * compressed_bytes)
        )
        self._inflated_bytes = 0

    def read(self, size: int) -> bytes:
        try:
            data = self._gzip.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableSourceError(f"damaged gzip ({error}); compress it again and drop it") from error
        self._inflated_bytes += len(data)
        if self._inflated_bytes > self._limit:
            raise UnreadableSourceError(
                f"gzip inflates to more than {self._limit >> 20} MiB, far beyond any log; "
                "drop it uncompressed"
            )
        return data

    def close(self) -> None:
        self._gzip.close()
        self._raw.close()


def _is_ascii_text(data: bytes) -> bool:
    return len(data) == 2 and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in data)


class Utf8Stream:
    """A readable stream of UTF-8 bytes over a raw one in UTF-8 or UTF-16, with a byte order mark or
    without."""

    def __init__(self, raw: BinaryIO | _BoundedGzip) -> None:
        self._raw = raw
        self._decoder: codecs.IncrementalDecoder | None = None
        self._ready = raw.read(4)
        if self._ready.startswith(codecs.BOM_UTF8):
            self._ready = self._ready[3:]
        elif self._ready.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self._decode("utf-16")
        elif _is_ascii_text(self._ready[0::2]) and self._ready[1::2] == b"\0\0":
            self._decode("utf-16-le")
        elif _is_ascii_text(self._ready[1::2]) and self._ready[0::2] == b"\0\0":
            self._decode("utf-16-be")

    def _decode(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._ready = self._decoder.decode(self._ready).encode()

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; fewer only at the end."""
        if not self._ready and self._decoder is None:
            return self._raw.read(size)
        parts, missing = [self._ready[:size]], size - len(self._ready)
        self._ready = self._ready[size:]
        while missing > 0:
            data = self._raw.read(missing)
            if not data:
                break
            if self._decoder is not None:
                data = self._decoder.decode(data).encode()
                self._ready, data = data[missing:], data[:missing]
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()


def _split_blocks(stream: Utf8Stream | BytesIO) -> Iterator[Block]:
    line_number, rest = 1, b""
    while data := stream.read(BLOCK_BYTES):
        data = rest + data
        end = data.rfind(b"\n") + 1
        whole, rest = data[:end], data[end:]
        if whole:
            for block in _without_long_lines(line_number, whole):
                yield block
                line_number = block.first_line + block.line_count
        if len(rest) > MAX_LINE_BYTES:
            beginning, rest = rest[:MAX_LINE_BYTES], _skip_line(stream)
            yield Block(line_number, beginning, oversize=True)
            line_number += 1
    if rest:
        yield Block(line_number, rest)


def _without_long_lines(line_number: int, data: bytes) -> Iterator[Block]:
    """Split off lines over the limit. Nearly always there are none: every half limit of bytes holds a line
    end."""
    half = MAX_LINE_BYTES // 2
    if all(data.find(b"\n", start, start + half) >= 0 for start in range(0, len(data), half)):
        yield Block(line_number, data)
        return
    short: list[bytes] = []
    first = line_number
    for offset, line in enumerate(_lines(data)):
        if len(line) <= MAX_LINE_BYTES:
            short.append(line)
            continue
        if short:
            yield Block(first, b"".join(short))
            short = []
        yield Block(line_number + offset, line[:MAX_LINE_BYTES], oversize=True)
        first = line_number + offset + 1
    if short:
        yield Block(first, b"".join(short))


def _lines(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _skip_line(stream: Utf8Stream | BytesIO) -> bytes:
    """Read to the end of the current line; return what follows it in the last piece read."""
    while data := stream.read(BLOCK_BYTES):
        end = data.find(b"\n")
        if end >= 0:
            return data[end + 1 :]
    return b""
