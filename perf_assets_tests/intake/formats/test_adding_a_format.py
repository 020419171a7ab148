"""The example of how to add a format works as it stands there."""

import re
import types

from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import PLAIN, Source
from perf_assets_tests.support import ROOT


class Rows:
    def __init__(self):
        self.rows = []

    def add_rows(self, table, rows):
        self.rows += [(table, row) for row in rows]

    def add_table(self, table, rows):
        raise AssertionError("the example adds no Arrow table")


def test_the_example_reads_its_own_log(tmp_path):
    page = (ROOT / "docs" / "adding-a-format.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    module = types.ModuleType("my_tool")
    exec(compile(code, "adding-a-format.md", "exec"), module.__dict__)
    log = tmp_path / "my.log"
    log.write_text("$ run\nmy_tool a=3.5\nnonsense\n")
    source = Source(log.relative_to(tmp_path), {PLAIN: log})
    assert module.sniff(source.head())
    assert any(sign in source.head().text for group in module.SIGNS for sign in group)
    sink = Rows()
    records = Records("0" * 64, sink)
    module.parse(source, records)
    records.close()
    ((_, run),) = [row for row in sink.rows if row[0] == "cleaned_runs"]
    assert (run["name"], run["latency_ms"]) == ("my_tool a", 3.5)
    assert (records.records, records.rejected) == (1, 2)
