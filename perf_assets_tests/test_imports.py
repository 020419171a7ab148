"""Who may import whom: the arrows of the design, read from the source."""

import ast
from pathlib import Path

import pytest

from perf_assets_tests.support import ROOT

PACKAGE = ROOT / "perf_assets"

# Folder -> what of perf_assets it may import (its own folder is always allowed).
ALLOWED = {
    "schema.py": set(),
    "paths.py": set(),
    "settings.py": set(),
    "docs.py": {"schema"},
    "checks.py": {"schema"},
    "parsers": {"schema"},
    "drops": {"parsers", "schema", "paths"},
    "storage": {"parsers", "drops", "schema", "paths"},
    "ingest.py": {"parsers", "drops", "storage", "schema", "paths", "settings"},
    "prediction.py": {"ingest", "paths", "storage", "predictors"},
    "predictors": {"models", "schema"},
    "engines": set(),
    "plots": set(),
}
DAGSTER_FOLDER = "defs"
OUTSIDE_ALLOWED_EVERYWHERE_BUT = {
    "dagster": {"defs", "cli.py"},
    "duckdb": {"storage", "cli.py"},
    "matplotlib": {"plots"},
}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def top_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_data(path):
    top = top_of(path)
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("perf_assets.")}
    own = top.removesuffix(".py")
    if top in ALLOWED:
        assert ours <= ALLOWED[top] | {own}
    if top != DAGSTER_FOLDER and path.name not in ("definitions.py", "cli.py"):
        assert DAGSTER_FOLDER not in ours


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_outside_packages_stay_in_their_folder(path):
    type_checking_only = "if TYPE_CHECKING:" in path.read_text()
    roots = {name.split(".")[0] for name in imports_of(path)}
    for package, folders in OUTSIDE_ALLOWED_EVERYWHERE_BUT.items():
        if package in roots and top_of(path) not in folders:
            assert type_checking_only, f"{package} is for {folders} alone"


def test_parsers_do_not_import_each_other():
    from perf_assets.intake.parsing.registry import FORMATS

    for name in FORMATS:
        for other in imports_of(PACKAGE / "parsers" / f"{name}.py"):
            assert other.removeprefix("perf_assets.parsers.") not in FORMATS
