"""Linking as a whole: the order of arrival changes nothing, each link says why, and the checks hold."""

import random
import shutil

import pytest

from perf_assets.intake import pipeline
from perf_assets_tests.linking import CHECKS, DROPS, LINK_CHECKS, drops_of, dump, linked, rows
from perf_assets_tests.support import EXAMPLES, table_contents

EXAMPLE_DROPS = drops_of(DROPS, "examples/load_tests", "examples/profiles", "examples/telemetry")


def test_order_of_arrival_changes_nothing():
    expected = dump(linked(EXAMPLE_DROPS))
    for seed in range(3):
        shuffled = random.Random(seed).sample(EXAMPLE_DROPS, len(EXAMPLE_DROPS))
        assert dump(linked(shuffled)) == expected


def test_linking_what_comes_and_goes_gives_what_linking_all_of_it_gives(data):
    folders = [
        EXAMPLES / name
        for name in (
            "load_tests/ensemble",
            "load_tests/streaming",
            "load_tests/model_analyzer",
            "load_tests/genai_perf",
            "profiles/perf4sight",
            "profiles/ai3",
        )
    ]
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
    random.Random(4).shuffle(files)
    for start in range(0, len(files), 4):
        for file in files[start : start + 4]:
            target = data.drops / file.relative_to(EXAMPLES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        pipeline.ingest(data)
    # A member of each pair gives way to something else, so that what it was joined to is alone again.
    for name in ("load_tests/ensemble/chain.csv", "load_tests/streaming/stream_export.json"):
        (data.drops / name).write_text("nothing that anyone knows\n")
        pipeline.ingest(data)
    step_by_step = table_contents(data)
    pipeline.rebuild(data)
    assert table_contents(data) == step_by_step


def test_every_link_of_the_examples_says_why():
    connection = linked(EXAMPLE_DROPS)
    assert rows(connection, "SELECT * FROM run_sources WHERE why IS NULL OR length(why) < 10") == []
    parts = rows(
        connection,
        "SELECT * FROM cleaned_runs WHERE parent_run_id IS NOT NULL AND parent_run_id NOT IN "
        "(SELECT run_id FROM run_sources) AND run_id NOT IN (SELECT run_id FROM run_sources) AND tool = "
        "'ai3'",
    )
    assert parts == []


@pytest.mark.parametrize("name", LINK_CHECKS)
def test_checks_pass_on_the_examples(name):
    assert rows(linked(EXAMPLE_DROPS), CHECKS[name].sql) == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("littles_law", "UPDATE cleaned_load_levels SET avg_us = 3 * avg_us WHERE avg_us IS NOT NULL"),
        (
            "sources_agree",
            "UPDATE load_level_sources SET p99_us = p99_us + 5 WHERE format = 'perf_analyzer_export'",
        ),
        ("percentiles_in_order", "UPDATE cleaned_load_levels SET p90_us = 0"),
        (
            "composing_queue_fits",
            "UPDATE cleaned_load_levels SET composing_queue_us = 10 * avg_us WHERE composing_queue_us > 0",
        ),
        ("layers_fit_into_run", "UPDATE cleaned_layers SET mean_ms = 10 * mean_ms"),
    ],
)
def test_checks_find_what_is_wrong(name, damage):
    connection = linked(EXAMPLE_DROPS)
    connection.execute(damage)
    assert rows(connection, CHECKS[name].sql)


def test_the_twin_check_sees_unlinked_files():
    assert rows(linked(EXAMPLE_DROPS, link=False), CHECKS["twins_count_once"].sql)
