import json

import pytest

from perf_assets_tests.support import read_text


def test_both_generations(tmp_path):
    text = '"/data/odd/mu200/",8,10,10,200,20000000,4000000000\n"/data/odd/mu200/",4,10,10,100,1024,30000000,5000000000\n'
    reading = read_text(tmp_path, text)
    new, old = reading.rows("cleaned_runs")
    assert (new["throughput_per_s"], new["latency_ms"], new["num_workers"]) == (50, 20, 8)
    assert json.loads(old["config"])["target_cells_per_partition"] == 1024
    warm_up = reading.rows("cleaned_stages")[0]
    assert (warm_up["stage"], warm_up["total_ms"], warm_up["per_event_ms"]) == ("Warm-up processing", 20, 2)


@pytest.mark.parametrize(
    "row", ['"/data/",8,10,10,0,1,400000', '"/data/",8,ten,10,200,1,400000', '"/data/",8', "8,10,10,200,1,2"]
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, f'"/data/odd/",8,10,10,200,1,4000000\n{row}\n')
    assert (reading.records.records, reading.records.rejected) == (1, 1)


def test_other_tables_are_left_alone(tmp_path):
    for text in ('"a",1,2,3,4,5,6\n', '"a/b",1,2,3\n', "a/b,1,2,3,4,5,600000\n"):
        assert read_text(tmp_path, text).format is None
