"""What holds for every parser of the registry, checked on the shipped examples and on mutations of them.

A new parser is under all of this as soon as it is listed and an example of its format is shipped.
"""

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.source import UnreadableSourceError
from perf_assets_tests.support import EXAMPLES, read, source_of

MUTATED_LOGS = 2400
"""Over all formats together."""


def example_units() -> list[Path]:
    """Files and run directories under the shipped examples."""
    directories = [
        folder
        for folder in EXAMPLES.rglob("*")
        if folder.is_dir()
        and any((folder / key).exists() for _, keys in registry.directory_members().values() for key in keys)
    ]
    files = [
        path
        for path in EXAMPLES.rglob("*")
        if path.is_file() and not any(path.is_relative_to(folder) for folder in directories)
    ]
    return sorted(directories + files)


UNITS = example_units()
FORMAT_OF = {unit: registry.sniff(source_of(unit).head()) for unit in UNITS}


def units_of(format_name: str) -> list[Path]:
    return [unit for unit in UNITS if FORMAT_OF[unit] == format_name]


@pytest.mark.parametrize("format_name", registry.FORMATS)
def test_has_a_shipped_example(format_name):
    assert units_of(format_name)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.relative_to(EXAMPLES)))
def test_at_most_one_parser_claims_it(unit):
    head = source_of(unit).head()
    is_directory = head.members != ("",)
    claiming = [
        name
        for name in registry.FORMATS
        if (name in registry.directory_members()) == is_directory and registry.parser(name).sniff(head)
    ]
    assert len(claiming) <= 1


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.relative_to(EXAMPLES)))
def test_every_line_is_accounted_for(unit):
    assert_conserved(unit, unit.relative_to(EXAMPLES).as_posix())


def test_formats_of_directories_are_known_without_importing_the_others():
    assert set(registry.directory_members()) == {
        name for name in registry.FORMATS if hasattr(registry.parser(name), "MEMBERS")
    }


@pytest.mark.parametrize("format_name", registry.FORMATS)
def test_most_of_an_example_is_used(format_name):
    for unit in units_of(format_name):
        records = read(unit).records
        if records.lines_read:
            assert records.records + records.ignored > 0.8 * records.lines_read


def count_lines(data: bytes) -> int:
    return data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))


def assert_conserved(unit: Path, dropped_as: str) -> None:
    """Sniff and parse; every line must be accounted for, and every row be one that the tables can hold."""
    members = sorted(unit.iterdir()) if unit.is_dir() else [unit]
    try:
        reading = read(unit, dropped_as)
    except UnreadableSourceError as error:
        assert ";" in str(error), "what is wrong, and what helps"  # noqa: PT017 - other errors must come through
        return
    if reading.format is None:
        return
    records = reading.records
    lines = sum(count_lines(member.read_bytes()) for member in members)
    text_lines = lines - sum(m.read_bytes() == b"\xef\xbb\xbf" for m in members)
    if records.lines_read or not records.runs:
        assert records.lines_read == text_lines
    assert records.lines_read == records.records + records.ignored + records.rejected
    assert len(reading.rows("rejected_lines")) >= records.rejected
    run_ids = {row["run_id"] for row in reading.rows("cleaned_runs")}
    assert len(run_ids) == records.runs
    for table, rows in reading.tables.items():
        if table != "cleaned_telemetry" and rows and "run_id" in rows[0]:
            assert {row["run_id"] for row in rows} <= run_ids, table


# Mutations -------------------------------------------------------------------------------------------------


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One random damage of the kinds that real logs show."""
    lines = data.split(b"\n")
    position = rng.randrange(len(lines))
    kind = rng.randrange(13)
    if kind == 0:
        return data[: rng.randrange(len(data) + 1)]
    if kind == 1:  # two writers
        theirs = other.split(b"\n")
        mixed = []
        for pair in zip(lines, theirs, strict=False):
            mixed.extend(pair)
        return b"\n".join(mixed + lines[len(theirs) :] + theirs[len(lines) :])
    if kind == 2:
        return b"\xef\xbb\xbf" + data
    if kind == 3:
        return data.replace(b"\n", b"\r\n")
    if kind == 4:
        cut = rng.randrange(len(data) + 1)
        return data[:cut] + bytes([0] * rng.randrange(1, 9)) + data[cut:]
    if kind == 5:
        cut = rng.randrange(len(data) + 1)
        return data[:cut] + bytes(rng.choices(range(128, 256), k=4)) + data[cut:]
    if kind == 6:  # several runs in one file
        return data + (b"" if data.endswith(b"\n") else b"\n") + data
    if kind == 7:  # a header in the middle
        return b"\n".join([*lines[:position], *lines[: rng.randrange(1, 4)], *lines[position:]])
    if kind == 8:
        return b"\n".join(lines[:position] + lines[position + 1 :])
    if kind == 9:
        rng.shuffle(lines)
        return b"\n".join(lines)
    if kind == 10:  # digits of another kind
        cut = rng.randrange(len(data) + 1)
        return (
            data[:cut] + rng.choice([b"-", b"9" * 40, b"1e999", b"nan", b",", b'"', b"(", b"'"]) + data[cut:]
        )
    if kind == 11:
        return b"\n".join(
            [*lines[:position], rng.choice([b"", b"   ", b"Killed", b"\t,\t,"]), *lines[position:]]
        )
    return b"\n".join(line[: rng.randrange(len(line) + 1)] if rng.random() < 0.1 else line for line in lines)


@pytest.mark.parametrize("format_name", registry.FORMATS)
@settings(
    max_examples=max(20, MUTATED_LOGS // len(registry.FORMATS)),
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32 - 1), damages=st.integers(1, 4))
def test_mutated_logs_are_accounted_for(format_name, tmp_path, seed, damages):
    rng = random.Random(seed)
    unit = rng.choice(units_of(format_name))
    target = tmp_path / unit.name
    if target.is_dir():
        shutil.rmtree(target)
    sources = sorted(unit.iterdir()) if unit.is_dir() else [unit]
    other = rng.choice([path for path in UNITS if path.is_file()]).read_bytes()
    if unit.is_dir():
        target.mkdir()
    for source in sources:
        data = source.read_bytes()
        for _ in range(damages):
            data = mutate(data, other, rng)
        (target / source.name if unit.is_dir() else target).write_bytes(data)
    assert_conserved(target, unit.relative_to(EXAMPLES).as_posix())
