"""Cases made from public files: the queries beside them give their rows. The inputs are no part of the
project."""

import json
import math
import shutil

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets_tests.support import SAMPLES, needs_samples, sql

CASES = sorted(path.parent for path in (SAMPLES / "wild").glob("*/*/expected.json"))


def same(got, want) -> bool:
    if isinstance(want, float) and isinstance(got, (int, float)) and not isinstance(got, bool):
        return math.isclose(got, want, rel_tol=1e-6, abs_tol=1e-12)
    if isinstance(want, list) and isinstance(got, (list, tuple)):
        return len(got) == len(want) and all(map(same, got, want))
    return got == want or (want is not None and got is not None and str(got) == str(want))


@needs_samples("wild")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_a_case_is_right(data, case):
    for item in case.iterdir():
        if item.name not in ("expected.json", "why.txt"):
            target = data.drops / item.name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if item.is_dir() else shutil.copy)(item, target)
    ingest(data)
    for query in json.loads((case / "expected.json").read_text("utf-8"))["sql"]:
        got = [list(row) for row in sql(data, query["query"])]
        assert same(got, query["rows"]), (query["query"], got)
