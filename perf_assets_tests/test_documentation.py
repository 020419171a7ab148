"""What the documents say is so: their commands and SQL run on the shipped drops, printed tables are the
schema's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perf_assets.intake.parsing.registry import FORMATS
from perf_assets.schema.markdown import tables_markdown
from perf_assets_tests.support import EXAMPLES, ROOT, sql

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STATEMENTS = [
    pytest.param(page, statement.strip().rstrip(";"), id=f"{page.stem}-{number}")
    for page in PAGES
    for number, statement in enumerate(
        statement
        for block in re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
        for statement in block.split(";\n")
        if statement.strip()
    )
]
SHELL = {page.name: re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL) for page in PAGES}


@pytest.mark.parametrize(("page", "statement"), STATEMENTS)
def test_sql_of_the_documents_runs_on_the_shipped_drops(examples, page, statement):
    assert sql(examples, statement)


@pytest.mark.parametrize(
    ("page", "statement"),
    [
        param
        for param in STATEMENTS
        if param.values[0].name == "README.md" or "busy_card" in str(param.values[1])
    ],
)
def test_results_in_the_documents_are_what_comes_out(examples, page, statement):
    for row in sql(examples, statement):
        shown = "| " + " | ".join("" if value is None else str(value) for value in row) + " |"
        assert shown in page.read_text()


@pytest.mark.parametrize("page", [name for name, blocks in SHELL.items() if blocks])
def test_commands_of_the_documents_run(page, tmp_path):
    """On a fresh copy of the project's top level; 'make' is left to CI, which runs what it makes."""
    for name in ("dagster.yaml", "workspace.yaml", "sweeps", "studies", "docs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    shutil.copytree(EXAMPLES, tmp_path / "data" / "drops" / "examples")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PERF_ASSETS_LOCKS": str(tmp_path / "locks"),
        "DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME": "perf_assets.definitions",
    }
    if page != "README.md":  # the pages come after the README's own commands
        subprocess.run(
            ["perf-assets", "ingest"], cwd=tmp_path, env=environment, check=False, capture_output=True
        )
    for block in SHELL[page]:
        for line in block.splitlines():
            if line.startswith(("make ", "source ", "pip ")) or not line.strip():
                continue
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            # 3 says of a figure that it has no rows; 1 and 2 of a comparison that something is worse, or that it
            # cannot be told.
            allowed = (
                (0, 1, 2) if line.startswith(("perf-assets compare", "perf-assets regressions")) else (0, 3)
            )
            assert done.returncode in allowed, f"{line}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr


def test_python_of_the_documents_runs(examples, tmp_path, monkeypatch):
    """The blocks of docs/python.md in order, as in a notebook."""
    (tmp_path / "data").symlink_to(examples.root)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL):
        exec(block, names)
    assert len(names["best"]) == 5
    assert names["watts"].num_rows > 100
    assert names["answer"].metrics
    assert (tmp_path / "telemetry.png").stat().st_size > 10_000


def test_links_of_the_documents_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_every_format_is_listed():
    page = (ROOT / "docs" / "formats.md").read_text()
    for name in FORMATS:
        assert f"`{name}`" in page, name


def test_tables_are_documented_as_declared():
    assert (ROOT / "docs" / "tables.md").read_text() == tables_markdown(), "run 'make docs'"
