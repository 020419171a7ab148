"""What the documents say is so: the README's SQL runs on the shipped drops, and the printed tables are the
schema's."""

import re
import shutil

import pytest

from perf_assets.intake.parsing.registry import FORMATS
from perf_assets.intake.pipeline import ingest
from perf_assets.schema.markdown import tables_markdown
from perf_assets.workspace.paths import DataPaths
from perf_assets_tests.support import EXAMPLES, ROOT, sql

README = (ROOT / "README.md").read_text()
STATEMENTS = [
    statement.strip()
    for block in re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    for statement in block.split(";\n")
    if statement.strip()
]


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> DataPaths:
    data = DataPaths(tmp_path_factory.mktemp("documented"))
    shutil.copytree(EXAMPLES, data.drops)
    ingest(data)
    return data


@pytest.mark.parametrize("statement", STATEMENTS, ids=range(len(STATEMENTS)))
def test_sql_of_the_readme_runs_on_the_shipped_drops(examples, statement):
    assert sql(examples, statement.rstrip(";"))


def test_result_in_the_readme_is_what_comes_out(examples):
    (query,) = (statement for statement in STATEMENTS if "busy_card" in statement)
    rows = sql(examples, query.rstrip(";"))
    for row in rows:
        shown = "| " + " | ".join("" if value is None else str(value) for value in row) + " |"
        assert shown in README
    assert {row[0] for row in rows} == {"perf_analyzer", "ai3", "unet"}


def test_readme_lists_every_format():
    for name in FORMATS:
        assert f"`{name}`" in README, name


def test_tables_are_documented_as_declared():
    assert (ROOT / "docs" / "tables.md").read_text() == tables_markdown(), "run 'make docs'"
