"""Input JSON in all layouts, checked against metadata, and read back as tensors; Triton repositories copied."""

import json

import numpy as np
import pytest

from perf_assets.measuring.load_tests.input_json import write_events, write_tensors
from perf_assets.measuring.load_tests.requests import LoadError
from perf_assets.measuring.load_tests.tensors import random_entry, read_entries

CELLS = """geometry_id,measurement_id,channel0,channel1,timestamp,value
1152921779484753664,0,12,40,0,0.25
1152921779484753665,1,13,41,0.5,0.75
"""
OTHER = """geometry_id,measurement_id,channel0,channel1,timestamp,value
7,0,1,2,0,1
"""


@pytest.fixture
def events(tmp_path):
    folder = tmp_path / "events"
    folder.mkdir()
    (folder / "event000000002-cells.csv").write_text(OTHER)
    (folder / "event000000001-cells.csv").write_text(CELLS)
    (folder / "event000000001-hits.csv").write_text("not,cells\n1,2\n")
    return folder


@pytest.mark.parametrize(
    ("layout", "first"),
    [
        (
            "features",
            {
                "FEATURES": {
                    "content": [
                        *(1152921779484753664, 0, 12, 40, 0, 0.25),
                        *(1152921779484753665, 1, 13, 41, 0.5, 0.75),
                    ],
                    "shape": [2, 6],
                }
            },
        ),
        (
            "geometry",
            {
                "GEOMETRY_ID": {"content": [1152921779484753664, 1152921779484753665], "shape": [2]},
                "FEATURES": {"content": [0, 12, 40, 0, 0.25, 1, 13, 41, 0.5, 0.75], "shape": [2, 5]},
            },
        ),
        (
            "cells",
            {
                "CELL_POSITIONS": {
                    "content": [1152921779484753664, 0, 12, 40, 1152921779484753665, 1, 13, 41],
                    "shape": [2, 4],
                },
                "CELL_PROPERTIES": {"content": [0, 0.25, 0.5, 0.75], "shape": [2, 2]},
            },
        ),
    ],
)
def test_layouts(events, tmp_path, layout, first):
    target = tmp_path / "input.json"
    assert write_events(events, target, layout) == 2
    data = json.loads(target.read_text())["data"]
    assert data[0] == first
    assert {name: tensor["shape"][0] for name, tensor in data[1].items()} == dict.fromkeys(first, 1)
    assert write_events(events, target, layout, events=1) == 1
    assert len(json.loads(target.read_text())["data"]) == 1


POSITIONS = [
    {"name": "CELL_POSITIONS", "datatype": "INT64", "shape": [-1, 4]},
    {"name": "CELL_PROPERTIES", "datatype": "FP32", "shape": [-1, 2]},
]


def test_checked_against_the_model_and_read_back(events, tmp_path):
    target = tmp_path / "input.json"
    write_events(events, target, "cells", inputs=POSITIONS)
    [first, _] = read_entries(target, POSITIONS)
    assert first[0].values.dtype == np.int64
    assert first[0].values[1].tolist() == [1152921779484753665, 1, 13, 41]
    # The layout of an older model is found out, and nothing is written.
    other = tmp_path / "old.json"
    with pytest.raises(
        LoadError, match=r"old.json: data\[0\] has no tensor for CELL_POSITIONS, CELL_PROPERTIES"
    ):
        write_events(events, other, "geometry", inputs=POSITIONS)
    assert not other.exists()


def test_any_table_and_array(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    (tmp_path / "b.csv").write_text("1,2\n3,4\n")
    write_tensors({"A": tmp_path / "a.npy", "B": tmp_path / "b.csv"}, tmp_path / "input.json")
    [entry] = json.loads((tmp_path / "input.json").read_text())["data"]
    assert entry == {
        "A": {"content": [0, 1, 2, 3, 4, 5], "shape": [2, 3]},
        "B": {"content": [1, 2, 3, 4], "shape": [2, 2]},
    }
    inputs = [{"name": "A", "datatype": "FP32", "shape": [-1, 3]}]
    [[tensor]] = read_entries(tmp_path / "a.npy", inputs)
    assert tensor.values.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("geometry_id,value\n1,x\n", r"cells.csv:2: 'x' is not a number"),
        ("geometry_id,value\n1,2,3\n", r"cells.csv:2: 3 cells, 2 columns"),
        (
            "channel0,value\n1,2\n",
            r"no column 'geometry_id', which the layout cells needs; it has channel0, value",
        ),
        ("geometry_id,value\n1,2\n", r"no column 'timestamp'"),
        ("1,2\n", "no header: its first line must name the columns"),
        ("", "is empty"),
    ],
)
def test_bad_cells_are_named(tmp_path, text, message):
    path = tmp_path / "event1-cells.csv"
    path.write_text(text)
    with pytest.raises(LoadError, match=message):
        write_events(path, tmp_path / "input.json", "cells")


def test_sizes_that_vary_must_be_told():
    inputs = [{"name": "X", "datatype": "FP32", "shape": [-1, -1, 3]}]
    with pytest.raises(LoadError, match=r"write its sizes into the study as \[model.shapes\] X = "):
        random_entry(inputs, 2, {}, is_batched=True)
    [tensor] = random_entry(inputs, 2, {"X": [5, 3]}, is_batched=True)
    assert tensor.values.shape == (2, 5, 3)
    assert tensor.values.dtype == np.float32


CONFIG = """# two groups, as its author wrote them
name: "tracks"
backend: "python"
max_batch_size: 0
instance_group [ { count: 10 kind: KIND_GPU gpus: [ 0 ] } ]
"""


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models" / "tracks"
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "1").mkdir()
    (folder / "1" / "model.py").write_text("# the model\n")
    return folder.parent


def test_a_repository_is_copied_with_other_counts(repository, tmp_path):
    pytest.importorskip("tritonclient.grpc")
    from perf_assets.measuring.load_tests.serving.repository import copied_repository, parse_config

    for count in (3, 4):  # a second copy begins from the original
        copy = copied_repository(repository, tmp_path / "work", "tracks", count, gpus=[0, 1])
        config = parse_config((copy / "tracks" / "config.pbtxt").read_text(), copy)
        [group] = config.instance_group
        assert (group.count, list(group.gpus), config.backend) == (count, [0, 1], "python")
        assert (copy / "tracks" / "config.original").read_text() == CONFIG
        assert (copy / "tracks" / "1" / "model.py").exists()
    assert (repository / "tracks" / "config.pbtxt").read_text() == CONFIG


def test_what_a_copy_would_lose_is_refused(repository, tmp_path):
    pytest.importorskip("tritonclient.grpc")
    from perf_assets.measuring.load_tests.serving.repository import check_effective, copied_repository

    with pytest.raises(LoadError, match=r"no model 'other' with a config\.pbtxt; there are: tracks"):
        copied_repository(repository, tmp_path / "work", "other", 1, None)
    (repository / "tracks" / "config.pbtxt").write_text(CONFIG + "field_of_tomorrow: 1\n")
    with pytest.raises(LoadError, match=r"field_of_tomorrow.*would be lost: upgrade tritonclient, or remove"):
        copied_repository(repository, tmp_path / "work", "tracks", 1, None)
    check_effective({"instance_group": [{"count": 2}]}, "tracks", 2)
    with pytest.raises(LoadError, match="the server has 1 instances where 2 were asked for"):
        check_effective({"instance_group": [{"count": 1}]}, "tracks", 2)
