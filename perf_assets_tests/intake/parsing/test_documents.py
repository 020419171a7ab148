import pytest

from perf_assets.intake.parsing.documents import read_objects
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import UnreadableSourceError


class Nothing:
    def add_rows(self, table, rows):
        pass

    def add_table(self, table, rows):
        pass


def objects(text: str) -> tuple[list, tuple[int, int, int]]:
    records = Records("0" * 64, Nothing())
    found = read_objects(text.encode(), records, "write it again")
    assert records.lines_read == text.count("\n") + (not text.endswith("\n"))
    return found, (records.records, records.ignored, records.rejected)


@pytest.mark.parametrize(
    ("text", "found", "counts"),
    [
        ('{"a":1}', [{"a": 1}], (1, 0, 0)),
        ('{"a":1}\n{"b":2}\n', [{"a": 1}, {"b": 2}], (2, 0, 0)),
        ('{\n "a": {\n  "c":1\n }\n}\n', [{"a": {"c": 1}}], (5, 0, 0)),
        ('{"a":1}{"b":2}', [{"a": 1}, {"b": 2}], (1, 0, 0)),
        ('[\n  {"a":1},\n  {"b":2}\n]\n', [{"a": 1}, {"b": 2}], (2, 2, 0)),
        ('noise\n{"a":1}\n\n{"b":', [{"a": 1}], (1, 1, 2)),
    ],
)
def test_objects_and_lines(text, found, counts):
    assert objects(text) == (found, counts)


@pytest.mark.parametrize("text", ["", "no", "[1, 2]", '{"a": [', "{" * 100_000, '{"a":\n' * 5000])
def test_without_an_object(text):
    with pytest.raises(UnreadableSourceError, match="; write it again"):
        objects(text)
