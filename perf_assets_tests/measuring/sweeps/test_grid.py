"""Sweeps of a tiny network on the processor: order, resumption after a kill, exclusion, gates and budget."""

import datetime
import itertools
import json
import signal
import subprocess
import sys
import time

import pytest

from perf_assets.measuring.recording.log import LogWriter, read_log
from perf_assets.measuring.sweeps import adaptive, grid, runner
from perf_assets.measuring.sweeps.grid import parse_sweep, read_sweep
from perf_assets.measuring.sweeps.runner import run_sweep

FIELDS = {
    "name": "tiny",
    "networks": ["lenet5"],
    "vary": "batch_size",
    "smallest": 1,
    "largest": 3,
    "seed": 4,
    "options": {
        "passes": ["latency"],
        "skip_predicted_oom": False,
        "protocol": {"max_time_s": 0.3, "warmup_max_s": 0.2, "min_time_s": 0.05},
    },
}

SWEEP = """
import json, sys
from perf_assets.measuring.sweeps.grid import parse_sweep
from perf_assets.measuring.sweeps.runner import run_sweep, write_progress
sweep = parse_sweep(json.loads(sys.argv[1]))
run_sweep(sweep, "quick", sys.argv[2], on_progress=write_progress(sys.argv[2] + "/status.json", sweep, "quick"))
"""


def start_sweep(out, fields):
    return subprocess.Popen([sys.executable, "-c", SWEEP, json.dumps(fields), str(out)])


def spans(*folders):
    """Begin and end of every run, from the logs."""
    found = []
    for path in itertools.chain(*(folder.glob("*.jsonl") for folder in folders)):
        log = read_log(path)
        begin = datetime.datetime.fromisoformat(log["header"]["started_at"]).timestamp()
        found.append((begin, begin + max(row["at_s"] for rows in log["lines"].values() for row in rows)))
    return sorted(found)


def test_killed_sweep_loses_one_point_and_finishes_when_started_again(tmp_path):
    out = tmp_path / "out"
    fields = {**FIELDS, "largest": 2}
    process = start_sweep(out, fields)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (
        len(runner.measured(out)) == 2 and "ok" in runner.measured(out).values()
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    status = json.loads((out / "status.json").read_text())
    assert (status["done"], status["total"], status["sweep"]) == (1, 2, "tiny")
    before = runner.measured(out)
    assert sorted(before.values()) == ["incomplete", "ok"]
    report = run_sweep(parse_sweep(fields), "quick", out).points
    assert {name: len(names) for name, names in report.items()} == {"known": 1, "ok": 1}
    assert list(runner.measured(out).values()) == ["ok"] * 2
    assert run_sweep(parse_sweep(fields), "quick", out).points.keys() == {"known"}
    # The killed sweep left no process behind that went on measuring.
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans(out)))


def test_two_sweeps_never_overlap_on_one_device(tmp_path):
    fields = {**FIELDS, "largest": 2}
    processes = [start_sweep(tmp_path / name, fields) for name in ("a", "b")]
    assert [process.wait(180) for process in processes] == [0, 0]
    found = spans(tmp_path / "a", tmp_path / "b")
    assert len(found) == 4
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(found))


def test_sizes_above_one_that_ran_out_of_memory_are_skipped(tmp_path):
    options = {**FIELDS["options"], "memory_limit_mib": 64}
    fields = {**FIELDS, "smallest": 19_998, "largest": 20_002, "options": options, "sizes": {"quick": 3}}
    by_seed = (parse_sweep({**fields, "seed": seed}) for seed in itertools.count())
    sweep = next(s for s in by_seed if [p.batch_size for p in grid.points(s, "quick")][-1] == 20_002)
    known = {spec.key: "ok" for spec in grid.points(sweep, "sanity")}
    report = run_sweep(sweep, "quick", tmp_path, known=known).points
    assert {name: len(names) for name, names in report.items()} == {"known": 1, "oom": 1, "skipped": 1}
    assert run_sweep(sweep, "quick", tmp_path, known=known).points.keys() == {"known", "skipped"}


def test_order_is_random_but_the_same_for_the_same_seed():
    fields = {
        **FIELDS,
        "largest": 500,
        "networks": ["lenet5", "resnet18"],
        "stages": ["inference", "training"],
    }
    sweep = parse_sweep(fields)
    order = [spec.key for spec in grid.points(sweep, "quick")]
    assert len(set(order)) == len(order) == 40
    assert order == [spec.key for spec in grid.points(sweep, "quick")]
    other = [spec.key for spec in grid.points(parse_sweep({**fields, "seed": 5}), "quick")]
    assert sorted(other) == sorted(order)
    assert other != order


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_a_sweep_that_ends_early_has_an_even_picture(share):
    fields = {**FIELDS, "largest": 512, "sizes": {"quick": 16}, "vary": "input_size", "smallest": 32}
    fields |= {"networks": ["lenet5", "resnet18", "alexnet"], "algorithms": ["guess", "gemm"]}
    sweep = parse_sweep(fields)
    sizes = grid.sizes(sweep, "quick")
    found = grid.points(sweep, "quick")
    assert len({spec.key for spec in found}) == len(found) == 3 * 2 * 16
    measured = found[: round(len(found) * share)]
    for combination in itertools.product(fields["networks"], fields["algorithms"]):
        of_it = [spec.input_size for spec in measured if (spec.network, spec.algorithm) == combination]
        assert abs(len(of_it) - share * 16) <= 1
        quarters = [sum(size in sizes[first : first + 4] for size in of_it) for first in (0, 4, 8, 12)]
        assert max(quarters) - min(quarters) <= 1, (combination, quarters)


def test_a_budget_of_hours_is_told_before_and_counts_earlier_runs(tmp_path):
    fields = {**FIELDS, "largest": 64, "sizes": {"quick": 4}, "budget": {"hours": 1e-3}}
    lines = []
    report = run_sweep(parse_sweep(fields), "quick", tmp_path, say=lines.append).points
    assert lines == [
        "budget: 0.001 of 0.001 h are left, for about 0 of 4 points (0%) at 8 s a point (assumed)"
    ]
    assert len(report["ok"]) + len(report["budget"]) == 4
    assert len(report["budget"]) >= 1
    lines.clear()
    # What was measured before has cost more than the budget.
    again = run_sweep(parse_sweep(fields), "quick", tmp_path, say=lines.append).points
    assert again.keys() == {"known", "budget"}
    assert "budget: 0 of 0.001 h are left" in lines[0]
    assert "(measured)" in lines[0]
    enough = run_sweep(parse_sweep({**fields, "budget": {"hours": 9.0}}), "quick", tmp_path, say=lines.append)
    assert sorted(enough.points) == ["known", "ok"]
    assert "(100%)" in lines[1]


def test_sizes_of_the_stages():
    wide = parse_sweep({**FIELDS, "vary": "input_size", "smallest": 224, "largest": 512})
    assert grid.sizes(wide, "sanity") == [224]
    assert grid.sizes(wide, "quick") == [224, 256, 288, 320, 352, 384, 416, 448, 480, 512]
    assert len(grid.sizes(wide, "full")) == 100
    batches = parse_sweep({**FIELDS, "largest": 512})
    assert grid.sizes(batches, "quick") == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert grid.sizes(parse_sweep(FIELDS), "full") == [1, 2, 3]
    assert grid.sizes(parse_sweep({**FIELDS, "largest": 100, "sizes": {"quick": 3}}), "quick") == [1, 10, 100]


@pytest.mark.parametrize("stage", ["quick", "full"])
def test_larger_sizes_wait_for_sanity(tmp_path, stage):
    sweep = parse_sweep({**FIELDS, "algorithms": ["guess", "gemm", "winograd"]})
    everything = {spec.key: "ok" for spec in grid.points(sweep, stage) if spec.algorithm != "winograd"}
    sanity = {spec.algorithm: spec.key for spec in grid.points(sweep, "sanity")}
    everything[sanity["gemm"]] = "unsupported"
    # Nobody knows winograd: its sanity point is measured here, and turns out to be unsupported.
    report = run_sweep(sweep, stage, tmp_path, known=everything)
    found = {name: len(names) for name, names in report.points.items()}
    assert found == {"known": 4, "unsupported": 1, "refused": 4}
    assert {name.split("-")[2]: reason.split()[-1] for name, reason in report.refusals.items()} == {
        "gemm": "unsupported",
        "winograd": "unsupported",
    }
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_methods_and_ratios_as_lists(tmp_path):
    pruning = [{"methods": ["structured_magnitude", "l1_unstructured"], "ratios": [0.25, 0.5]}]
    sweep = parse_sweep({**FIELDS, "pruning": pruning, "unpruned": False, "factors": {"threads": [1, 2]}})
    found = grid.points(sweep, "sanity")
    assert {(spec.pruning_method, spec.pruning_ratio, spec.threads) for spec in found} == set(
        itertools.product(pruning[0]["methods"], pruning[0]["ratios"], (1, 2))
    )
    assert len({spec.key for spec in found}) == 8
    assert {spec.pruned_model for spec in found} >= {"pruned_models/lenet5-l1_unstructured-0.25-seed0"}


def write_log(folder, spec, latency_ms):
    header = {"spec": spec.to_json(), "key": spec.key}
    with LogWriter(folder / f"{spec.key}.jsonl", header) as log:
        log.write("result", status="ok", latency_ms=latency_ms)


def test_budget_stops_when_sizes_are_known_well_enough(tmp_path):
    fields = {**FIELDS, "largest": 512, "budget": {"target": 0.05}}
    sweep = parse_sweep(fields)
    full = grid.points(sweep, "full")
    for spec in sorted(full, key=lambda spec: spec.batch_size)[:: len(full) // 5]:
        write_log(tmp_path, spec, 0.2 + 0.05 * spec.batch_size)
    report = run_sweep(sweep, "full", tmp_path).points
    assert {name: len(names) for name, names in report.items()} == {"known": 6, "budget": len(full) - 6}
    spent = parse_sweep({**fields, "budget": {"points": 6, "target": 0.0}})
    assert run_sweep(spent, "full", tmp_path).points.keys() == {"known", "budget"}


def test_uncertainty_is_largest_far_from_what_was_measured():
    known = [1, 2, 4, 8]
    half_widths = adaptive.half_widths_of_prediction(known, [1.0, 1.7, 3.6, 6.1], [2, 8, 64, 512])
    assert half_widths[0] < half_widths[2] < half_widths[3]
    known += [512]
    closer = adaptive.half_widths_of_prediction(known, [1.0, 1.7, 3.6, 6.1, 400.0], [2, 8, 64, 512])
    assert closer[3] < half_widths[3]


def test_declarations_are_checked_before_anything_runs(tmp_path):
    for change, cure in (
        ({"vary": "depth"}, "key 'vary': input should be 'batch_size' or 'input_size'"),
        ({"smallest": 9}, "smallest 9 is above largest 3"),
        ({"stages": ["test"]}, "use one of inference, training"),
        ({"options": {"pases": []}}, "did you mean 'passes'"),
        ({"gpus": 2}, "unknown key 'gpus'"),
        ({"budget": {"runs": 1}}, "use one of hours, points, target"),
    ):
        with pytest.raises(ValueError, match=cure):
            parse_sweep({**FIELDS, **change})
    (tmp_path / "s.toml").write_text("name = ")
    with pytest.raises(ValueError, match="not TOML"):
        read_sweep(tmp_path / "s.toml")


def written(file, text):
    file.write_text(text)
    return file


def test_the_documented_examples_are_sweeps(tmp_path):
    examples = [
        text.split("\n\nor a list")[0].split("\n\nThe stages")[0] for text in grid.__doc__.split("::\n\n")[1:]
    ]
    sweep, listed = (
        read_sweep(written(tmp_path / f"{i}.toml", "\n".join(line[4:] for line in text.splitlines())))
        for i, text in enumerate(examples)
    )
    assert [(spec.network, spec.batch_size) for spec in grid.points(listed, "quick")] == [("vgg16", 24)]
    found = grid.points(sweep, "quick")
    assert len(found) == 2 * 2 * 2 * 2 * 2 * len(grid.sizes(sweep, "quick"))
    pruned = next(spec for spec in found if spec.pruning_method)
    assert pruned.pruned_model == f"pruned_models/{pruned.network}-structured_magnitude-0.50-seed0"


POINTS = {
    "name": "listed",
    "points": [
        {"network": "lenet5", "batch_size": 3},
        {"network": "lenet5", "batch_size": 1, "pruning_method": "structured_random", "pruning_ratio": 0.5},
    ],
    "options": FIELDS["options"],
}


def test_a_list_of_points_is_measured_whole_in_every_stage(tmp_path):
    sweep = parse_sweep(POINTS)
    for stage in grid.SWEEP_STAGES:
        asked = grid.points(sweep, stage)
        assert [(spec.batch_size, spec.pruning_ratio) for spec in asked] == [(3, None), (1, 0.5)]
        assert "structured_random-0.50" in asked[1].pruned_model
    alone = parse_sweep({**POINTS, "points": POINTS["points"][:1]})
    report = run_sweep(alone, "sanity", tmp_path / "out")
    assert report.points.keys() == {"ok"}
    assert run_sweep(alone, "quick", tmp_path / "out").points.keys() == {"known"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stages": ["training"]}, "stages beside a list of points"),
        ({"points": [{"network": "lenet5", "batch_sizes": 3}]}, "batch_sizes"),
        ({"points": [{"batch_size": 3}]}, "network"),
    ],
)
def test_a_list_of_points_that_cannot_be_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        parse_sweep({**POINTS, **change})
