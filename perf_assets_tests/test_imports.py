"""Who may import whom: the arrows of the design, read from the source of every module."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from perf_assets_tests.support import ROOT

PACKAGE = ROOT / "perf_assets"
WINGS = ("workspace", "schema", "store", "intake", "measuring", "analysis", "defs", "cli")
"""A wing imports those before it in this list, and itself."""

AT_THE_TOP = {
    "__init__": ("api.py",),
    "definitions": ("defs",),
    "api": ("workspace", "schema", "store", "analysis"),
}
"""Modules beside the wings, and the wings that each may import."""

FETCHING = ("measuring/sweeps/campaign.py", "measuring/load_tests/campaign.py")
"""The modules of ``measuring`` that run beside the store; all others run on a node that has none."""

OUTSIDE = {
    "dagster": ("defs/", "cli/operating.py"),
    "duckdb": ("store/", "cli/query.py"),
    "matplotlib": ("analysis/plots/", "analysis/reports/", "defs/metadata.py"),
}
"""Packages of others, and the only places that may import them."""

MAX_LINES = 400
MAX_MODULES = 20


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Full names of what a module imports; imports for type checkers alone (``if TYPE_CHECKING:``) do not
    count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def ours(path: Path) -> set[Path]:
    """The modules of the package that a module imports."""
    found = set()
    for name in imports_of(path):
        if name == "perf_assets" or not name.startswith("perf_assets."):
            continue
        place = PACKAGE.joinpath(*name.split(".")[1:])
        found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()}
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))
each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def test_every_folder_is_a_wing():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(WINGS)
    assert {path.stem for path in PACKAGE.glob("*.py")} <= set(AT_THE_TOP)


@each_module
def test_arrows_point_one_way(path):
    wing = path.relative_to(PACKAGE).parts[0]
    allowed = WINGS[: WINGS.index(wing) + 1] if wing in WINGS else AT_THE_TOP[path.stem]
    used = {file.relative_to(PACKAGE).parts[0] for file in ours(path)}
    assert used <= set(allowed), f"{name_of(path)} may import {', '.join(allowed)}"


@each_module
def test_what_runs_on_a_node_needs_no_store(path):
    if name_of(path).startswith("measuring/") and name_of(path) not in FETCHING:
        used = {file.relative_to(PACKAGE).parts[0] for file in ours(path)}
        assert not used & {"store", "intake"}
        assert not {name_of(file) for file in ours(path)} & set(FETCHING)


def test_no_circle():
    """Imports within functions count as well."""
    graph = {path: {file for file in ours(path) if file.name != "__init__.py"} - {path} for path in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(name_of(path) for path in error.args[1]))


@each_module
def test_formats_import_neither_each_other_nor_figures_each_other(path):
    parts = path.relative_to(PACKAGE).parts
    for room, shared in (("formats", ()), ("plots", ("style.py",))):
        # what gathers and saves figures is no figure
        gathers = {"__init__.py", "catalog.py", "rendering.py", *shared}
        if room in parts and path.name not in gathers:
            siblings = {file.name for file in ours(path) if room in file.relative_to(PACKAGE).parts}
            assert siblings <= {"__init__.py", *shared}


@each_module
def test_outside_packages_stay_in_their_places(path):
    roots = {name.split(".")[0] for name in imports_of(path)}
    for package, places in OUTSIDE.items():
        assert package not in roots or name_of(path).startswith(places), f"{package} is for {places}"


@each_module
def test_every_module_says_what_belongs_in_it(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_rooms_are_small():
    long = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    assert {name_of(f): n for f in folders if (n := len(list(f.glob("*.py")))) > MAX_MODULES + 1} == {}
