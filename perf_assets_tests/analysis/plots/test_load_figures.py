"""Figures of load tests, on small frames whose truth is plain."""

import pandas as pd
import pytest

from perf_assets.analysis.plots import latency_components, load_curve, load_scaling


def closed_loop(instances: int, gpus: int = 1, **facts) -> pd.DataFrame:
    """An ideal server: 10 ms a request, each instance takes one at a time, the others queue."""
    rows = []
    for level in range(1, 9):
        throughput = 100.0 * min(level, instances)
        latency = 1000 * level / throughput
        rows.append(
            {
                "study": "s",
                "name": "toy",
                "run_id": f"run-{instances}-{gpus}",
                "run_name": "toy",
                "device": None,
                "mode": "concurrency",
                "level": float(level),
                "batch_size": 1,
                "gpu_count": gpus,
                "model_instances": instances,
                "throughput_per_s": throughput,
                "middle_ms": latency,
                "middle": "p50",
                "high_ms": latency * 1.2,
                "high": "p99",
                "latency_ms": latency,
                "queue_share": (latency - 10) / latency,
                "utilization_pct": 100.0 * min(level, instances) / instances,
                **facts,
            }
        )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("instances", [1, 2, 4])
def test_a_server_is_full_when_every_instance_has_a_request(instances):
    run = closed_loop(instances)
    assert load_scaling.saturation(run) == instances
    assert load_scaling.saturation(run.assign(queue_share=float("nan"))) == instances
    assert load_curve.knee(run["throughput_per_s"], run["middle_ms"]) == instances - 1


def test_a_server_that_never_queues_is_not_called_full():
    assert load_scaling.saturation(closed_loop(8)) is None
    assert load_scaling.saturation(closed_loop(8).assign(queue_share=float("nan"))) is None


def test_scaling_shows_the_ratio_to_the_smallest_server_and_utilization_per_gpu():
    fig = load_scaling.draw(pd.concat([closed_loop(1), closed_loop(4)]))
    throughput, latency, ratio, utilization = fig.axes
    assert [text.get_text() for text in throughput.get_legend().get_texts()] == [
        "1 instance, 1 GPU",
        "4 instances, 1 GPU",
    ]
    assert ratio.lines[1].get_ydata().tolist() == [1, 2, 3, 4, 4, 4, 4, 4]
    assert utilization.get_ylim() == (0, 105)
    assert max(max(line.get_ydata()) for line in utilization.lines) <= 100
    assert {text.get_text() for text in throughput.texts} == {"full at 1", "full at 4"}
    assert "(1/s)" in throughput.get_ylabel()
    assert "(ms)" in latency.get_ylabel()


def test_four_gpus_busy_by_half_are_half_busy_and_not_twice(data):
    import duckdb

    from perf_assets.analysis.plots.catalog import PLOTS
    from perf_assets.store.database import create_tables

    with duckdb.connect() as connection:
        create_tables(connection)
        connection.execute(
            "INSERT INTO source_files (file_id, path, status) VALUES ('f', 'a/b.csv', 'ingested')"
        )
        connection.execute("INSERT INTO cleaned_runs (run_id, file_id, name) VALUES ('r', 'f', 'b')")
        for level in (1, 2, 3):
            connection.execute(
                """INSERT INTO cleaned_load_levels (run_id, mode, level, throughput_per_s, avg_us, gpu_count)
                VALUES ('r', 'concurrency', ?, 10, 1000, 4)""",
                [level],
            )
            # a fifth GPU of the machine idles
            for gpu in range(5):
                connection.execute(
                    "INSERT INTO cleaned_load_gpus (run_id, level, gpu_uuid, utilization) VALUES ('r', ?, ?, ?)",
                    [level, f"gpu-{gpu}", 0.5 if gpu < 4 else 0.0],
                )
        frame = PLOTS["load_scaling"].frame(connection)
    assert frame["utilization_pct"].tolist() == [50, 50, 50]


def test_curves_begin_at_zero_and_other_batches_are_another_panel():
    other = closed_loop(2).assign(batch_size=8, run_id="other")
    fig = load_curve.draw(pd.concat([closed_loop(1), other]))
    assert len(fig.axes) == 2
    for ax, batch in zip(fig.axes, (1, 8), strict=True):
        assert f"batch {batch}" in ax.get_title(loc="left")
        assert ax.get_ylim()[0] == 0
        assert ax.get_xlim()[0] == 0
        assert len(ax.lines) == 2  # the run and its knee


def stacked(**facts) -> pd.DataFrame:
    parts = dict.fromkeys(latency_components.COMPONENTS, 0.0) | {"queue_ms": 3.0, "compute_infer_ms": 7.0}
    rows = [{"run_id": "r", "level": float(level), "batch_size": 1, **parts} for level in (1, 2)]
    shared = {
        "name": "toy",
        "study": "s",
        "device": None,
        "mode": "concurrency",
        "gpu_count": float("nan"),
        "model_instances": 1,
        "avg_ms": 11.0,
    }
    return pd.DataFrame(rows).assign(**shared).assign(**facts)


def test_components_are_stacked_to_their_sum():
    (ax,) = latency_components.draw(stacked()).axes
    assert [bar.get_height() for bar in ax.containers[0]] == [3, 3]
    assert [bar.get_y() for bar in ax.containers[1]] == [3, 3]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "server: queueing",
        "server: computing",
    ]
    assert ax.get_ylim()[0] == 0


def test_batch_sizes_in_files_of_their_own_are_one_panel():
    frame = stacked(run_id=["a", "b"], batch_size=[1, 16], level=4.0)
    (ax,) = latency_components.draw(frame).axes
    assert ax.get_xlabel() == "batch size"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "16"]
