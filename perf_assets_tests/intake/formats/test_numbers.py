"""No number is published that does not stand in its file, or follows from one by a rule that its format
names."""

import math
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from perf_assets.intake.parsing import registry
from perf_assets_tests.intake.formats.test_every_format import FORMAT_OF
from perf_assets_tests.support import EXAMPLES, read

# Formats of words only: they publish no number.
WORDS_ONLY = {"run_annotations"}
PLAIN = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
POSITIONS = {"line_number", "run_index", "layer_index", "session"}


def rounded(value: float) -> float:
    """As many digits as survive a multiplication."""
    return float(f"{abs(value):.12g}")


def numbers_of(unit: Path) -> set[float]:
    """Every number in the text of a drop, and in its path."""
    members = sorted(unit.iterdir()) if unit.is_dir() else [unit]
    text = " ".join(member.read_text("utf-8", "replace") for member in members)
    text += f" {unit.relative_to(EXAMPLES)}"
    plain = {rounded(float(match[0])) for match in PLAIN.finditer(text)}
    return plain | {rounded(float(match[0].replace(",", ""))) for match in GROUPED.finditer(text)}


def published(unit: Path) -> list[tuple[str, float]]:
    """Every number of the parsed tables with its column; those of maps under the map's column."""
    found = []
    for table, rows in read(unit, unit.relative_to(EXAMPLES).as_posix()).tables.items():
        for row in rows if table != "rejected_lines" else ():
            for column, value in row.items():
                values = (
                    [pair[1] for pair in value if isinstance(pair, tuple)]
                    if isinstance(value, list)
                    else [value]
                )
                found += [
                    (column, each)
                    for each in values
                    if isinstance(each, (int, float))
                    and not isinstance(each, bool)
                    and column not in POSITIONS
                ]
    return found


def follows(column: str, value: float, known: set[float], rules: dict[str, float | str]) -> bool:
    """Does a rule of the format give this number?"""
    for pattern, rule in rules.items():
        if fnmatchcase(column, pattern) and (isinstance(rule, str) or rounded(value / rule) in known):
            return True
    return False


@pytest.mark.parametrize(
    "unit",
    [unit for unit, name in FORMAT_OF.items() if name and name not in WORDS_ONLY],
    ids=lambda unit: str(unit.relative_to(EXAMPLES)),
)
def test_every_number_stands_in_the_file_or_follows_by_a_rule(unit):
    known, rules = numbers_of(unit), registry.rules(FORMAT_OF[unit])
    numbers = published(unit)
    assert numbers
    assert all(math.isfinite(value) for _, value in numbers)
    assert [
        (column, value)
        for column, value in numbers
        if rounded(value) not in known and not follows(column, value, known, rules)
    ] == []


@pytest.mark.parametrize("name", registry.FORMATS)
def test_rules_are_factors_or_words(name):
    for column, rule in registry.rules(name).items():
        assert column
        assert (isinstance(rule, float) and rule > 0) or len(str(rule)) > 5
